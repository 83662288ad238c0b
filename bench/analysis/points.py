"""Read recorded runs as points of the map: where a network was trained, and what each tying changed there."""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Self

from bench.analysis import archive
from bench.analysis.runs import RunRecord, is_finite, look_up, rows
from bench.runs.identity import identity
from bench.runs.tying_spec import TyingSpec
from bench.tying.errors import BadInput

NETWORKS = {
    "GRULanguageModel": "gru",
    "CausalLM": "transformer",
    "TextClassifier": "encoder",
    "ResNet": "cnn",
}
"""Last part of `model._target_` -> the kind of network. Others, such as a forecaster, have no place on the map: their
loss is no cross-entropy."""
OF_TEXT = ("gru", "transformer")
"""Networks whose budget is counted in tokens; that of the others is counted in examples."""
ALONG_DEPTH = ("cross_layer", "top_k", "cycle", "sequence")
"""Methods of which it is known how many blocks share each tensor."""
METHODS = ("embedding", *ALONG_DEPTH)
ALONE = ("attention", "feed_forward", "recurrent", "input")
"""Roles of weights of which one alone may be shared by all blocks; such a tie is measured under the role's name."""


SWEEP = "map_rates"
"""The sweep whose runs check the rule, three rates an arm of which the rule's is the middle one."""
HIGHER = "map_higher"
"""The sweep whose runs have higher rates than the rule's, for the tasks where the check found it too low."""
BY_ROLE = "map_roles"
"""The sweep whose runs share the weights of one role alone, at the rule's rate of cross_layer, some of them untied."""


@dataclass(frozen=True, order=True)
class Point:
    """Where a network was trained: all that the laws read.

    vocabulary: rows of the embedding, 0 where there is none. tokens: different training tokens (examples for images)
    that it read. passes: how often it read them, 1 or more. parameters: of the untied network.
    """

    network: str
    corpus: str
    vocabulary: int
    width: int
    depth: int
    tokens: int
    passes: float
    dropout: float
    weight_decay: float
    parameters: int

    @property
    def is_text(self) -> bool:
        return self.network in OF_TEXT

    @property
    def tokens_per_row(self) -> float:
        """Tokens for each row of the vocabulary; nan where there is no vocabulary."""
        return self.tokens / self.vocabulary if self.vocabulary else math.nan

    @property
    def group(self) -> tuple:
        """What points share that differ in regularisation alone: they are no independent evidence."""
        return astuple(replace(self, dropout=0.0, weight_decay=0.0))

    @property
    def title(self) -> str:
        words = f"{self.vocabulary:,} words, " if self.vocabulary else ""
        unit = "tokens" if self.is_text else "examples"
        return (
            f"{self.network} on {self.corpus}, {words}{self.depth} x {self.width}, {self.tokens:,} {unit} x "
            f"{self.passes:.3g}, dropout {self.dropout:g}, weight decay {self.weight_decay:g}"
        )


@dataclass(frozen=True)
class Measurement:
    """What one tying changed at a point: nll on test, tied - untied, over seeds that both have.

    distinct: blocks of weights that are left of `depth`; depth itself for the embedding. saved: parameters. sd: of the
    differences over seeds, None for one seed. step_ratio, latency_ratio: tied / untied, None where not measured.
    seconds: the median of a whole run. sweeps: where its runs were asked for, sorted.
    """

    point: Point
    method: str
    distinct: int
    saved: int
    untied_nll: float
    difference: float
    n: int
    sd: float | None
    step_ratio: float | None
    latency_ratio: float | None
    seconds: float | None
    sweeps: tuple[str, ...]

    @property
    def label(self) -> str:
        """The method, and where it shares along depth how many blocks of weights it leaves."""
        return (
            self.method
            if self.method == "embedding"
            else f"{self.method} to {self.distinct} of {self.point.depth}"
        )

    @property
    def percent(self) -> float:
        """The difference as a change of perplexity, in percent."""
        return as_percent(self.difference)


def as_percent(difference: float) -> float:
    """Return what a difference of nll makes of a perplexity, in percent. Beyond a factor of e^50 it is that."""
    return 100 * math.expm1(min(difference, 50.0))


def network_of(record: Mapping[str, Any]) -> str:
    """Return the kind of network that a run trains; of one that has no place on the map the name of its class."""
    target = str(look_up(record, "config", "model", "_target_")).rpartition(".")[2]
    return NETWORKS.get(target, target)


def point_of(record: Mapping[str, Any], vocabulary: int | None = None) -> Point | None:
    """Read where a run stands from its config and its counts; None where it has no place on the map.

    Args:
        record: of a finished run.
        vocabulary: rows of the embedding, where they are known better than from the record. One of an older form has
            the limit of its config alone.
    """
    config, network = record.get("config") or {}, network_of(record)
    sizes, parameters = look_up(record, "data_meta", "sizes", "train"), record.get("num_params_untied")
    if network not in NETWORKS.values() or not config.keys() >= _PARTS:
        return None
    model, batches, trainer = config["model"], look_up(config, "task", "batches"), config["trainer"]
    if not (sizes and parameters and batches and trainer and model.get("width") and model.get("depth")):
        return None
    if vocabulary is None:
        reached, limit = look_up(record, "data_meta", "vocab_size"), look_up(config, "data", "vocab_size")
        vocabulary = (reached or limit) if network in OF_TEXT else 0
    if vocabulary is None:
        return None
    unique, passes = _budget(config, network, sizes)
    injected = model.get("injection") not in (None, "none")
    return Point(
        network=f"{network}, injection" if injected else network,
        corpus=str(look_up(config, "data", "name")),
        vocabulary=int(vocabulary),
        width=int(model["width"]),
        depth=int(model["depth"]),
        tokens=unique,
        passes=passes,
        dropout=float(config["dropout"]),
        weight_decay=float(config["weight_decay"]),
        parameters=int(parameters),
    )


def _budget(config: Mapping[str, Any], network: str, available: int) -> tuple[int, float]:
    """Return the different tokens or examples that a run was to read, and how often it was to read them."""
    batches, trainer = config["task"]["batches"], config["trainer"]
    train = min(available, look_up(config, "data", "train_limit") or available)
    per_step = batches["batch_size"] * (batches["window"] if network in OF_TEXT else 1)
    whole = max(1, train // per_step)
    steps_an_epoch = min(whole, trainer.get("limit_train_batches") or whole)
    steps = trainer.get("max_steps") or steps_an_epoch * trainer["max_epochs"]
    read = steps * per_step
    # A state that is carried reads the same first windows in every epoch; others are shuffled anew.
    unique = min(train, read, steps_an_epoch * per_step if batches.get("carry") else train)
    return unique, max(1.0, float(f"{read / unique:.5g}"))


def pair_key(record: Mapping[str, Any], controls: Container[str | None] = (None,)) -> str | None:
    """Return what a tied run and its untied one have in common: all of the config but tying, seed and learning rate.

    None for a run that is no side of a pair: one that begins from another run, one without a config.

    Args:
        controls: The kinds of control that count, None of them for a run that is no control.
    """
    config = record.get("config") or {}
    if (
        not config.keys() >= _PARTS
        or config.get("control") not in controls
        or config.get("start") is not None
    ):
        return None
    kept = {
        key: value
        for key, value in config.items()
        if key not in ("tying", "seed", "measure", "control", "start")
    }
    kept["data"] = {
        key: value for key, value in kept["data"].items() if key not in ("meta", "folder", "root")
    }
    if kept["model"].get("init_scale") == 1:  # older records lack the key
        kept["model"] = {key: value for key, value in kept["model"].items() if key != "init_scale"}
    without = {
        "optimizer": ("lr", "shared_lr"),
        "trainer": _OF_EPOCHS if config["trainer"].get("max_steps") else (),
    }
    for part, keys in without.items():
        # Older records lack keys that are null.
        kept[part] = {
            key: value for key, value in kept[part].items() if key not in keys and value is not None
        }
    return identity(kept)


_PARTS = {"task", "data", "model", "optimizer", "trainer", "dropout", "weight_decay"}
"""What a config has at least; a run of one's own making may have less, and has no place on the map."""
_OF_EPOCHS = ("max_epochs", "val_check_interval")
"""Keys of the trainer that a budget in steps takes the place of."""


def method_of(spec: TyingSpec) -> str | None:
    """Return the method of a plain tie of one kind, `none` for no tie; None for all others (soft, composed, scoped)."""
    if not spec.parts:
        return "none"
    part = spec.parts[0]
    is_plain = len(spec.parts) == 1 and part.get("scope") in (None, "weights") and part.method in METHODS
    return part.method if is_plain else None


def method_or_role(spec: TyingSpec) -> str | None:
    """Return what `method_of` does, or the role whose weights alone a plain cross_layer shares; None for all others."""
    method = method_of(spec)
    if method is None and len(spec.parts) == 1 and spec.parts[0].method == "cross_layer":
        scope = spec.parts[0].get("scope")
        return scope if scope in ALONE else None
    return method


def distinct_blocks(spec: TyingSpec, depth: int, stages: int = 1) -> int:
    """Return how many blocks of weights a plain tie leaves of `depth`; `depth` for the embedding and for no tie.

    stages: of a network whose blocks are of one shape within a stage alone.
    """
    method, part = method_or_role(spec), spec.parts[0] if spec.parts else None
    if method in ("cross_layer", *ALONE):
        return stages
    if method == "top_k":
        k, fraction = part.get("k"), part.get("fraction")
        k = max(2, math.ceil(fraction * depth - 1e-9)) if k is None else k
        return depth - int(k) + 1
    if method in ("cycle", "sequence"):
        return int(part.get("groups"))
    return depth


def group_sizes(method: str, distinct: int, depth: int) -> tuple[int, ...]:
    """Return how many uses each block of weights has, as many numbers as there are blocks of weights."""
    if method == "top_k":
        return (depth - distinct + 1, *[1] * (distinct - 1))
    return tuple(len(range(first, depth, distinct)) for first in range(distinct))


def measurements(runs: Iterable[tuple[str, RunRecord]]) -> list[Measurement]:
    """Pair finished runs by all but their tying and rate, and average over seeds.

    Runs of one identity count once. Where a tying was run at several rates, the one that is best on validation over
    seeds counts, as a sweep would choose it. Points of several sweeps that are alike are one.

    Args:
        runs: name of the sweep and run.
    """
    return _measured(runs, method_of)


def measurements_by_role(runs: Iterable[tuple[str, RunRecord]]) -> list[Measurement]:
    """Return what `measurements` does and what sharing the weights of one role alone changed, whose method is the role.

    All arms are at rates of the rule, as those of one role have no other: runs of the map and of BY_ROLE count.
    Nothing is returned where no role was shared alone.
    """
    at_the_rule = [(sweep, run) for sweep, run in runs if sweep in (FOLDER, BY_ROLE)]
    found = _measured(at_the_rule, method_or_role)
    return found if any(one.method in ALONE for one in found) else []


def _measured(
    runs: Iterable[tuple[str, RunRecord]], name_of: Callable[[TyingSpec], str | None]
) -> list[Measurement]:
    runs = list(runs)
    sweeps: dict[str, set[str]] = defaultdict(set)
    for sweep, run in runs:
        sweeps[run.id].add(sweep)
    merged: dict[Place, list[Couple]] = defaultdict(list)
    for arms in arms_at_best_rate((run for _, run in runs), name_of=name_of):
        for place, couples in _couples(arms).items():
            merged[place] += couples
    order = (*METHODS, *ALONE)
    places = sorted(merged, key=lambda place: (order.index(place[1]), place))
    return [_measurement(place, merged[place], sweeps) for place in places]


Couple = tuple[RunRecord, RunRecord]
Place = tuple[Point, str, int, int]
Arms = Mapping[tuple, Mapping[int, RunRecord]]
"""(control, method, parts of the tying) -> seed -> run, of runs that are alike in all else."""
UNTIED = (None, "none", ())


def arms_at_best_rate(
    runs: Iterable[RunRecord],
    controls: Container[str | None] = (None,),
    name_of: Callable[[TyingSpec], str | None] = method_of,
) -> Iterator[Arms]:
    """Yield the finished runs of plain ties that are alike in all but tying, rate and seed, arm by arm.

    Of an arm that was run at several rates, those at the one whose mean validation loss is least; of equal means the
    lowest rate. Runs of one identity count once.

    Args:
        controls: see `pair_key`.
        name_of: the method of a tying, None for one that does not count.
    """
    pairs: dict[str, dict[tuple, dict[str, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        method = name_of(run.spec)
        is_scored = run.is_done and is_finite(run.number("test", "nll"))
        if is_scored and method and (key := pair_key(run.record, controls)):
            pairs[key][run.spec.control, method, run.spec.parts][run.id] = run
    for arms in pairs.values():
        yield {arm: _at_best_rate(by_id.values()) for arm, by_id in arms.items()}


def _couples(arms: Arms) -> dict[Place, list[Couple]]:
    """Return (point, method, distinct, saved) -> untied and tied run of each seed."""
    untied, vocabulary = arms.get(UNTIED, {}), None
    for (_, method, _), runs in arms.items():
        if method == "embedding":
            one = next(iter(runs.values()))
            vocabulary = _saved(one) // one.number("config", "model", "width")
    couples: dict[Place, list[Couple]] = defaultdict(list)
    for (_, method, _), runs in arms.items():
        for seed, run in runs.items():
            point = point_of(run.record, vocabulary) if method != "none" and seed in untied else None
            if point is not None and _saved(run) > 0:
                distinct = distinct_blocks(
                    run.spec, point.depth, run.number("config", "model", "stages") or 1
                )
                couples[point, method, distinct, _saved(run)].append((untied[seed], run))
    return couples


def _saved(run: RunRecord) -> int:
    return run.number("num_params_untied") - run.number("num_params")


def _at_best_rate(runs: Iterable[RunRecord]) -> dict[int, RunRecord]:
    by_rate: dict[tuple[float, str], dict[int, RunRecord]] = defaultdict(dict)
    for run in runs:
        optimizer = run.record["config"]["optimizer"]
        by_rate[optimizer["lr"], optimizer.get("shared_lr") or ""][run.seed] = run
    most = max(map(len, by_rate.values()))
    full = {rate: found for rate, found in by_rate.items() if len(found) == most}
    return full[
        min(sorted(full), key=lambda rate: fmean(run.number("val", "nll") for run in full[rate].values()))
    ]


def _measurement(place: Place, couples: Sequence[Couple], sweeps: Mapping[str, set[str]]) -> Measurement:
    point, method, distinct, saved = place
    differences = [tied.number("test", "nll") - untied.number("test", "nll") for untied, tied in couples]

    def middle(*values: float | None) -> float | None:
        numbers = [value for value in values if is_finite(value)]
        return median(numbers) if numbers else None

    return Measurement(
        point,
        method,
        distinct,
        saved,
        untied_nll=fmean(untied.number("test", "nll") for untied, _ in couples),
        difference=fmean(differences),
        n=len(couples),
        sd=stdev(differences) if len(couples) > 1 else None,
        step_ratio=middle(*(tied.cost.number("train_step", "ratio") for _, tied in couples)),
        latency_ratio=middle(*(tied.cost.number("latency", "batch", "ratio") for _, tied in couples)),
        seconds=middle(*(run.number("seconds", "total") for couple in couples for run in couple)),
        sweeps=tuple(sorted({name for couple in couples for run in couple for name in sweeps[run.id]})),
    )


@dataclass(frozen=True)
class LeftOut:
    """One tying at one place, as changes of nll on test against the untied network, over seeds that all three have.

    tied: with the tie. without: of the network without the blocks that the tie makes copies of others.
    """

    network: str
    method: str
    tied: float
    without: float
    n: int


def left_out(runs: Iterable[RunRecord]) -> list[LeftOut]:
    """Compare ties along depth with leaving their copies out (`control=delete`), by network and method."""
    found = []
    for arms in arms_at_best_rate(runs, (None, "delete")):
        untied = arms.get(UNTIED, {})
        for (control, method, parts), without in arms.items():
            tied = arms.get((None, method, parts), {}) if control else {}
            if seeds := tied.keys() & without.keys() & untied.keys():
                means = [
                    fmean(arm[seed].number("test", "nll") for seed in seeds)
                    for arm in (untied, tied, without)
                ]
                network = network_of(untied[min(seeds)].record)
                found.append(LeftOut(network, method, means[1] - means[0], means[2] - means[0], n=len(seeds)))
    return sorted(found, key=lambda one: (one.network, one.method))


@dataclass(frozen=True)
class Arm:
    """One network, data set, budget and tying at three rates.

    nll: on validation by rate, infinite for a run that diverged or failed.
    """

    task: str
    method: str
    nll: dict[float, float]

    @property
    def regret(self) -> float:
        """Validation nll at the rule's rate above the least of the three."""
        low, rule, high = (self.nll[rate] for rate in sorted(self.nll))
        return rule - min(low, rule, high)

    @property
    def regret_of_two(self) -> float:
        """Validation nll at the better of the rule's rate and the higher one above the least of the three."""
        _, rule, high = (self.nll[rate] for rate in sorted(self.nll))
        return min(rule, high) - min(self.nll.values())

    @property
    def best(self) -> int:
        """Which of the rates was best: -1 the lower one, 0 the rule's, 1 the higher one."""
        return min(range(3), key=lambda index: self.nll[sorted(self.nll)[index]]) - 1

    @classmethod
    def of(cls, runs: Iterable[RunRecord]) -> list[Self]:
        """Return the arms of which all three rates have ended, by task and method.

        An arm whose rule diverged at its own rate alone has an infinite regret.
        """
        arms: dict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
        for run in runs:
            method, key = method_of(run.spec), pair_key(run.record)
            if method and key and run.record:
                nll = run.number("val", "nll")
                arms[run.task, method, key][run.record["config"]["optimizer"]["lr"]] = (
                    nll if run.is_done and is_finite(nll) else float("inf")
                )
        return [
            cls(task, method, nll)
            for (task, method, _), nll in sorted(arms.items())
            if len(nll) == 3 and min(nll.values()) < float("inf")
        ]


def read_runs(runs: Path, results: Path) -> list[tuple[str, RunRecord]]:
    """Return every recorded run with the name of its sweep. BadInput as `archive.load`, and where there is none."""
    names = archive.chosen_names(None, runs, results)
    return [(name, run) for name in names for run in rows(archive.load(runs, results, name))]


# --- what the advisor reads ---

FOLDER = "map"
"""Of the map, in a folder of results."""
MODELS_FILE = "models.json"
"""Beside the points: which model predicts each method best."""
FILE = "points.csv"
_POINT = [field.name for field in fields(Point)]
_REST = [field.name for field in fields(Measurement) if field.name != "point"]


def as_csv(found: Sequence[Measurement]) -> str:
    """Write a line for each measurement: its point, what was measured, and the difference in percent of perplexity."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_POINT, *_REST, "percent"])
    for one in found:
        values = [getattr(one, name) for name in _REST[:-1]]
        shown = ["" if value is None else _digits(value) for value in values]
        writer.writerow(
            [*map(_digits, astuple(one.point)), *shown, " ".join(one.sweeps), f"{one.percent:.2f}"]
        )
    return text.getvalue()


def _digits(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def from_csv(path: Path) -> list[Measurement]:
    """Read what `as_csv` wrote. BadInput where it is not there or is none."""
    if not path.is_file():
        raise BadInput(
            f"there is no map in {path.parent}: make it with `python -m bench.map`, or name the folder with --results"
        )
    kinds = {"network": str, "corpus": str, "method": str} | dict.fromkeys(
        ("vocabulary", "width", "depth", "tokens", "parameters", "distinct", "saved", "n"), int
    )
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        return [_read(line, kinds) for line in lines]
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path} is no file of points ({error}): make it again with `python -m bench.map`"
        ) from error


def _read(line: Mapping[str, str], kinds: Mapping[str, type]) -> Measurement:
    def value(name: str) -> Any:
        return kinds.get(name, float)(line[name]) if line[name] != "" else None

    return Measurement(
        Point(**{name: value(name) for name in _POINT}),
        **{name: value(name) for name in _REST[:-1]},
        sweeps=tuple(line["sweeps"].split()),
    )


def fingerprint(found: Sequence[Measurement]) -> str:
    """Return 12 hex digits of the points that a prediction is made from."""
    return identity(json.loads(json.dumps({"points": as_csv(found)})))
