"""What do people read? Tables, notes, pages and pictures made from the numbers. No torch."""
