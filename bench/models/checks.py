"""Find where a network drops out, and check that its sizes are in range."""

from collections.abc import Sequence

from torch import Tensor, nn

from bench.tying.errors import BadInput

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def dropout_sites(model: nn.Module) -> dict[str, float]:
    """Return the module name (or module.attribute, where a network calls F.dropout itself) -> probability above 0."""
    sites: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, _DROPOUTS):
            sites[name] = module.p
            continue
        for attribute, value in vars(module).items():
            if "dropout" in attribute and isinstance(value, float):
                sites[f"{name}.{attribute}"] = value
    return {name: probability for name, probability in sites.items() if probability > 0}


def check_positive(**sizes: int) -> None:
    """Raise BadInput unless every size is a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadInput(f"{name} is {size!r}; allowed are whole numbers from 1: set {name} to one of them")


def check_dropout(dropout: float) -> None:
    """Raise BadInput unless 0 <= dropout < 1."""
    if not 0 <= dropout < 1:
        raise BadInput(f"dropout is {dropout}; allowed is 0 <= dropout < 1: set dropout=0.2, or 0 for none")


def check_injection(injection: str) -> None:
    """Raise BadInput unless it is none or add."""
    if injection not in ("none", "add"):
        raise BadInput(f"model.injection={injection} is not allowed: it must be none or add")


def check_sides(**sides: Sequence[int]) -> None:
    """Raise BadInput unless each is a height and a width, whole numbers of at least 1."""
    for name, pair in sides.items():
        whole = all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in pair)
        if len(pair) != 2 or not whole:
            raise BadInput(
                f"model.{name} is {list(pair)}; allowed is a height and a width, whole numbers from 1: set "
                f"model.{name}=[8,8]"
            )


def check_picture(pictures: Tensor, sides: Sequence[int]) -> None:
    """Raise BadInput unless the pictures, [B, C, H, W], have the height and width that a network was built for."""
    if tuple(pictures.shape[2:]) != tuple(sides):
        height, width = pictures.shape[2:]
        raise BadInput(
            f"the pictures are {height} x {width}, and the network is for {sides[0]} x {sides[1]}: set "
            f"model.picture=[{height},{width}]"
        )
