"""Predict what a tying changes where it was not measured, with an interval, and judge such predictions.

A prediction is the average, with equal weights, of a ridge regression whose networks share their slopes by shrinkage, a
Gaussian process, randomised trees, and the mean of all points. Taking the one that errs least at held-out points was
tried: it did worse where a whole corpus or the largest networks were left out. The law of `bench.analysis.laws` is
compared with them. Intervals are conformal (CV+; Barber et al. 2021, Predictive inference with the jackknife+, sec. 3):
they rest on errors at held-out points and on no model of the noise.
"""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from statistics import fmean
from typing import TYPE_CHECKING

from bench.analysis import laws
from bench.analysis.points import Measurement, Point
from bench.analysis.statistics import Interval

if TYPE_CHECKING:
    from numpy import ndarray

LEVEL = 0.9
LEAST_PLACES = 10
"""A 90 % interval from held-out errors needs so many places: with fewer, its bound is no error that was seen."""
FOLDS = 10
RIM = 0.03
"""The share of a variable's range by which a place may lie beyond the points and still counts as inside."""
MATTERS = 1.0
"""A change of perplexity of less than so many percent has no sign worth predicting."""


@dataclass(frozen=True)
class Variable:
    """A variable that a difference may depend on. value: of a measurement, on the scale that the models read.

    shown: turns a value back into what people read. is_log: whether an axis of it is logarithmic.
    """

    name: str
    value: Callable[[Measurement], float]
    shown: Callable[[float], float] = lambda value: value
    is_log: bool = False

    def text(self, value: float) -> str:
        """Spell a value of the models' scale as people read it, at three digits."""
        shown = self.shown(value)
        return f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.3g}"


def _log(name: str, quantity: Callable[[Measurement], float]) -> Variable:
    return Variable(name, lambda row: math.log10(quantity(row)), lambda value: 10**value, is_log=True)


TOKENS_PER_ROW = _log("tokens per vocabulary row", lambda row: row.point.tokens_per_row)
SHARE = Variable("share of the parameters that goes", lambda row: row.saved / row.point.parameters)
TOKENS = _log("tokens or examples", lambda row: row.point.tokens)
PASSES = _log("passes", lambda row: row.point.passes)
WIDTH = _log("width", lambda row: row.point.width)
DEPTH = _log("depth", lambda row: row.point.depth)
DROPOUT = Variable("dropout", lambda row: row.point.dropout)
DECAY = Variable("weight decay", lambda row: math.sqrt(row.point.weight_decay), lambda value: value**2)


def variables_of(method: str) -> tuple[Variable, ...]:
    """Return what a method's difference is fitted on; the first two are drawn where points are too few to choose."""
    if method == "embedding":
        return (TOKENS_PER_ROW, PASSES, SHARE, WIDTH, DEPTH, DROPOUT, DECAY)
    return (TOKENS, DEPTH, PASSES, WIDTH, SHARE, DROPOUT, DECAY)


Predict = Callable[[Sequence[Measurement]], "ndarray"]
"""Measurements, whose own numbers are not read -> predicted differences of nll."""


def query(point: Point, method: str, distinct: int, saved: int) -> Measurement:
    """Return a place to predict at, in the form of a measurement without its numbers."""
    return Measurement(point, method, distinct, saved, 1.0, 0.0, 0, None, None, None, None, ())


class Features:
    """Turns measurements into numbers: standardised variables, and the kinds of network as zeros and ones."""

    def __init__(self, train: Sequence[Measurement], variables: Sequence[Variable]) -> None:
        import numpy as np

        self.variables = variables
        self.networks = sorted({row.point.network for row in train})
        table = self._raw(train)
        self.mean, self.spread = table.mean(axis=0), table.std(axis=0)
        self.spread[self.spread < 1e-9] = np.inf  # a variable with one value says nothing
        self.low, self.high = table.min(axis=0), table.max(axis=0)

    def _raw(self, places: Sequence[Measurement]) -> "ndarray":
        import numpy as np

        return np.array([[variable.value(place) for variable in self.variables] for place in places], float)

    def standard(self, places: Sequence[Measurement]) -> "ndarray":
        """Return standardised variables. Beyond the range of the fitted points a value counts as at its end."""
        import numpy as np

        return (np.clip(self._raw(places), self.low, self.high) - self.mean) / self.spread

    def kinds(self, places: Sequence[Measurement]) -> "ndarray":
        import numpy as np

        return np.array([[place.point.network == name for name in self.networks] for place in places], float)

    def columns(self, places: Sequence[Measurement]) -> "ndarray":
        import numpy as np

        return np.hstack([self.standard(places), self.kinds(places)])


TREES, LEAF = 100, 4
"""How many trees are averaged, and of how many points a leaf is at least."""

SHRUNK = 0.5
"""Interactions and a network's own slopes are scaled by this, so that a ridge shrinks them four times as much."""
ALPHAS = tuple(10 ** (step / 2) for step in range(-1, 7))


def ridge(train: Sequence[Measurement], variables: Sequence[Variable]) -> Predict:
    """Fit a regression with slopes that networks share, their own deviations, and products of the variables shrunk."""
    import numpy as np

    features = Features(train, variables)

    def columns(places: Sequence[Measurement]) -> "ndarray":
        main, kinds = features.standard(places), features.kinds(places)
        count = main.shape[1]
        products = [main[:, a] * main[:, b] for a in range(count) for b in range(a, count)]
        own = [kinds[:, [k]] * main for k in range(kinds.shape[1])]
        return np.hstack([main, kinds, *(SHRUNK * part for part in (np.stack(products, axis=1), *own))])

    table, wanted = columns(train), np.array([row.difference for row in train])
    centre, mean = table.mean(axis=0), wanted.mean()
    left, sizes, right = np.linalg.svd(table - centre, full_matrices=False)

    def left_out(alpha: float) -> float:
        """Return the mean squared error at each point by a fit without it, in closed form."""
        hat = (left * (sizes**2 / (sizes**2 + alpha))) @ left.T + 1 / len(train)
        errors = (wanted - mean - (hat @ (wanted - mean))) / np.maximum(1 - np.diag(hat), 1e-3)
        return float(np.mean(errors**2))

    alpha = min(ALPHAS, key=left_out)
    slopes = right.T @ (sizes / (sizes**2 + alpha) * (left.T @ (wanted - mean)))
    return lambda places: mean + (columns(places) - centre) @ slopes


def gaussian_process(
    train: Sequence[Measurement], variables: Sequence[Variable], earlier: Predict | None = None
) -> Predict:
    """Fit a Gaussian process with a length for each variable.

    Args:
        earlier: an earlier fit, whose lengths are taken over instead of being fitted again.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    features = Features(train, variables)
    width = len(variables) + len(features.networks)
    kernel = ConstantKernel(1.0, (0.01, 100)) * RBF(np.full(width, 2.0), (0.3, 30)) + WhiteKernel(
        0.3, (1e-3, 3)
    )
    kernel_before = getattr(earlier, "kernel", None)
    is_same = kernel_before is not None and earlier.networks == features.networks
    model = GaussianProcessRegressor(
        kernel_before if is_same else kernel,
        optimizer=None if is_same else "fmin_l_bfgs_b",
        normalize_y=True,
        random_state=0,
    )

    with warnings.catch_warnings():
        # A length at its bound: the variable does not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features.columns(train), np.array([row.difference for row in train]))

    def predict(places: Sequence[Measurement]) -> "ndarray":
        return model.predict(features.columns(places))

    predict.kernel, predict.networks = model.kernel_, features.networks
    return predict


def trees(train: Sequence[Measurement], variables: Sequence[Variable]) -> Predict:
    """Fit extremely randomised trees (Geurts et al. 2006), which predict nothing beyond what was measured."""
    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor

    features = Features(train, variables)

    model = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, max_features=0.5, random_state=0)
    model.fit(features.columns(train), np.array([row.difference for row in train]))
    return lambda places: model.predict(features.columns(places))


def law(train: Sequence[Measurement], phi: float | None = None, earlier: Predict | None = None) -> Predict:
    """Fit the law as `_law` does, once for each set of points: it is the same for every method."""
    return _law(tuple(train), phi, earlier)


@lru_cache(maxsize=64)
def _law(train: tuple[Measurement, ...], phi: float | None, earlier: Predict | None) -> Predict:
    """Fit the law to the text networks and to the others; predicts nan where there are too few points for it.

    Args:
        phi: see `laws.fit`.
        earlier: an earlier fit to nearly the same points, from which the search begins.
    """
    import numpy as np

    starts = getattr(earlier, "laws", {})
    fits = {
        is_text: laws.fit(side, phi, resamples=0, start=starts.get(is_text))
        for is_text in (True, False)
        if (side := [row for row in train if row.point.is_text == is_text])
    }

    def predict(places: Sequence[Measurement]) -> "ndarray":
        differences = np.full(len(places), np.nan)
        for is_text, fit in fits.items():
            indices = [index for index, place in enumerate(places) if place.point.is_text == is_text]
            if fit is not None and indices:
                differences[indices] = fit.differences([places[index] for index in indices])
        return differences

    predict.laws = fits
    return predict


AVERAGE = "average"
MODELS = ("regression", "gaussian process", "trees", "law", AVERAGE)


def average(
    train: Sequence[Measurement], variables: Sequence[Variable], earlier: Predict | None = None
) -> Predict:
    """Fit the regression, the Gaussian process and the trees, and average them with the mean difference.

    Args:
        earlier: an earlier fit, whose Gaussian process gives its lengths.
    """
    process = getattr(earlier, "parts", {}).get("gaussian process")
    parts = {
        "regression": ridge(train, variables),
        "gaussian process": gaussian_process(train, variables, process),
        "trees": trees(train, variables),
    }
    mean = fmean(row.difference for row in train)

    def predict(places: Sequence[Measurement]) -> "ndarray":
        return (mean + sum(part(places) for part in parts.values())) / (1 + len(parts))

    predict.parts = parts
    return predict


def fitted(
    model: str,
    train: Sequence[Measurement],
    method: str,
    earlier: Predict | None = None,
    without: str | None = None,
) -> Predict:
    """Fit one of MODELS to the measurements of a method; the law also reads the other methods.

    Args:
        without: name of a variable to leave out.
    """
    if model == "law":
        return law(train, earlier=earlier)
    variables = [variable for variable in variables_of(method) if variable.name != without]
    ours = [row for row in train if row.method == method]
    fits = {
        "regression": ridge,
        "gaussian process": partial(gaussian_process, earlier=earlier),
        "trees": trees,
        AVERAGE: partial(average, earlier=earlier),
    }
    return fits[model](ours, variables)


DUMMIES = ("zero", "mean", "phi = 0", "phi = 1")


def dummy(name: str, train: Sequence[Measurement], method: str, earlier: Predict | None = None) -> Predict:
    """Return one of DUMMIES, which know less than the models: no change, the mean, and the law with phi held.

    At phi = 1 a shared tensor is worth as many of its own as it has uses: it predicts no change, as `zero` does.
    """
    import numpy as np

    if name == "phi = 0":
        return law(train, phi=0.0, earlier=earlier)
    mean = fmean(row.difference for row in train if row.method == method) if name == "mean" else 0.0
    return lambda places: np.full(len(places), mean)


@dataclass(frozen=True)
class Predictor:
    """Predicts one method's difference with a conformal interval.

    folds: for each fold the fit without it, and the errors at its points. is_bounded: whether the errors are enough,
    and of places as new as those that are asked for.
    """

    method: str
    model: str
    whole: Predict
    folds: tuple[tuple[Predict, "ndarray"], ...]
    points: int
    is_bounded: bool

    def __call__(self, places: Sequence[Measurement]) -> list[Interval]:
        """Return the predicted difference of nll at each place with its 90 % interval, or no bounds."""
        import numpy as np

        means = self.whole(places)
        if not self.is_bounded:
            return [Interval(float(mean), None, None, self.points) for mean in means]
        low, high = [], []
        for predict, errors in self.folds:
            predicted = predict(places)
            low.append(predicted[:, None] - errors[None, :])
            high.append(predicted[:, None] + errors[None, :])
        low, high = np.sort(np.hstack(low), axis=1), np.sort(np.hstack(high), axis=1)
        count = low.shape[1]
        rank = min(count, math.ceil(LEVEL * (count + 1)))
        bounds = zip(means, low[:, count - rank], high[:, rank - 1], strict=True)
        # The fit to all points may leave the interval of the folds where these are few.
        return [Interval(float(m), float(min(a, m)), float(max(b, m)), self.points) for m, a, b in bounds]


def newness(places: Sequence[Measurement], measured: Sequence[Measurement]) -> str:
    """Return what is new about places: `network` or `corpus` where one of them is not among the points, else `place`.

    Errors at held-out points hold for places that are as new as those points.
    """
    for part in ("network", "corpus"):
        known = {getattr(row.point, part) for row in measured}
        if any(getattr(place.point, part) not in known for place in places):
            return part
    return "place"


def predictor(
    measured: Sequence[Measurement],
    method: str,
    model: str = AVERAGE,
    new: str = "place",
) -> Predictor | None:
    """Fit a model to all points, and again without each fold. None for fewer than two places of the method.

    The lengths of a Gaussian process are fitted without the first fold, and kept for the others.

    Args:
        new: what is left out in a fold, as `newness` has it. Where there is one corpus alone, networks or places are,
            and an interval for another corpus leaves out how corpora differ. Where there is one network alone,
            corpora or places are, and there is no interval for another.
    """
    ours = [row for row in measured if row.method == method]
    count = len({row.point.group for row in ours})
    if count < 2:
        return None
    by = _folds_for(new, ours)
    folds, earlier = [], None
    for rest, inside in _held_out(measured, method, by):
        predict = fitted(model, rest, method, earlier)
        earlier = earlier or predict
        folds.append((predict, _errors(predict, inside)))
    whole = fitted(model, measured, method, earlier)
    is_bounded = count >= LEAST_PLACES and (by == new or new == "corpus")
    return Predictor(method, model, whole, tuple(folds), len(ours), is_bounded)


def _folds_for(new: str, ours: Sequence[Measurement]) -> str:
    """Return what to leave out to see errors at places as new as those asked for: that part, or else another."""
    parts = {"place": (), "corpus": ("corpus", "network"), "network": ("network", "corpus")}[new]
    return next((part for part in parts if len({getattr(row.point, part) for row in ours}) > 1), "place")


def _held_out(
    measured: Sequence[Measurement], method: str, by: str = "place"
) -> Iterator[tuple[list[Measurement], list[Measurement]]]:
    """Leave out each corpus, each network, or each of FOLDS sets of places, in an order that is fixed.

    Points that differ in regularisation alone stay together. Where all points of a method are in one set, each of its
    places is a set.

    Yields:
        The points outside of the fold, and those of the method inside.
    """
    import numpy as np

    def key(row: Measurement) -> Hashable:
        return row.point.group if by == "place" else getattr(row.point, by)

    ours = [row for row in measured if row.method == method]
    keys = sorted({key(row) for row in measured})
    order = np.random.default_rng(0).permutation(len(keys))
    folds = min(FOLDS, len(keys)) if by == "place" else len(keys)
    sets = [{keys[index] for index in order[fold::folds]} for fold in range(folds)]
    used = [fold for fold in sets if any(key(row) in fold for row in ours)]
    if len(used) == 1:
        used = [{place} for place in sorted({key(row) for row in ours})]
    for fold in used:
        rest = [row for row in measured if key(row) not in fold]
        inside = [row for row in ours if key(row) in fold]
        if any(row.method == method for row in rest):
            yield rest, inside


def held_out_errors(
    measured: Sequence[Measurement], method: str, start: Predict | None = None, new: str = "place"
) -> dict[str, float]:
    """Return the mean error in nll of each of MODELS at held-out points; those that have no answer are left out.

    Args:
        start: a fit of the law, from which its search begins.
        new: see `predictor`.
    """
    ours = [row for row in measured if row.method == method]
    if len({row.point.group for row in ours}) < 2:
        return {}
    sizes, earlier = {model: [] for model in MODELS}, None
    for rest, inside in _held_out(measured, method, _folds_for(new, ours)):
        mixed = fitted(AVERAGE, rest, method, earlier)
        earlier = earlier or mixed
        for model, predict in {**mixed.parts, "law": law(rest, earlier=start), AVERAGE: mixed}.items():
            sizes[model] += _errors(predict, inside).tolist()
    means = {model: fmean(values) for model, values in sizes.items()}
    return {model: mean for model, mean in means.items() if math.isfinite(mean)}


def _errors(predict: Predict, inside: Sequence[Measurement]) -> "ndarray":
    import numpy as np

    return np.abs(predict(inside) - np.array([row.difference for row in inside]))


def importances(measured: Sequence[Measurement], method: str) -> dict[str, float]:
    """Return variable -> the factor by which the regression's held-out error grows without it, the largest first.

    {} where there are too few places to tell.
    """
    if len({row.point.group for row in measured if row.method == method}) < LEAST_PLACES:
        return {}

    def error(without: str | None) -> float:
        sizes = []
        for rest, inside in _held_out(measured, method):
            sizes += _errors(fitted("regression", rest, method, without=without), inside).tolist()
        return fmean(sizes)

    whole = error(None)
    grown = {variable.name: error(variable.name) / whole for variable in variables_of(method)}
    return dict(sorted(grown.items(), key=lambda item: -item[1]))


# --- where a prediction may be asked for ---


@dataclass(frozen=True)
class Hull:
    """Where a method was measured: kinds of network, the range of each variable, and how near points lie together."""

    measured: tuple[Measurement, ...]

    def outside(self, place: Measurement) -> list[str]:
        """Return a sentence for each way in which a place lies outside of what was measured; [] inside."""
        if not self.measured:
            return [f"{place.method} was measured nowhere"]
        networks = sorted({row.point.network for row in self.measured})
        if place.point.network not in networks:
            return [f"no {place.point.network} was measured, only {', '.join(networks)}"]
        reasons = []
        alike = [row for row in self.measured if row.point.network == place.point.network]
        for variable in variables_of(place.method):
            values = [variable.value(row) for row in alike]
            low, high, value = min(values), max(values), variable.value(place)
            rim = RIM * (high - low) + 1e-9
            if not low - rim <= value <= high + rim:
                ends = [variable.text(end) for end in (low, high)]
                span = f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else f"{ends[0]} alone"
                reasons.append(f"{variable.name} {variable.text(value)}, measured was {span}")
        if not reasons and self._distance(place, alike) > self._usual(alike):
            reasons.append(
                "it lies in a gap, farther from every measured point than these lie from each other"
            )
        return reasons

    def nearest(self, place: Measurement, count: int = 3) -> list[Measurement]:
        """Return the measured points that are nearest, those of the same kind of network first."""
        scale = self._scale(self.measured)

        def key(row: Measurement) -> tuple[bool, float]:
            return row.point.network != place.point.network, _apart(row, place, scale)

        return sorted(self.measured, key=key)[:count]

    def _scale(self, among: Sequence[Measurement]) -> list[tuple[Variable, float]]:
        scale = []
        for variable in variables_of(self.measured[0].method):
            values = [variable.value(row) for row in among]
            scale.append((variable, (max(values) - min(values)) or 1.0))
        return scale

    def _distance(self, place: Measurement, among: Sequence[Measurement]) -> float:
        scale = self._scale(among)
        return min((_apart(row, place, scale) for row in among if row.point != place.point), default=0.0)

    def _usual(self, among: Sequence[Measurement]) -> float:
        """Return the distance to its nearest neighbour that 95 % of the measured points do not exceed."""
        distances = sorted(self._distance(row, among) for row in among)
        return distances[min(len(distances) - 1, math.ceil(0.95 * len(distances)) - 1)] + 1e-9


def _apart(one: Measurement, other: Measurement, scale: Sequence[tuple[Variable, float]]) -> float:
    return math.hypot(*((variable.value(one) - variable.value(other)) / size for variable, size in scale))


def hull_of(measured: Sequence[Measurement], method: str) -> Hull:
    return Hull(tuple(row for row in measured if row.method == method))
