"""Predict what a tying changes where it was not measured, with an interval, and judge such predictions.

Three models compete on points that they were not fitted to: a ridge regression whose networks share their slopes by
shrinkage, a Gaussian process, and the law of `bench.analysis.laws`. Intervals are conformal (CV+; Barber et al. 2021,
Predictive inference with the jackknife+, sec. 3): they rest on errors at held-out points and on no model of the noise.
"""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis import laws
from bench.analysis.points import Measurement, Point
from bench.analysis.statistics import Interval

if TYPE_CHECKING:
    from numpy import ndarray

LEVEL = 0.9
LEAST_PLACES = 10
"""Places that a 90 % interval from held-out errors needs at least: with fewer, its bound is no error that was seen."""
FOLDS = 10
RIM = 0.03
"""The share of a variable's range by which a place may lie beyond the points and still counts as inside."""
MATTERS = 1.0
"""A change of perplexity of less than so many percent has no sign worth predicting."""


@dataclass(frozen=True)
class Variable:
    """What the size of a difference may depend on. value: of a measurement, on the scale that the models read.

    shown: turns that back into what people read. is_log: whether an axis of it is logarithmic.
    """

    name: str
    value: Callable[[Measurement], float]
    shown: Callable[[float], float] = lambda value: value
    is_log: bool = False

    def text(self, value: float) -> str:
        """Spell a value of the models' scale as people read it, at three digits."""
        shown = self.shown(value)
        return f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.3g}"


def _log(name: str, of: Callable[[Measurement], float]) -> Variable:
    return Variable(name, lambda one: math.log10(of(one)), lambda value: 10**value, is_log=True)


TOKENS_PER_ROW = _log("tokens per vocabulary row", lambda one: one.point.tokens_per_row)
SHARE = Variable("share of the parameters that goes", lambda one: one.saved / one.point.parameters)
TOKENS = _log("tokens or examples", lambda one: one.point.tokens)
PASSES = _log("passes", lambda one: one.point.passes)
WIDTH = _log("width", lambda one: one.point.width)
DEPTH = _log("depth", lambda one: one.point.depth)
DROPOUT = Variable("dropout", lambda one: one.point.dropout)
DECAY = Variable("weight decay", lambda one: math.sqrt(one.point.weight_decay), lambda value: value**2)


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
        self.networks = sorted({one.point.network for one in train})
        table = self._raw(train)
        self.mean, self.spread = table.mean(axis=0), table.std(axis=0)
        self.spread[self.spread < 1e-9] = np.inf  # a variable with one value says nothing
        self.low, self.high = table.min(axis=0), table.max(axis=0)

    def _raw(self, of: Sequence[Measurement]) -> "ndarray":
        import numpy as np

        return np.array([[variable.value(one) for variable in self.variables] for one in of], float)

    def standard(self, of: Sequence[Measurement]) -> "ndarray":
        """Beyond the range of the points to fit a variable counts as at its end: slopes are not carried further."""
        import numpy as np

        return (np.clip(self._raw(of), self.low, self.high) - self.mean) / self.spread

    def kinds(self, of: Sequence[Measurement]) -> "ndarray":
        import numpy as np

        return np.array([[one.point.network == name for name in self.networks] for one in of], float)


SHRUNK = 0.5
"""Interactions and a network's own slopes are scaled by this, so that a ridge shrinks them four times as much."""
ALPHAS = tuple(10 ** (at / 2) for at in range(-1, 7))


def ridge(train: Sequence[Measurement], variables: Sequence[Variable]) -> Predict:
    """Fit a regression with slopes that networks share, their own deviations, and products of the variables shrunk."""
    import numpy as np

    features = Features(train, variables)

    def columns(of: Sequence[Measurement]) -> "ndarray":
        main, kinds = features.standard(of), features.kinds(of)
        count = main.shape[1]
        products = [main[:, a] * main[:, b] for a in range(count) for b in range(a, count)]
        own = [kinds[:, [k]] * main for k in range(kinds.shape[1])]
        return np.hstack([main, kinds, *(SHRUNK * part for part in (np.stack(products, axis=1), *own))])

    table, wanted = columns(train), np.array([one.difference for one in train])
    centre, mean = table.mean(axis=0), wanted.mean()
    left, sizes, right = np.linalg.svd(table - centre, full_matrices=False)

    def left_out(alpha: float) -> float:
        """Return the mean squared error at each point by a fit without it, in closed form."""
        hat = (left * (sizes**2 / (sizes**2 + alpha))) @ left.T + 1 / len(train)
        errors = (wanted - mean - (hat @ (wanted - mean))) / np.maximum(1 - np.diag(hat), 1e-3)
        return float(np.mean(errors**2))

    alpha = min(ALPHAS, key=left_out)
    slopes = right.T @ (sizes / (sizes**2 + alpha) * (left.T @ (wanted - mean)))
    return lambda of: mean + (columns(of) - centre) @ slopes


def gaussian_process(
    train: Sequence[Measurement], variables: Sequence[Variable], like: Predict | None = None
) -> Predict:
    """Fit a Gaussian process with a length for each variable.

    Args:
        like: an earlier fit, whose lengths are taken over instead of being fitted again.
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
    earlier = getattr(like, "kernel", None)
    is_same = earlier is not None and like.networks == features.networks
    model = GaussianProcessRegressor(
        earlier if is_same else kernel,
        optimizer=None if is_same else "fmin_l_bfgs_b",
        normalize_y=True,
        random_state=0,
    )

    def columns(of: Sequence[Measurement]) -> "ndarray":
        return np.hstack([features.standard(of), features.kinds(of)])

    with warnings.catch_warnings():
        # A length at its bound: the variable does not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(columns(train), np.array([one.difference for one in train]))

    def predict(of: Sequence[Measurement]) -> "ndarray":
        return model.predict(columns(of))

    predict.kernel, predict.networks = model.kernel_, features.networks
    return predict


def law(train: Sequence[Measurement], phi: float | None = None, like: Predict | None = None) -> Predict:
    """Do `_law`, once for each set of points: it is the same for every method."""
    return _law(tuple(train), phi, like)


@lru_cache(maxsize=64)
def _law(train: tuple[Measurement, ...], phi: float | None, like: Predict | None) -> Predict:
    """Fit the law to the text networks and to the others; predicts nan where there are too few points for it.

    Args:
        phi: see `laws.fit`.
        like: an earlier fit to nearly the same points, from which the search begins.
    """
    import numpy as np

    starts = getattr(like, "laws", {})
    fitted = {
        is_text: laws.fit(side, phi, resamples=0, start=starts.get(is_text))
        for is_text in (True, False)
        if (side := [one for one in train if one.point.is_text == is_text])
    }

    def predict(of: Sequence[Measurement]) -> "ndarray":
        differences = np.full(len(of), np.nan)
        for is_text, known in fitted.items():
            at = [index for index, one in enumerate(of) if one.point.is_text == is_text]
            if known is not None and at:
                differences[at] = known.differences([of[index] for index in at])
        return differences

    predict.laws = fitted
    return predict


MODELS = ("regression", "gaussian process", "law")


def fitted(
    model: str,
    train: Sequence[Measurement],
    method: str,
    like: Predict | None = None,
    without: str | None = None,
) -> Predict:
    """Fit one of MODELS to what is known of a method; the law also reads the other methods.

    Args:
        without: name of a variable to leave out.
    """
    if model == "law":
        return law(train, like=like)
    variables = [variable for variable in variables_of(method) if variable.name != without]
    ours = [one for one in train if one.method == method]
    return ridge(ours, variables) if model == "regression" else gaussian_process(ours, variables, like)


DUMMIES = ("zero", "mean", "phi = 0", "phi = 1")


def dummy(name: str, train: Sequence[Measurement], method: str, like: Predict | None = None) -> Predict:
    """Return what knows less than the models: no change, the mean, and the law with phi held.

    At phi = 1 a shared tensor is worth as many of its own as it has uses: it predicts no change, as `zero` does.
    """
    import numpy as np

    if name == "phi = 0":
        return law(train, phi=0.0, like=like)
    mean = fmean(one.difference for one in train if one.method == method) if name == "mean" else 0.0
    return lambda of: np.full(len(of), mean)


@dataclass(frozen=True)
class Predictor:
    """Predicts one method's difference with a conformal interval.

    folds: of each fold what was fitted without it, and the errors at its points. error: their mean size. is_bounded:
    whether the errors are of places as new as those that it is asked about, and enough.
    """

    method: str
    model: str
    whole: Predict
    folds: tuple[tuple[Predict, "ndarray"], ...]
    points: int
    is_bounded: bool
    error: float

    def __call__(self, of: Sequence[Measurement]) -> list[Interval]:
        """Return the predicted difference of nll at each place with its 90 % interval, or no bounds."""
        import numpy as np

        means = self.whole(of)
        if not self.is_bounded:
            return [Interval(float(mean), None, None, self.points) for mean in means]
        low, high = [], []
        for predict, errors in self.folds:
            at = predict(of)
            low.append(at[:, None] - errors[None, :])
            high.append(at[:, None] + errors[None, :])
        low, high = np.sort(np.hstack(low), axis=1), np.sort(np.hstack(high), axis=1)
        count = low.shape[1]
        rank = min(count, math.ceil(LEVEL * (count + 1)))
        bounds = zip(means, low[:, count - rank], high[:, rank - 1], strict=True)
        # The fit to all points may leave the interval of the folds where these are few.
        return [Interval(float(m), float(min(a, m)), float(max(b, m)), self.points) for m, a, b in bounds]


def newness(asked: Sequence[Measurement], found: Sequence[Measurement]) -> str:
    """Return what is new about places: `network` or `corpus` where one of them is not among the points, else `place`.

    Errors at held-out points tell of places as new as they are.
    """
    for what in ("network", "corpus"):
        known = {getattr(one.point, what) for one in found}
        if any(getattr(one.point, what) not in known for one in asked):
            return what
    return "place"


def predictor(
    found: Sequence[Measurement], method: str, model: str, start: Predict | None = None, new: str = "place"
) -> Predictor | None:
    """Fit a model to all points, and again without each fold. None for fewer than two places of the method.

    The lengths of a Gaussian process are fitted without the first fold, and kept for the others.

    Args:
        start: a fit of the law, from which its search begins.
        new: what is left out in a fold, as `newness` has it. Where there is one corpus or network alone, places are: an
            interval for another corpus then says nothing of how far one carries over, and for a network there is none.
    """
    import numpy as np

    ours = [one for one in found if one.method == method]
    count = len({one.point.group for one in ours})
    if count < 2:
        return None
    by = new if len({getattr(one.point, new, None) for one in ours}) > 1 else "place"
    parts, like, sizes = [], start if model == "law" else None, []
    for rest, inside in _held_out(found, method, by):
        predict = fitted(model, rest, method, like)
        like = like or predict
        errors = np.abs(predict(inside) - np.array([one.difference for one in inside]))
        parts.append((predict, errors))
        sizes += errors.tolist()
    whole = fitted(model, found, method, like)
    is_bounded = count >= LEAST_PLACES and (by == new or new == "corpus")
    return Predictor(method, model, whole, tuple(parts), len(ours), is_bounded, fmean(sizes))


def _held_out(
    found: Sequence[Measurement], method: str, by: str = "place"
) -> Iterator[tuple[list[Measurement], list[Measurement]]]:
    """Leave out each corpus, each network, or each of FOLDS sets of places, in an order that is fixed.

    Points that differ in regularisation alone stay together. Where a method lies in one set of places alone, each of
    its places is a set.

    Yields:
        The points outside of the fold, and those of the method inside.
    """
    import numpy as np

    def key(one: Measurement) -> Hashable:
        return one.point.group if by == "place" else getattr(one.point, by)

    ours = [one for one in found if one.method == method]
    keys = sorted({key(one) for one in found})
    order = np.random.default_rng(0).permutation(len(keys))
    folds = min(FOLDS, len(keys)) if by == "place" else len(keys)
    sets = [{keys[at] for at in order[fold::folds]} for fold in range(folds)]
    used = [fold for fold in sets if any(key(one) in fold for one in ours)]
    if len(used) == 1:
        used = [{place} for place in sorted({key(one) for one in ours})]
    for fold in used:
        rest, inside = (
            [one for one in of if (key(one) in fold) == is_in] for of, is_in in ((found, False), (ours, True))
        )
        if any(one.method == method for one in rest):
            yield rest, inside


def best_predictor(
    found: Sequence[Measurement],
    method: str,
    start: Predict | None = None,
    at: Sequence[Measurement] = (),
    new: str = "place",
) -> tuple[Predictor | None, dict[str, float]]:
    """Return the model with the least error at held-out points, and the mean error of each in nll.

    Args:
        start, new: see `predictor`.
        at: places where it must have an answer, which the law has not for a loss that it was not fitted to.
    """
    every = {model: predictor(found, method, model, start, new) for model in MODELS}
    errors = {
        model: one.error
        for model, one in every.items()
        if one is not None and all(map(math.isfinite, [one.error, *(one.whole(at) if at else ())]))
    }
    return (every[min(errors, key=errors.get)] if errors else None), errors


def importances(found: Sequence[Measurement], method: str) -> dict[str, float]:
    """Return variable -> by what factor the regression's held-out error grows without it, the largest first.

    {} where there are too few places to tell.
    """
    if len({one.point.group for one in found if one.method == method}) < LEAST_PLACES:
        return {}

    def error(without: str | None) -> float:
        sizes = []
        for rest, inside in _held_out(found, method):
            predicted = fitted("regression", rest, method, without=without)(inside)
            sizes += [abs(value - one.difference) for value, one in zip(predicted, inside, strict=True)]
        return fmean(sizes)

    whole = error(None)
    grown = {variable.name: error(variable.name) / whole for variable in variables_of(method)}
    return dict(sorted(grown.items(), key=lambda item: -item[1]))


# --- where a prediction may be asked for ---


@dataclass(frozen=True)
class Hull:
    """Where a method was measured: kinds of network, the range of each variable, and how near points lie together."""

    measured: tuple[Measurement, ...]

    def outside(self, asked: Measurement) -> list[str]:
        """Return a sentence for each way in which a place lies outside of what was measured; [] inside."""
        if not self.measured:
            return [f"{asked.method} was measured nowhere"]
        networks = sorted({one.point.network for one in self.measured})
        if asked.point.network not in networks:
            return [f"no {asked.point.network} was measured, only {', '.join(networks)}"]
        reasons = []
        alike = [one for one in self.measured if one.point.network == asked.point.network]
        for variable in variables_of(asked.method):
            values = [variable.value(one) for one in alike]
            low, high, value = min(values), max(values), variable.value(asked)
            rim = RIM * (high - low) + 1e-9
            if not low - rim <= value <= high + rim:
                ends = [variable.text(end) for end in (low, high)]
                span = f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else f"{ends[0]} alone"
                reasons.append(f"{variable.name} {variable.text(value)}, measured was {span}")
        if not reasons and self._distance(asked, alike) > self._usual(alike):
            reasons.append(
                "it lies in a gap, farther from every measured point than these lie from each other"
            )
        return reasons

    def nearest(self, asked: Measurement, count: int = 3) -> list[Measurement]:
        """Return the measured points that are nearest, those of the same kind of network first."""
        scale = self._scale(self.measured)

        def key(one: Measurement) -> tuple[bool, float]:
            return one.point.network != asked.point.network, _apart(one, asked, scale)

        return sorted(self.measured, key=key)[:count]

    def _scale(self, among: Sequence[Measurement]) -> list[tuple[Variable, float]]:
        scale = []
        for variable in variables_of(self.measured[0].method):
            values = [variable.value(one) for one in among]
            scale.append((variable, (max(values) - min(values)) or 1.0))
        return scale

    def _distance(self, asked: Measurement, among: Sequence[Measurement]) -> float:
        scale = self._scale(among)
        return min((_apart(one, asked, scale) for one in among if one.point != asked.point), default=0.0)

    def _usual(self, among: Sequence[Measurement]) -> float:
        """Return the distance to its nearest neighbour that 95 % of the measured points do not exceed."""
        distances = sorted(self._distance(one, among) for one in among)
        return distances[min(len(distances) - 1, math.ceil(0.95 * len(distances)) - 1)] + 1e-9


def _apart(one: Measurement, other: Measurement, scale: Sequence[tuple[Variable, float]]) -> float:
    return math.hypot(*((variable.value(one) - variable.value(other)) / size for variable, size in scale))


def hull_of(found: Sequence[Measurement], method: str) -> Hull:
    return Hull(tuple(one for one in found if one.method == method))


# --- judged on what was not seen ---


class Score(NamedTuple):
    """How predictions fared at points that they were not made from.

    held_out: what was left out. right, signed: how many signs were right of those differences that matter. covered: how
    many of n lay in their 90 % interval, None where there was none. errors: mean size of the error in nll of the
    prediction (under `model`) and of each dummy.
    """

    held_out: str
    method: str
    model: str
    n: int
    right: int
    signed: int
    covered: int | None
    errors: Mapping[str, float]

    @property
    def winner(self) -> str:
        """Return what has the least error; of equal ones the dummy, which is simpler."""
        return min(self.errors, key=lambda name: (self.errors[name], name not in DUMMIES))


def splits(found: Sequence[Measurement]) -> list[tuple[str, Callable[[Point], bool]]]:
    """Return what to leave out in turn: each corpus, each kind of network, and the fifth with most parameters."""
    corpora = sorted({one.point.corpus for one in found})
    networks = sorted({one.point.network for one in found})
    sizes = sorted(one.point.parameters for one in found)
    limit = sizes[max(0, math.ceil(0.8 * len(sizes)) - 1)] if sizes else 0
    parts: list[tuple[str, Callable[[Point], bool]]] = []
    parts += [(f"corpus {name}", lambda point, name=name: point.corpus == name) for name in corpora]
    parts += [(f"network {name}", lambda point, name=name: point.network == name) for name in networks]
    return [*parts, ("the largest fifth", lambda point: point.parameters > limit)]


def judged(found: Sequence[Measurement], methods: Sequence[str]) -> list[Score]:
    """Leave each split out, choose and fit a model on the rest, and score it and the dummies on what was left out.

    A split without a point on either side, or with a single place to fit, is left out.
    """
    scores, start, start_0 = [], law(found), law(found, phi=0.0)
    for name, is_held in splits(found):
        rest = [one for one in found if not is_held(one.point)]
        for method in methods:
            held = [one for one in found if one.method == method and is_held(one.point)]
            chosen, _ = best_predictor(rest, method, start, held, newness(held, rest)) if held else (None, {})
            if chosen is not None:
                every = {who: dummy(who, rest, method, start_0)(held) for who in DUMMIES}
                dummies = {who: values for who, values in every.items() if all(map(math.isfinite, values))}
                scores.append(scored(name, held, chosen(held), chosen.model, dummies))
    return scores


def scored(
    name: str,
    held: Sequence[Measurement],
    intervals: Sequence[Interval],
    model: str,
    dummies: Mapping[str, Sequence[float]],
) -> Score:
    """Compare predictions with what was measured at the same places."""
    matter = [(one, given) for one, given in zip(held, intervals, strict=True) if abs(one.percent) > MATTERS]
    bounded = [
        given.low <= one.difference <= given.high
        for one, given in zip(held, intervals, strict=True)
        if given.low is not None
    ]
    predicted = {model: [given.mean for given in intervals], **dummies}
    errors = {
        who: fmean(abs(value - one.difference) for value, one in zip(values, held, strict=True))
        for who, values in predicted.items()
    }
    right = sum((one.difference > 0) == (given.mean > 0) for one, given in matter)
    covered = sum(bounded) if len(bounded) == len(held) else None
    return Score(name, held[0].method, model, len(held), right, len(matter), covered, errors)
