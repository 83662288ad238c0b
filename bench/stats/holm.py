"""Holm's correction of p-values for how many were looked at."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: those below a level are shown at that level by the whole family.

    Holds under any dependence between the tests (Holm 1979, A simple sequentially rejective multiple test
    procedure). Raises ValueError for a p that is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values {list(p_values)}: give numbers between 0 and 1")
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[at]))
        adjusted[at] = least
    return adjusted
