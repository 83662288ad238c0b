"""What a model takes on disk."""

import io

import torch
from torch import nn


def checkpoint_bytes(model: nn.Module) -> int:
    """Bytes of the file that `torch.save` makes of the state dict; a shared tensor is in it once."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()
