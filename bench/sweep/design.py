"""Choose the points of a designed experiment: a Sobol sequence over sizes, data and budgets, and the arms at each.

A point depends on its number and on nothing else, so that more points are added without moving one. The sample is
that of Sobol with Owen's scrambling (`scipy.stats.qmc.Sobol`), once for language models and once for the CNN.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.runs.identity import VALIDATIONS
from bench.sweep.rates import PILOT_METHODS, Overrides, rate_of
from bench.tying.errors import BadInput

SEED = 17
"""Seed of the scrambling: another one gives another sample."""

TEXT_AXES = (
    *("network", "corpus", "vocab_size", "width", "depth", "unique", "passes", "dropout", "weight_decay"),
)
CNN_AXES = ("depth", "width", "unique", "passes")

CNN_EVERY, EXTRA_EVERY, REPEATED_EVERY = 5, 3, 5
"""One point in so many is of the CNN; of either kind one in so many has more arms, and one in so many three seeds."""

CHECKED_EVERY, CHECKED_FACTORS = 9, (0.4, 1.0, 2.5)
"""At one point in so many the rule of rates is checked: each arm runs at its rate times these. The number is odd: every
second point of a Sobol sequence lies in one half of its first axis, the network."""

HIGHER_FACTORS = {"text_gru": (2.5,), "image_cnn": (2.5, 6.25)}
"""Where that check found the rates of the rule too low: the factors at which all arms of a task run once more."""

ROLES = {"text_gru": ("recurrent", "input"), "text_transformer": ("attention", "feed_forward")}
"""By task: kinds of weights of which one alone is shared along depth, at the points with more arms."""

# Chosen so that a run takes about 20 seconds of one thread on average.
VOCAB_SIZES = (256, 512, 1024, 2048, 4096, 8192, 16_000)
WIDTHS, DEPTHS = (32, 128), (2, 8)
UNIQUE_TOKENS, PASSES = (20_000, 160_000), (1, 16)
"""Tokens of train, and how often they are read, which the next bounds."""
MOST_SECONDS = 30
"""The longest run of a language model that reads its tokens more than once."""
SCORED_TOKENS = 27_000
"""What the 12 validations and the test of a language model cost, in tokens of training."""
STARTING_S = 2.0
"""Seconds that a run takes besides."""
CNN_WIDTHS, CNN_DEPTHS = (8, 24), (6, 9, 12)
UNIQUE_IMAGES, CNN_PASSES, MOST_IMAGES = (128, 1197), (4, 64), 24_000

NETWORKS = {"text_gru": 16 * 32, "text_transformer": 8 * 32, "image_cnn": 64}
"""The tasks, each with the tokens or images that it reads in a step."""


@dataclass(frozen=True)
class Point:
    """One point of the design. `number` is that in the whole sequence, from 0; `number_of_kind` that among its kind."""

    number: int
    number_of_kind: int
    task: str
    data: str
    width: int
    depth: int
    unique: int
    steps: int
    dropout: float = 0.0
    weight_decay: float = 0.0
    vocab_size: int | None = None

    @property
    def is_text(self) -> bool:
        return self.task != "image_cnn"

    @property
    def seeds(self) -> tuple[int, ...]:
        """Three at the points that tell the noise between seeds, else one."""
        return (1, 2, 3) if self.number_of_kind % REPEATED_EVERY == 0 else (1,)

    @property
    def has_more_arms(self) -> bool:
        return self.is_text and self.number_of_kind % EXTRA_EVERY == 0

    @property
    def arms(self) -> list[Overrides]:
        """The tyings that are compared here, at the same seeds and the same budget."""
        arms = [{"tying": "none"}, {"tying": "cross_layer"}]
        if not self.is_text:
            return arms
        arms.insert(1, {"tying": "embedding"})
        if self.has_more_arms:
            arms.append({"tying": "cross_layer", "control": "delete"})
            if self.depth >= 3:  # of two blocks half is cross_layer
                arms.append({"tying": "top_k", "tying.fraction": "0.5"})
            if self.depth >= 4:
                half = {"tying": "cycle", "tying.groups": str(self.depth // 2)}
                arms += [half, {**half, "control": "delete"}]
        return arms

    @property
    def seconds(self) -> float:
        """How long a run takes on one thread, about."""
        work = self.steps * NETWORKS[self.task]
        if self.vocab_size is None:
            return STARTING_S + seconds_of_an_image(self.width, self.depth) * work
        of_token = seconds_of_a_token(self.task, self.width, self.depth, self.vocab_size)
        return STARTING_S + of_token * (work + SCORED_TOKENS)

    def overrides(self) -> Iterator[Overrides]:
        """Yield the overrides of each run of the point, arm by arm within a seed."""
        plain = {
            "task": f"map/{self.task}",
            "data": self.data,
            "model.width": str(self.width),
            "model.depth": str(self.depth),
            "data.train_limit": str(self.unique),
            "trainer.max_steps": str(self.steps),
            "dropout": f"{self.dropout:g}",
            "weight_decay": f"{self.weight_decay:g}",
        }
        if self.vocab_size is not None:
            plain["data.vocab_size"] = str(self.vocab_size)
        for seed in self.seeds:
            for arm in self.arms:
                method = "none" if arm.get("control") == "delete" else arm["tying"]
                rate = {"optimizer.lr": f"{rate_of(self.task, method, self.width):.3g}"}
                yield plain | arm | rate | {"seed": str(seed)}


def seconds_of_a_token(task: str, width: int, depth: int, vocab_size: int) -> float:
    """Return how long training on a token takes, from 24 sizes that were timed on one thread: within a third."""
    of_block = 4.5 + 0.15 * width if task == "text_gru" else 2 + 0.3 * width
    return 1e-6 * (depth * of_block + 7.4e-3 * vocab_size)


def seconds_of_an_image(width: int, depth: int) -> float:
    """Return how long training on an image of 8 x 8 takes, from the runs of `quick`."""
    return 400e-6 * depth / 9 * width / 16


def points(count: int) -> list[Point]:
    """Return the first `count` points of the map."""
    cnn = count // CNN_EVERY
    text_sample, cnn_sample = _sample(TEXT_AXES, count - cnn), _sample(CNN_AXES, cnn)
    sequence = []
    for number in range(count):
        of_kind, is_cnn = number // CNN_EVERY, number % CNN_EVERY == CNN_EVERY - 1
        if is_cnn:
            sequence.append(_cnn_point(number, of_kind, cnn_sample[of_kind]))
        else:
            of_kind = number - of_kind
            sequence.append(_text_point(number, of_kind, text_sample[of_kind]))
    return sequence


def map_runs(cfg: Any) -> list[Overrides]:
    """Return the overrides of all runs of the map.

    Points of WikiText-2 are left out where it is not in the folder of data sets, and a line says how many.

    Args:
        cfg: The composed config: its `sweep.points`, and the folder of data sets in `data.root`.
    """
    return _overrides(cfg, _present(cfg), lambda point, run: [run])


def rate_check_runs(cfg: Any) -> list[Overrides]:
    """Return the overrides of the runs that check conf/rates.yaml: a ninth of the map's points, each at three rates.

    The runs at the rate of the rule are those of the map itself.

    Args:
        cfg: As `map_runs` takes it.
    """
    return _overrides(cfg, _present(cfg), lambda point, run: _at_multiples(run, _checked_factors(point, run)))


def higher_rate_runs(cfg: Any) -> list[Overrides]:
    """Return the overrides of the map's runs at higher rates, for the tasks of `HIGHER_FACTORS`.

    All arms of a point have the same factors. Runs that check the rule have been made there, and are left out.

    Args:
        cfg: As `map_runs` takes it.
    """

    def higher(point: Point, run: Overrides) -> list[Overrides]:
        checked = _checked_factors(point, run)
        factors = [factor for factor in HIGHER_FACTORS.get(point.task, ()) if factor not in checked]
        return _at_multiples(run, factors)

    return _overrides(cfg, sorted(_present(cfg), key=lambda point: point.is_text), higher)


def role_runs(cfg: Any) -> list[Overrides]:
    """Return the overrides of the runs that share the weights of one role alone along depth, by the task's `ROLES`.

    They are at the language models' points with more arms, each with the seed, the budget and the rate of a run of
    cross_layer there; first one seed of all points. The untied runs are those of the map itself. An untied transformer
    runs once more at that rate, which is lower than its own: a gain must not be that of the lower rate.

    Args:
        cfg: As `map_runs` takes it.
    """

    def by_role(point: Point, run: Overrides) -> list[Overrides]:
        if not point.has_more_arms or "control" in run:
            return []
        if run["tying"] == "none" and point.task == "text_transformer":
            return [run | {"optimizer.lr": f"{rate_of(point.task, 'cross_layer', point.width):.3g}"}]
        is_shared = run["tying"] == "cross_layer"
        return [run | {"tying.scope": role} for role in ROLES[point.task]] if is_shared else []

    return sorted(_overrides(cfg, _present(cfg), by_role), key=lambda run: run["seed"])


def _checked_factors(point: Point, run: Overrides) -> Sequence[float]:
    """Return the multiples of its rate at which a run of the map checks the rule of rates; none for most."""
    is_plain = run["tying"] in PILOT_METHODS and "control" not in run
    is_checked = point.number % CHECKED_EVERY == 0 and is_plain and run["seed"] == "1"
    return CHECKED_FACTORS if is_checked else ()


def _at_multiples(run: Overrides, factors: Sequence[float]) -> list[Overrides]:
    """Return a run at multiples of its rate."""
    return [run | {"optimizer.lr": f"{float(run['optimizer.lr']) * factor:.3g}"} for factor in factors]


def _present(cfg: Any) -> list[Point]:
    """Return the points whose data is here, and print how many are left out."""
    chosen = points(cfg.sweep.points)
    root = cfg.data.root
    present = [p for p in chosen if p.data != "wikitext2" or (root and Path(root, "wikitext").is_dir())]
    if len(present) < len(chosen):
        print(
            f"note: {len(chosen) - len(present)} of {len(chosen)} points are of WikiText-2 and are left out: "
            "data.root=FOLDER says where it is, as FOLDER/wikitext"
        )
    return present


def _overrides(
    cfg: Any, points: Sequence[Point], variants: Callable[[Point, Overrides], Sequence[Overrides]]
) -> list[Overrides]:
    """Return the overrides of the variants of each run of points; print about how long they take."""
    runs = [
        (point, variant) for point in points for run in point.overrides() for variant in variants(point, run)
    ]
    if not runs:
        raise BadInput(f"sweep.points={cfg.sweep.points}: none of them has its data here; give more points")
    hours = sum(point.seconds for point, _ in runs) / 3600
    places = len({point.number for point, _ in runs})
    print(f"note: {places} points, {len(runs)} runs, about {hours:.1f} hours of one core in all")
    return [overrides for _, overrides in runs]


def _sample(axes: Sequence[str], count: int) -> list[dict[str, float]]:
    """Return the first `count` points of the sequence, each in [0, 1) by axis: the same whatever the count."""
    from scipy.stats import qmc  # a third of a second

    sequence = qmc.Sobol(len(axes), scramble=True, seed=np.random.default_rng(SEED))
    rows = sequence.random_base2(math.ceil(math.log2(max(count, 1))))[:count]
    return [dict(zip(axes, row, strict=True)) for row in rows.tolist()]


def _text_point(number: int, number_of_kind: int, shares: Mapping[str, float]) -> Point:
    task = "text_gru" if shares["network"] < 0.5 else "text_transformer"
    width = 16 * round(_log(shares["width"], WIDTHS) / 16)
    depth = _choice(shares["depth"], range(DEPTHS[0], DEPTHS[1] + 1))
    vocab_size = _choice(shares["vocab_size"], VOCAB_SIZES)
    unique = round(_log(shares["unique"], UNIQUE_TOKENS))
    affordable = MOST_SECONDS / seconds_of_a_token(task, width, depth, vocab_size) / unique
    passes = _log(shares["passes"], (PASSES[0], max(PASSES[0], min(PASSES[1], affordable))))
    return Point(
        number,
        number_of_kind,
        task,
        "pydocs" if shares["corpus"] < 0.5 else "wikitext2",
        width=width,
        depth=depth,
        unique=unique,
        steps=_steps(unique * passes, NETWORKS[task]),
        dropout=round(max(0.0, 0.6 * shares["dropout"] - 0.2), 2),
        weight_decay=0.0
        if shares["weight_decay"] < 0.5
        else round(_log(2 * shares["weight_decay"] - 1, (0.3, 3)), 2),
        vocab_size=vocab_size,
    )


def _cnn_point(number: int, number_of_kind: int, shares: Mapping[str, float]) -> Point:
    unique = round(_log(shares["unique"], UNIQUE_IMAGES))
    seen = unique * _log(shares["passes"], (CNN_PASSES[0], min(CNN_PASSES[1], MOST_IMAGES / unique)))
    return Point(
        number,
        number_of_kind,
        "image_cnn",
        "digits",
        width=4 * round(_log(shares["width"], CNN_WIDTHS) / 4),
        depth=_choice(shares["depth"], CNN_DEPTHS),
        unique=unique,
        steps=_steps(seen, NETWORKS["image_cnn"]),
    )


def _log(share: float, between: tuple[float, float]) -> float:
    """Return the value at a share of the way between two others on a logarithmic scale."""
    low, high = between
    return low * (high / low) ** share


def _choice(share: float, choices: Sequence[int]) -> int:
    return choices[int(share * len(choices))]


def _steps(seen: float, of_step: int) -> int:
    """Return how many steps read so much, as a multiple of the validations, so that training ends with one."""
    return VALIDATIONS * max(1, round(seen / of_step / VALIDATIONS))
