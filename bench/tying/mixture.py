"""Make plans for mixtures of experts: one bank of experts for several layers, each with a router of its own."""

from torch import nn

from bench.tying.methods import block_wise
from bench.tying.plan import NotApplicable, TyingPlan

NAME = "experts"
"""What networks call the module that holds a layer's experts, as those of `transformers` do."""


def experts(model: nn.Module, *, repeats: int, stack: str | tuple[str, ...] | None = None) -> TyingPlan:
    """Share the experts of each `repeats` layers in a row; each layer keeps its router and its attention.

    One repeat ties nothing. A tensor of g uses receives g gradients summed: `optimizer.shared_lr=sqrt` divides its
    learning rate by the root of g, as is reported to be needed.

    Raises:
        BadInput: `repeats` is no number of blocks.
        NotApplicable: The network has no experts, or layers in a row have none of one shape.

    Source: arXiv 2606.16825 (tied experts).
    """
    try:
        plan = block_wise(model, repeats=repeats, scope="feed_forward", stack=stack)
    except NotApplicable as reason:
        raise NotApplicable(f"no experts in this network that layers could share: {reason}") from reason
    shared = tuple(tie for tie in plan.ties if all(NAME in name.split(".") for name in tie.names))
    if repeats > 1 and not shared:
        raise NotApplicable("no experts in this network that layers could share")
    return TyingPlan(shared)
