"""The ledger of claims: what is said of weight tying, what was measured here, a verdict by its own rule."""
