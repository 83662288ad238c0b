"""Which weights of a model share one tensor, and how strongly: ties, plans and named ways to make a plan."""

from bench.tying.plan import HARD, BoundPlan, NotApplicable, Tie, TyingPlan

__all__ = ["HARD", "BoundPlan", "NotApplicable", "Tie", "TyingPlan"]
