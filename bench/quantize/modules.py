"""Which modules hold weights to quantise, where their output channels lie, and what such a module becomes."""

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bench.tying.recurrent import ReadAnew, forget

INT8, SCALE = "_int8", "_scale"
"""What a weight's name gets: `weight` becomes the frozen parameters `weight_int8` and `weight_scale`."""

_FIRST = (nn.Linear, nn.Embedding, nn.RNNBase, nn.RNNCellBase, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SECOND = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

KINDS = "Linear, Embedding, convolutions, GRU, LSTM or transformers' Conv1D"


def channel_axis(module: nn.Module) -> int | None:
    """The axis of a weight's output channels; of an embedding that of its rows. None for a kind that is left alone."""
    if isinstance(module, _FIRST):
        return 0
    # GPT-2's Conv1D multiplies from the left. Told by its name: to import transformers takes seconds.
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(module).__mro__}
    return 1 if isinstance(module, _SECOND) or "transformers.pytorch_utils.Conv1D" in names else None


class Quantised(nn.Module):
    """What a module with int8 weights is an instance of, besides the class that it was of."""


def install(module: nn.Module, weights: Mapping[str, tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Replace the parameters of these names by (int8, scale), in place: `module.weight` is then made of them.

    Parameters and not buffers: `.to(device)` keeps a shared parameter one, of a shared buffer it makes one per use.
    """
    recurrent = isinstance(module, nn.RNNBase)
    for name, (values, scale) in weights.items():
        delattr(module, name)
        module.register_parameter(name + INT8, values)
        module.register_parameter(name + SCALE, scale)
    if recurrent:
        forget(module)
        for bias in module.parameters(recurse=False):
            if bias.untyped_storage().nbytes() > bias.nbytes:
                bias.data = bias.data.clone()  # cuDNN's is a view into all weights of the layer
    module.__class__ = _derived(type(module), tuple(weights), recurrent)


@functools.cache
def _derived(kind: type[nn.Module], names: tuple[str, ...], recurrent: bool) -> type[nn.Module]:
    bases = (Quantised, ReadAnew, kind) if recurrent else (Quantised, kind)
    made: dict[str, Any] = {name: property(functools.partial(_made, name)) for name in names}
    return type(f"Int8{kind.__name__}", bases, made)


def _made(name: str, module: nn.Module) -> Tensor:
    scale = getattr(module, name + SCALE)
    return getattr(module, name + INT8).to(scale.dtype) * scale
