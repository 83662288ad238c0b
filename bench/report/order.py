"""In which order tyings stand in every table and plot, and what family a label belongs to."""

import re

NUMBER = r"\d+(?:\.\d+)?(?:e[+-]\d+)?"
FAMILIES = (
    "none",
    "embedding",
    "cross_layer",
    "top_k",
    "bottom_k",
    "sandwich",
    "sequence",
    "cycle",
    "cycle_rev",
)
FAMILIES += ("block_wise", "grouped", "relaxed", "learned", "soft", "soft_decoupled")


def parts(tying: str) -> list[str]:
    """The strategies that a label composes: `embedding+top_k(k=2)` gives two, a `+` in brackets is no cut."""
    return [part.strip() for part in re.split(r"\+(?![^(]*\))", tying)]


def family(tying: str) -> str:
    """`top_k` for `top_k(fraction=0.5)` and its controls; `composition` for more than one; the bare name if unknown."""
    composed = parts(uncontrolled(started(tying)[0]))
    if len(composed) > 1:
        return "composition"
    name = re.split(r"[(\s]", composed[0])[0]
    if name.startswith("soft") and "decoupled" in composed[0] or name == "decoupled":
        return "soft_decoupled"
    return name


def uncontrolled(tying: str) -> str:
    """`cross_layer` for `cross_layer, control=params`: the tying that a row is a control of, or its own."""
    return re.sub(r", control=\w+", "", tying)


def started(tying: str) -> tuple[str, str]:
    """A run's label, cut in two: `cross_layer` and `start=untied`, the latter empty where it began from its seed."""
    plain, _, start = tying.partition(", start=")
    return plain, f"start={start}" if start else ""


def tying_key(tying: str) -> tuple:
    """Sort key: the untied network, then one strategy after the other, other names, compositions last.

    The controls of a tying come right after it.
    """
    ranks = {name: rank for rank, name in enumerate(FAMILIES)} | {"composition": len(FAMILIES) + 1}
    return ranks.get(family(tying), len(FAMILIES)), natural(uncontrolled(tying)), tying


def natural(text: str) -> tuple:
    """Sort key in which k=2 comes before k=10 and strength=1e-05 before strength=0.001."""
    return tuple(
        (1, float(piece), "") if re.fullmatch(NUMBER, piece) else (0, 0.0, piece)
        for piece in re.split(f"({NUMBER})", text)
        if piece
    )
