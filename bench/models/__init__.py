"""Which networks are trained? CNN, GRU and transformer, each plain: they know nothing of tying."""
