"""Recurrent modules whose weights are made at each use."""

from torch import Tensor, nn


class ReadAnew:
    """What such a module derives from, before its own class: it looks its weights up whenever it is called.

    nn.RNNBase keeps a second list of them, which would hold what was made at an earlier step, with the graph that made
    it, and could not be copied. There is no copy for cuDNN either.
    """

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Tensor]) -> None:
        """nn.RNNBase sets it whenever the module is moved or copied: there is nothing to keep."""

    def _init_flat_weights(self) -> None: ...

    def _update_flat_weights(self) -> None: ...

    def flatten_parameters(self) -> None: ...


def forget(module: nn.RNNBase) -> None:
    """Drop the module's own list, before it becomes a ReadAnew."""
    del module.__dict__["_flat_weights"]
