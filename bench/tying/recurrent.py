"""Take the layers of torch's recurrent modules apart, so that they can share weights.

`nn.LSTM(num_layers=3)` holds three layers in one module, and a stack of blocks is made of modules.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bench.tying.structure import modules_by_name

State = Tensor | tuple[Tensor, Tensor]
KINDS = (nn.RNN, nn.GRU, nn.LSTM)
KEPT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


class RecurrentLayers(nn.Module):
    """The layers of an nn.RNN, nn.GRU or nn.LSTM, each a module of its own with the same parameters.

    It is called as the one module was, and answers the same. Dropout between the layers draws from another place of
    the random stream.
    """

    def __init__(self, fused: nn.RNNBase) -> None:
        super().__init__()
        for name in KEPT:
            setattr(self, name, getattr(fused, name))
        self.layers = nn.ModuleList(_layer(fused, index) for index in range(fused.num_layers))
        self.train(fused.training)
        self.flatten_parameters()

    def forward(self, inputs: Tensor | PackedSequence, state: State | None = None) -> tuple[Any, State]:
        ends = []
        for index, layer in enumerate(self.layers):
            if index:
                inputs = self._dropped(inputs)
            inputs, end = layer(inputs, None if state is None else self._of_layer(state, index))
            ends.append(end)
        if isinstance(ends[0], tuple):
            return inputs, tuple(map(torch.cat, zip(*ends, strict=True)))
        return inputs, torch.cat(ends)

    def flatten_parameters(self) -> None:
        """Put the weights of each layer side by side in the memory of a GPU."""
        for layer in self.layers:
            layer.flatten_parameters()

    def _dropped(self, inputs: Tensor | PackedSequence) -> Tensor | PackedSequence:
        if isinstance(inputs, PackedSequence):
            return inputs._replace(data=self._dropped(inputs.data))
        return nn.functional.dropout(inputs, self.dropout, self.training)

    def _of_layer(self, state: State, index: int) -> State:
        if isinstance(state, tuple):
            return tuple(self._of_layer(part, index) for part in state)
        directions = 2 if self.bidirectional else 1
        return state[index * directions : (index + 1) * directions]


def layers_apart(model: nn.Module) -> nn.Module:
    """Replace each nn.RNN, nn.GRU and nn.LSTM of several layers, in place, by a stack of as many modules.

    Parameters stay the same tensors, under other names: `rnn.weight_hh_l1` becomes `rnn.layers.1.weight_hh_l0`. Call it
    before plans are made and files of tied weights are loaded. Left as they are: subclasses, and modules whose weights
    are made of others, as under weight_norm.

    Returns:
        The model; where it is such a module itself, what takes its place.
    """
    apart = {
        module: RecurrentLayers(module)
        for module in modules_by_name(model).values()
        if type(module) in KINDS and module.num_layers > 1 and _has_plain_weights(module)
    }
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in apart:
                parent._modules[name] = apart[child]
    return apart.get(model, model)


def _has_plain_weights(module: nn.RNNBase) -> bool:
    return all(isinstance(weight, nn.Parameter) for layer in module.all_weights for weight in layer)


def _layer(fused: nn.RNNBase, index: int) -> nn.RNNBase:
    """Return a module of one layer that holds the parameters of this layer."""
    directions = ("", "_reverse") if fused.bidirectional else ("",)
    options: dict[str, Any] = {"bias": fused.bias, "bidirectional": fused.bidirectional}
    if isinstance(fused, nn.LSTM):
        options["proj_size"] = fused.proj_size
    if isinstance(fused, nn.RNN):
        options["nonlinearity"] = fused.nonlinearity
    reads = len(directions) * (fused.proj_size or fused.hidden_size) if index else fused.input_size
    layer = type(fused)(reads, fused.hidden_size, batch_first=fused.batch_first, device="meta", **options)
    for name in [name for name, _ in layer.named_parameters()]:
        setattr(layer, name, getattr(fused, name.replace("_l0", f"_l{index}")))
    return layer
