"""Which weights of a model share one tensor, and how strongly: ties, plans and named ways to make a plan."""

from bench.tying.patterns import block_wise, bottom_k, cycle, cycle_rev, grouped, relaxed, sandwich, sequence
from bench.tying.plan import HARD, BoundPlan, NotApplicable, Tie, TyingPlan
from bench.tying.strategies import compose, cross_layer, embedding, none, soft, soft_embedding, top_k

__all__ = ["HARD", "BoundPlan", "NotApplicable", "Tie", "TyingPlan"]
__all__ += ["compose", "cross_layer", "embedding", "none", "soft", "soft_embedding", "top_k"]
__all__ += ["block_wise", "bottom_k", "cycle", "cycle_rev", "grouped", "relaxed", "sandwich", "sequence"]
