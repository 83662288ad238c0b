"""What a handful of seeds can say: intervals, tests, aggregates and verdicts. Numbers in, numbers out."""
