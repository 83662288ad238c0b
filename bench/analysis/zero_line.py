"""Find where a difference changes its sign, over the two variables that matter most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.points import Measurement, Point
from bench.analysis.prediction import LEVEL, Variable, importances, ridge, variables_of

if TYPE_CHECKING:
    from numpy import ndarray

LEAST_PLACES, LEAST_VALUES = 15, 4
"""Places, and values of either variable, that a zero line needs at least."""
CELLS, RESAMPLES = 40, 200


@dataclass(frozen=True)
class _Cell:
    """A place in the plane of two variables, in the form that `ridge` reads."""

    point: Point
    x: float
    y: float
    difference: float = 0.0


@dataclass(frozen=True)
class Surface:
    """A smooth mean of the difference over two variables, and how sure its sign is.

    x, y: [CELLS], on the scale of the models. mean: [CELLS, CELLS], rows are y; nan outside of the hull of the points.
    low, high: its 90 % interval by bootstrap over places; where it holds 0 is the band of the zero line.
    """

    x: "ndarray"
    y: "ndarray"
    mean: "ndarray"
    low: "ndarray"
    high: "ndarray"

    @property
    def is_crossed(self) -> bool:
        """Whether the mean has both signs."""
        import numpy as np

        return bool(np.nanmin(self.mean) < 0 < np.nanmax(self.mean))

    def crossing(self, along: int, at: float) -> tuple[float, float | None, float | None] | None:
        """Return where the mean is 0 along x (0) or y (1) with the other variable at a value, and the ends of its band.

        An end is None where the band leaves the picture. None where the mean does not turn there, or more than once.
        """
        axis, mean = self._line(along, at, self.mean)
        turns = _turns(axis, mean)
        if len(turns) != 1:
            return None
        ends = [_turns(*self._line(along, at, side)) for side in (self.low, self.high)]
        before = [turn for side in ends for turn in side if turn <= turns[0]]
        after = [turn for side in ends for turn in side if turn >= turns[0]]
        return turns[0], max(before, default=None), min(after, default=None)

    def falls(self, along: int, at: float) -> bool:
        """Whether the mean is lower at the end of the line than at its beginning."""
        _, mean = self._line(along, at, self.mean)
        return bool(mean[-1] < mean[0])

    def _line(self, along: int, at: float, values: "ndarray") -> tuple["ndarray", "ndarray"]:
        """Return the axis and the values on the line nearest to `at`, inside of the hull."""
        import numpy as np

        axis, across = (self.x, self.y) if along == 0 else (self.y, self.x)
        nearest = int(np.argmin(np.abs(across - at)))
        line = values[nearest] if along == 0 else values[:, nearest]
        inside = np.isfinite(line)
        return axis[inside], line[inside]


def _turns(axis: "ndarray", line: "ndarray") -> list[float]:
    """Return where a line changes its sign, between the cells by proportion."""
    return [
        float(axis[at] + (axis[at + 1] - axis[at]) * line[at] / (line[at] - line[at + 1]))
        for at in range(len(line) - 1)
        if line[at] * line[at + 1] < 0
    ]


@dataclass(frozen=True)
class Plane:
    """The two variables to draw a method over. chosen: whether the fit chose them; growth: as `importances` has it.

    surface: None with `too_few`, the reason.
    """

    variables: tuple[Variable, Variable]
    chosen: bool
    growth: dict[str, float]
    surface: Surface | None
    too_few: str


def plane_of(found: Sequence[Measurement], method: str) -> Plane:
    """Choose two variables, those without which held-out errors grow most, and fit the mean over them.

    Where points are too few to choose, the first two variables of the method that vary are taken.
    """
    ours = [one for one in found if one.method == method]
    varying = [variable for variable in variables_of(method) if len(_values(ours, variable)) > 1]
    enough = [variable for variable in varying if len(_values(ours, variable)) >= LEAST_VALUES]
    growth = importances(found, method)
    by_growth = sorted(enough, key=lambda variable: -growth.get(variable.name, 0.0)) if growth else []
    candidates = [*by_growth, *(one for one in (*varying, *variables_of(method)) if one not in by_growth)]
    variables = (candidates[0], candidates[1])
    places = {one.point.group for one in ours}
    few = f"from {len(ours)} points at {len(places)} places"
    if len(places) < LEAST_PLACES or any(variable not in enough for variable in variables):
        return Plane(variables, bool(by_growth), growth, None, f"{few}; not enough to draw the zero line")
    surface = _surface(ours, variables)
    flat = f"{few}, all on one line; not enough to draw the zero line"
    return Plane(variables, len(by_growth) > 1, growth, surface, "" if surface else flat)


def _values(found: Sequence[Measurement], variable: Variable) -> set[float]:
    return {round(variable.value(one), 3) for one in found}


def _surface(ours: Sequence[Measurement], variables: tuple[Variable, Variable]) -> Surface | None:
    """Fit the mean over two variables, kinds of network in the shares that they have among the points."""
    import numpy as np
    from scipy.spatial import Delaunay, QhullError

    across, up = variables
    train = [_Cell(one.point, across.value(one), up.value(one), one.difference) for one in ours]
    axes = (Variable(across.name, lambda cell: cell.x), Variable(up.name, lambda cell: cell.y))
    at = np.array([(cell.x, cell.y) for cell in train])
    x, y = (np.linspace(*ends, CELLS) for ends in zip(at.min(axis=0), at.max(axis=0), strict=True))
    grid = np.array([(a, b) for b in y for a in x])
    try:
        inside = Delaunay((at - at.min(axis=0)) / np.ptp(at, axis=0)).find_simplex(
            (grid - at.min(axis=0)) / np.ptp(at, axis=0)
        )
    except QhullError:
        return None
    kinds = {cell.point.network: cell.point for cell in train}
    shares = {name: sum(cell.point.network == name for cell in train) / len(train) for name in kinds}

    def mean(cells: Sequence[_Cell]) -> "ndarray":
        predict = ridge(cells, axes)
        parts = [
            share * predict([_Cell(kinds[name], *place) for place in grid.tolist()])
            for name, share in shares.items()
        ]
        return np.sum(parts, axis=0)

    places = sorted({cell.point.group for cell in train})
    by_place = {place: [cell for cell in train if cell.point.group == place] for place in places}
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(places), size=(RESAMPLES, len(places)))
    resampled = [mean([cell for at in row for cell in by_place[places[at]]]) for row in drawn]
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    shape = (CELLS, CELLS)
    hidden = inside < 0
    return Surface(x, y, *(np.where(hidden, np.nan, one).reshape(shape) for one in (mean(train), low, high)))
