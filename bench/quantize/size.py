"""What the tensors of a model take."""

from torch import nn


def num_bytes(model: nn.Module) -> int:
    """Bytes of the distinct storages of its parameters and buffers: a shared tensor counts once."""
    storages = (tensor.untyped_storage() for tensor in [*model.parameters(), *model.buffers()])
    return sum({(str(s.device), s.data_ptr()): s.nbytes() for s in storages}.values())
