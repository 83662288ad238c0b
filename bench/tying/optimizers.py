"""Whether an optimizer was made before the tie: it would go on updating a tensor that the model no longer reads."""

import gc
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.errors import BadInput
from bench.tying.sharing import members
from bench.tying.tie import Tie


def check_none(ties: Iterable[Tie], model: nn.Module, parameters: Mapping[str, Parameter]) -> None:
    """BadInput where an optimizer holds a parameter that sharing these hard ties would take out of the model.

    Nobody keeps a list of optimizers, but Python's collector of garbage knows them all. That takes a tenth of a second,
    so it is asked only where more holds such a parameter than the model; optimizers that are garbage themselves are
    collected before one is blamed.
    """
    replaced = {
        id(member): name
        for tie in ties
        for member in members(tie, parameters)[1:]
        for name in tie.names
        if parameters[name] is member
    }
    if replaced and _others_hold(replaced, model, parameters) and _held(replaced):
        gc.collect()
        if held := _held(replaced):
            raise BadInput(
                f"the plan ties {held}, which an optimizer holds already; apply the plan, then make the optimizer"
            )


def _others_hold(replaced: Mapping[int, str], model: nn.Module, parameters: Mapping[str, Parameter]) -> bool:
    """Whether there are references to one of them besides those of the model and of `parameters`."""
    known = Counter(id(parameter) for parameter in parameters.values())
    for module in model.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        known.update(id(parameter) for _, parameter in own)
        lists = (value for value in vars(module).values() if isinstance(value, list))  # nn.GRU's second list
        known.update(id(item) for items in lists for item in items)
    alone = object()
    mine = sys.getrefcount(alone)  # of a variable and of the call, which are counted below too
    for name in replaced.values():
        parameter = parameters[name]
        if sys.getrefcount(parameter) - mine > known[id(parameter)]:
            return True
    return False


def _held(replaced: Mapping[int, str]) -> str | None:
    """One of these parameters that a living optimizer has in its groups."""
    for thing in gc.get_objects():
        if issubclass(type(thing), Optimizer):  # not isinstance: that asks lazy modules for their class
            for group in getattr(thing, "param_groups", ()):
                for parameter in group["params"]:
                    if id(parameter) in replaced:
                        return replaced[id(parameter)]
    return None
