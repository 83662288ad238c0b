"""What a meter should have said, and what it said."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One figure of a meter. It is right from `low` to `high`; `known` and `tolerance` say the same in words."""

    meter: str
    what: str
    unit: str
    known: str
    tolerance: str
    measured: float
    low: float
    high: float

    @property
    def is_right(self) -> bool:
        return self.low <= self.measured <= self.high  # false for what is no number

    def row(self) -> list[str]:
        """Cells of the table: meter, what, known, measured, tolerance, right."""
        measured = f"{self.measured:,.6g}" if abs(self.measured) < 1e6 else f"{self.measured:,.0f}"
        right = "yes" if self.is_right else "NO"
        return [
            self.meter,
            self.what,
            f"{self.known} {self.unit}".rstrip(),
            measured,
            self.tolerance,
            right,
        ]


def exactly(meter: str, what: str, unit: str, known: int, measured: float) -> Check:
    return Check(meter, what, unit, f"{known:,}", "none", measured, known, known)


def about(meter: str, what: str, unit: str, known: float, measured: float, tolerance: float) -> Check:
    """Within a share `tolerance` of `known`, which is not 0, on either side."""
    away = abs(known) * tolerance
    return Check(
        meter, what, unit, f"{known:,.6g}", f"± {tolerance * 100:g} %", measured, known - away, known + away
    )


def between(meter: str, what: str, unit: str, low: float, measured: float, high: float) -> Check:
    """More is not known than two bounds; `high` may be infinite."""
    known = f"≥ {low:.4g}" if high == float("inf") else f"{low:.4g} to {high:.4g}"
    return Check(meter, what, unit, known, "none", measured, low, high)
