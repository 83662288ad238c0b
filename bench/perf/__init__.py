"""How fast is training here, against its floor and against what one would use instead? `make perf`."""
