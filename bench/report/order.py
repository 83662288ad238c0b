"""In which order tyings stand in every table and plot."""

import re

from bench.tying_spec import TyingSpec

NUMBER = r"\d+(?:\.\d+)?(?:e[+-]\d+)?"


def place(spec: TyingSpec, more: str = "") -> tuple:
    """Sort key: the untied network, then one method after the other, other names, compositions last.

    The controls of a tying come right after it. more: what a row says after the label of the spec.
    """
    return spec.rank, natural(spec.without_control.label + more), spec.label + more


def natural(text: str) -> tuple:
    """Sort key in which k=2 comes before k=10 and strength=1e-05 before strength=0.001."""
    return tuple(
        (1, float(piece), "") if re.fullmatch(NUMBER, piece) else (0, 0.0, piece)
        for piece in re.split(f"({NUMBER})", text)
        if piece
    )
