"""How much memory, time and arithmetic does a call take? Nothing here knows of runs."""
