"""The tying bench: which weights should share one tensor, how strongly, and what does it buy."""
