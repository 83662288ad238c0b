"""How is a claim tested? One module for each kind of test."""
