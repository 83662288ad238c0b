"""A sweep that is killed, broken and starved, against the same sweep left alone: `make chaos`. Linux alone."""
