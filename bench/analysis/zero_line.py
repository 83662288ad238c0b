"""Find where a difference changes its sign, over the two variables that matter most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.points import Measurement, Point
from bench.analysis.prediction import LEVEL, Variable, importances, ridge, variables_of

if TYPE_CHECKING:
    from numpy import ndarray

LEAST_PLACES, LEAST_VALUES = 15, 4
"""A zero line needs so many places, and so many values of either variable."""
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
        float(axis[i] + (axis[i + 1] - axis[i]) * line[i] / (line[i] - line[i + 1]))
        for i in range(len(line) - 1)
        if line[i] * line[i + 1] < 0
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


def plane_of(measured: Sequence[Measurement], method: str) -> Plane:
    """Choose the two variables without which held-out errors grow most, and fit the mean over them.

    Where points are too few to choose, the first two variables of the method that vary are taken.
    """
    ours = [row for row in measured if row.method == method]
    varying = [variable for variable in variables_of(method) if len(_values(ours, variable)) > 1]
    enough = [variable for variable in varying if len(_values(ours, variable)) >= LEAST_VALUES]
    growth = importances(measured, method)
    by_growth = sorted(enough, key=lambda variable: -growth.get(variable.name, 0.0)) if growth else []
    others = [variable for variable in (*varying, *variables_of(method)) if variable not in by_growth]
    candidates = [*by_growth, *others]
    variables = (candidates[0], candidates[1])
    places = {row.point.group for row in ours}
    few = f"from {len(ours)} points at {len(places)} places"
    if len(places) < LEAST_PLACES or any(variable not in enough for variable in variables):
        return Plane(variables, bool(by_growth), growth, None, f"{few}; not enough to draw the zero line")
    surface = _surface(ours, variables)
    flat = f"{few}, all on one line; not enough to draw the zero line"
    return Plane(variables, len(by_growth) > 1, growth, surface, "" if surface else flat)


def _values(measured: Sequence[Measurement], variable: Variable) -> set[float]:
    return {round(variable.value(row), 3) for row in measured}


def _surface(ours: Sequence[Measurement], variables: tuple[Variable, Variable]) -> Surface | None:
    """Fit the mean over two variables; each kind of network counts by its share of the points."""
    import numpy as np
    from scipy.spatial import Delaunay, QhullError

    across, up = variables
    train = [_Cell(row.point, across.value(row), up.value(row), row.difference) for row in ours]
    axes = (Variable(across.name, lambda cell: cell.x), Variable(up.name, lambda cell: cell.y))
    xy = np.array([(cell.x, cell.y) for cell in train])
    x, y = (np.linspace(*ends, CELLS) for ends in zip(xy.min(axis=0), xy.max(axis=0), strict=True))
    grid = np.array([(a, b) for b in y for a in x])
    try:
        inside = Delaunay((xy - xy.min(axis=0)) / np.ptp(xy, axis=0)).find_simplex(
            (grid - xy.min(axis=0)) / np.ptp(xy, axis=0)
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
    resampled = [mean([cell for index in draw for cell in by_place[places[index]]]) for draw in drawn]
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    layers = [np.where(inside < 0, np.nan, layer) for layer in (mean(train), low, high)]
    return Surface(x, y, *(layer.reshape(CELLS, CELLS) for layer in layers))
