"""Which weights of a model share one tensor, and how strongly: ties, plans and named ways to make a plan.

Importing the package loads nothing. A name is loaded when it is first asked for, so that a program that needs no
torch can read `bench.tying.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.tying.attention import gqa, k_equals_v, kv_across_layers, mqa
    from bench.tying.embeddings import joint_embedding
    from bench.tying.gradients import untied
    from bench.tying.methods import (
        block_wise,
        bottom_k,
        compose,
        cross_layer,
        cycle,
        cycle_rev,
        embedding,
        gates,
        grouped,
        hashed,
        none,
        relaxed,
        sandwich,
        sequence,
        soft,
        soft_embedding,
        top_k,
    )
    from bench.tying.mixture import experts
    from bench.tying.plan import HARD, BoundPlan, NotApplicable, Tie, TyingPlan
    from bench.tying.symmetry import over_positions, rotations, transpose
    from bench.tying.view import View

PLACES = {
    "attention": ("gqa", "k_equals_v", "kv_across_layers", "mqa"),
    "embeddings": ("joint_embedding",),
    "gradients": ("untied",),
    "mixture": ("experts",),
    "plan": ("HARD", "BoundPlan", "NotApplicable", "Tie", "TyingPlan"),
    "symmetry": ("over_positions", "rotations", "transpose"),
    "view": ("View",),
    "methods": (
        "block_wise",
        "bottom_k",
        "compose",
        "cross_layer",
        "cycle",
        "cycle_rev",
        "embedding",
        "gates",
        "grouped",
        "hashed",
    )
    + ("none", "relaxed", "sandwich", "sequence", "soft", "soft_embedding", "top_k"),
}
"""Module -> the public names that it defines."""
_MODULE_OF = {name: module for module, names in PLACES.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Load the module that defines `name`. AttributeError where none does."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "PLACES"]
