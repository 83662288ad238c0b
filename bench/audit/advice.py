"""What tying would do to one model: sizes exactly, losses as the map predicts them, and what would decide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from statistics import median
from typing import Any

from torch import nn

from bench.analysis import points, published
from bench.analysis.beside import near
from bench.analysis.points import Measurement, Point, as_percent
from bench.analysis.power import seeds_needed
from bench.analysis.prediction import (
    MATTERS,
    hull_of,
    newness,
    predictor,
    query,
)
from bench.analysis.published import Published
from bench.analysis.runs import converted
from bench.analysis.statistics import Interval
from bench.audit.sizes import Sized
from bench.tying import NotApplicable, TyingPlan, methods
from bench.tying.apply import parameters_by_name
from bench.tying.errors import BadInput

NEAREST = 3
FEW = 10
"""Seeds that a command lists one by one."""
STAND_INS = {"gru": "text_gru", "transformer": "text_transformer", "cnn": "image_cnn"}
"""Kind of network -> the task that trains one."""


@dataclass(frozen=True)
class Option:
    """One way to tie a model.

    keys: those of the bench that ask for it. reason: why it cannot be applied, else empty. saved: parameters against
    the model with nothing shared, and their bytes. predicted: change of nll with its 90 % interval, None outside of
    what was measured, which `outside` words. nearest: measured points. published: what others report nearby.
    """

    method: str
    keys: str
    reason: str = ""
    saved: int = 0
    saved_bytes: int = 0
    parameters: int = 0
    predicted: Interval | None = None
    outside: tuple[str, ...] = ()
    nearest: tuple[Measurement, ...] = ()
    published: tuple[Published, ...] = ()
    noise: float | None = None

    @property
    def step_ratio(self) -> float | None:
        """Return the step ratio of the nearest measured point where a training step was timed."""
        return next((row.step_ratio for row in self.nearest if row.step_ratio is not None), None)

    @property
    def latency_ratio(self) -> float | None:
        return next((row.latency_ratio for row in self.nearest if row.latency_ratio is not None), None)

    @property
    def percent(self) -> Interval | None:
        """The predicted change of perplexity in percent."""
        return self.predicted and converted(self.predicted, as_percent, "mean", "low", "high")

    @property
    def is_safe(self) -> bool:
        """Whether the whole interval lies at no worse than 1 %."""
        return bool(self.percent and self.percent.high is not None and self.percent.high <= MATTERS)


@dataclass(frozen=True)
class Experiment:
    """The cheapest training that would decide on one option.

    seeds: of either arm; None where no number of seeds is enough. minutes: of one core, None where none was timed.
    command: in the bench. is_stand_in: whether that trains a smaller network in place of the model.
    """

    option: str
    show: float
    seeds: int | None
    minutes: float | None
    command: str
    is_stand_in: bool


@dataclass(frozen=True)
class Advice:
    """All that is known of a model's options; `choice` is the one to take, None where none is safe."""

    sized: Sized
    options: tuple[Option, ...]
    choice: Option | None
    experiment: Experiment | None
    points: int

    @property
    def is_outside(self) -> bool:
        """Whether no option was predicted."""
        return all(option.predicted is None for option in self.options)


def advise(sized: Sized, results: Path) -> Advice:
    """Place a model on the map in `results`, and say what each tying would do to it.

    Raises:
        BadInput: there is no map in `results`.
    """
    folder = results / points.FOLDER
    measured = points.from_csv(folder / points.FILE)
    rows, _ = published.complete(published.read())
    options = tuple(_option(sized, measured, rows, *plan) for plan in _plans(sized.model, sized.point))
    safe = [option for option in options if option.is_safe and option.saved > 0]
    choice = max(safe, key=lambda option: (option.saved, -option.predicted.mean), default=None)
    return Advice(sized, options, choice, _experiment(sized, options, choice, measured), len(measured))


def _plans(model: nn.Module, point: Point) -> list[tuple[str, str, TyingPlan | str]]:
    """Return the method, its keys, and its plan, or why it does not apply."""
    makers = {
        "embedding": lambda: methods.embedding(model),
        "cross_layer": lambda: methods.cross_layer(model),
        "top_k": lambda: methods.top_k(model, fraction=0.5),
        "cycle": lambda: methods.cycle(model, groups=_half(point.depth)),
    }
    plans: list[tuple[str, str, TyingPlan | str]] = []
    for method, make in makers.items():
        try:
            plans.append((method, _keys(method, point.depth), make()))
        except (NotApplicable, BadInput) as reason:
            plans.append((method, _keys(method, point.depth), str(reason)))
    return plans


def _half(depth: int) -> int:
    return max(1, depth // 2)


def _keys(method: str, depth: int) -> str:
    """Return the keys of the bench that ask for a method at a depth."""
    extras = {"top_k": " tying.fraction=0.5", "cycle": f" tying.groups={_half(depth)}"}
    return f"tying={method}{extras.get(method, '')}"


def _option(
    sized: Sized,
    measured: Sequence[Measurement],
    rows: Sequence[Published],
    method: str,
    keys: str,
    plan: TyingPlan | str,
) -> Option:
    if isinstance(plan, str):
        return Option(method, keys, reason=plan)
    saved, saved_bytes = saved_by(plan, sized.model)
    if not saved:
        return Option(method, keys, reason="it shares no tensor of this network")
    place = query(sized.point, method, distinct_of(plan, sized.point.depth), saved)
    hull = hull_of(measured, method)
    outside = tuple(hull.outside(place))
    predict = None if outside else predictor(measured, method, new=newness([place], measured))
    nearest = tuple(hull.nearest(place, NEAREST)) if hull.measured else ()
    return Option(
        method,
        keys,
        saved=saved,
        saved_bytes=saved_bytes,
        parameters=sized.point.parameters - saved,
        predicted=predict([place])[0] if predict else None,
        outside=outside,
        nearest=nearest,
        published=tuple(near(rows, sized.point, method, NEAREST)),
        noise=_noise(hull.measured, sized.point.network),
    )


def saved_by(plan: TyingPlan, model: nn.Module) -> tuple[int, int]:
    """Return parameters and bytes that a hard plan spares a model in which nothing is shared yet."""
    parameters = parameters_by_name(model)
    spared = [(tie, parameters[tie.names[0]]) for tie in plan.ties]
    return (
        sum((len(tie.names) - 1) * tensor.numel() for tie, tensor in spared),
        sum((len(tie.names) - 1) * tensor.numel() * tensor.element_size() for tie, tensor in spared),
    )


def distinct_of(plan: TyingPlan, depth: int) -> int:
    """Return how many sets of blocks are left, where blocks that share a tensor are one."""
    sets = [{block} for block in range(depth)]
    for tie in plan.ties:
        blocks = {block % depth for _, block in tie.placed() if block is not None}
        joined = [group for group in sets if group & blocks]
        if len(joined) > 1:
            sets = [group for group in sets if not group & blocks] + [set().union(*joined)]
    return len(sets)


def _noise(measured: Sequence[Measurement], network: str) -> float | None:
    """Return the median standard deviation of the difference over seeds, of that kind of network where it is known."""
    spreads = [(row.point.network == network, row.sd) for row in measured if row.sd is not None]
    ours = [sd for is_ours, sd in spreads if is_ours] or [sd for _, sd in spreads]
    return median(ours) if ours else None


def _experiment(
    sized: Sized, options: Sequence[Option], choice: Option | None, measured: Sequence[Measurement]
) -> Experiment | None:
    """Return the test of the option that would save most and is neither safe nor hopeless; None where none is open."""
    limit = math.log1p(MATTERS / 100)
    open_options = [
        option
        for option in options
        if not option.reason
        and option.noise is not None
        and not option.is_safe
        and (choice is None or option.saved > choice.saved)
        and not (option.predicted and option.predicted.low is not None and option.predicted.low > limit)
    ]
    if not open_options:
        return None
    tests = [_test(sized, option, limit, measured) for option in open_options]
    return min(tests, key=lambda test: (test.seeds is None, test.minutes or 0.0, test.option))


def _test(sized: Sized, option: Option, limit: float, measured: Sequence[Measurement]) -> Experiment:
    """Show on which side of the limit an option lies: at least a quarter of the limit away, or seeds have no end."""
    show = limit if option.predicted is None else max(abs(option.predicted.mean - limit), limit / 4)
    seeds = seeds_needed(option.noise, show)
    point, keys, is_stand_in = _trained_here(sized, option)
    name, *settings = _keys(option.method, point.depth).removeprefix("tying=").split()
    words = ["python", "-m", "bench", "-m", "sweep.name=decide", *keys, f"tying=none,{name}", *settings]
    words += [f"seed={_listed(seeds or 1)}"]
    words += [f"--config-dir={sized.configs}"] if sized.configs is not None else []
    seconds = _seconds(point, option, measured)
    minutes = None if seconds is None or seeds is None else 2 * seeds * seconds / 60
    return Experiment(option.method, as_percent(show), seeds, minutes, join(words), is_stand_in)


def _listed(seeds: int) -> str:
    """Return the seeds from 1 as Hydra sweeps over them: few one by one, many as a range."""
    return ",".join(map(str, range(1, seeds + 1))) if seeds <= FEW else f"range(1,{seeds + 1})"


def _trained_here(sized: Sized, option: Option) -> tuple[Point, Sequence[str], bool]:
    """Return the place that an experiment in the bench trains at, its keys, and whether it stands in for the model."""
    point = sized.point
    if sized.overrides is not None:
        return point, sized.overrides, False
    nearest = option.nearest[0].point
    width = nearest.width if option.outside else point.width
    kind, _, injection = nearest.network.partition(", ")
    keys = [f"task={STAND_INS.get(kind, 'text_transformer')}", f"data={nearest.corpus}"]
    keys += ["model.injection=add"] if injection else []
    keys += [f"model.width={width}", f"model.depth={nearest.depth}", f"data.train_limit={nearest.tokens}"]
    keys += [f"data.vocab_size={nearest.vocabulary}"] if nearest.vocabulary else []
    keys += [f"trainer.max_epochs={max(1, round(point.passes))}", f"dropout={nearest.dropout:g}"]
    keys += ["trainer.limit_train_batches=null"]
    return nearest, keys, True


def _seconds(point: Point, option: Option, measured: Sequence[Measurement]) -> float | None:
    """Return about how long one run takes on one core: of the nearest timed point, by parameters and tokens read."""
    rows = (row for row in (*option.nearest, *measured) if row.point.network == point.network)
    nearest = next((row for row in rows if row.seconds), None)
    if nearest is None:
        return None
    work = point.parameters * point.tokens * point.passes
    return nearest.seconds * work / (nearest.point.parameters * nearest.point.tokens * nearest.point.passes)


def as_json(advice: Advice) -> dict[str, Any]:
    """Return an advice as JSON can hold it."""
    point = advice.sized.point
    return {
        "model": advice.sized.name,
        "place": {name: getattr(point, name) for name in Point.__dataclass_fields__},
        "ties_its_embedding": advice.sized.ties_itself,
        "points": advice.points,
        "outside": advice.is_outside,
        "options": [_option_json(option) for option in advice.options],
        "choice": None if advice.choice is None else advice.choice.method,
        "experiment": None if advice.experiment is None else vars(advice.experiment),
    }


def _option_json(option: Option) -> dict[str, Any]:
    predicted = None
    if option.predicted is not None:
        mean, low, high, n = option.predicted
        percent = dict(zip(("mean", "low", "high"), option.percent[:3], strict=True))
        predicted = {
            "nll": {"mean": mean, "low": low, "high": high},
            "perplexity_percent": percent,
            "points": n,
        }
    return {
        "method": option.method,
        "keys": option.keys,
        "reason": option.reason or None,
        "parameters": option.parameters,
        "saved": option.saved,
        "saved_bytes": option.saved_bytes,
        "predicted": predicted,
        "outside": list(option.outside),
        "nearest": [
            {"point": row.point.title, "percent": row.percent, "n": row.n, "sweeps": list(row.sweeps)}
            for row in option.nearest
        ],
        "published": [row.shown for row in option.published],
        "step_ratio": option.step_ratio,
        "latency_ratio": option.latency_ratio,
    }
