"""What changed between two sets of results: `python -m bench.compare A B`."""
