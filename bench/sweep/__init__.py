"""Which runs does a sweep consist of, which are recorded, and who runs the rest? Imports no torch."""
