"""What a user could give as package.module:function."""

from types import SimpleNamespace

import torch
from torch import nn


def alike() -> nn.Module:
    """Four blocks of 4 x 4: the first two nearly equal, the others their own."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    with torch.no_grad():
        model[1].weight.copy_(model[0].weight + 0.001)
        model[2].weight.copy_(torch.eye(4))
        model[3].weight.copy_(torch.eye(4).flip(0))
    return model


def one_block() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4))


def of_null_layers() -> nn.Module:
    return with_config(num_hidden_layers=None)


def of_worded_layers() -> nn.Module:
    return with_config(num_hidden_layers="12")


def with_config(**config: object) -> nn.Module:
    """One block, and a config of its own making."""
    model = one_block()
    model.config = SimpleNamespace(**config)
    return model


class Own(nn.Module):
    """Its parameter is initialised by nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


def unresettable() -> nn.Module:
    return nn.Sequential(Own(), Own())


def number() -> int:
    return 3


def breaks() -> nn.Module:
    raise RuntimeError("no\nweights")


def llama() -> nn.Module:
    """Reads tokens below 50."""
    from pretrained import made

    return made("llama")


def tokens() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(50, (4, 16), generator=generator)} for _ in range(2)]


def positional() -> list[tuple[torch.Tensor, ...]]:
    """The same, as positional arguments."""
    return [(batch["input_ids"],) for batch in tokens()]


def unread() -> list[dict[str, torch.Tensor]]:
    return [{"pixels": torch.ones(2, 2)}]
