"""What do the records say, as numbers? No text, no torch."""
