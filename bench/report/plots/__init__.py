"""Which pictures does a sweep have? One module draws one picture."""
