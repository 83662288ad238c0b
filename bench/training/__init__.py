"""What happens inside a run: build, tie, train, evaluate, measure its cost. Only the worker imports this."""
