"""Say where a run stands on the map and what each tying changed there; keep the points in a file."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.analysis.runs import look_up, training_size
from bench.runs.identity import identity
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
"""Networks whose vocabulary counts: the others of the map are classifiers."""
ALONG_DEPTH = ("cross_layer", "top_k", "cycle", "sequence")
"""Methods of which it is known how many blocks share each tensor."""
METHODS = ("embedding", *ALONG_DEPTH)
ALONE = ("attention", "feed_forward", "recurrent", "input")
"""Roles of weights: all blocks may share one role alone, and such a tie is measured under the role's name."""
CONFIG_PARTS = {"task", "data", "model", "optimizer", "trainer", "dropout", "weight_decay"}
"""Keys that a config needs: a run without one of them, such as one's own, has no place on the map."""


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
        """Whether its budget is counted in tokens; that of the others is counted in examples."""
        return self.vocabulary > 0

    @property
    def tokens_per_row(self) -> float:
        """Tokens for each row of the vocabulary; nan where there is no vocabulary."""
        return self.tokens / self.vocabulary if self.vocabulary else math.nan

    @property
    def group(self) -> tuple:
        """The same for points that differ in regularisation alone, which are no independent evidence."""
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
    """One row of the points: what a tying changed at a point in nll on test, tied - untied, over seeds that both have.

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
    """Return the change of perplexity, in percent, of a difference of nll. It ends at a factor of e^50."""
    return 100 * math.expm1(min(difference, 50.0))


def network_of(record: Mapping[str, Any]) -> str:
    """Return the kind of network that a run trains; of one that has no place on the map the name of its class.

    One whose input is added before each block is a kind of its own, such as `gru, injection`.
    """
    target = str(look_up(record, "config", "model", "_target_")).rpartition(".")[2]
    injected = look_up(record, "config", "model", "injection") not in (None, "none")
    return NETWORKS.get(target, target) + ", injection" * injected


def point_of(
    record: Mapping[str, Any], vocabulary: int | None = None, sizes: Mapping[str, Any] | None = None
) -> Point | None:
    """Read where a run stands from its config and its counts; None where it has no place on the map.

    Args:
        record: of a finished run.
        vocabulary: rows of the embedding, where they are known better than from the record. A record of an older form
            has the limit of its config alone.
        sizes: network, vocabulary, depth and width of a network that is not one of the bench's.
    """
    config = record.get("config") or {}
    sizes = sizes or _sizes(record, vocabulary)
    train, parameters = training_size(record), record.get("num_params_untied")
    if sizes is None or not (
        train and parameters and look_up(config, "task", "batches") and config["trainer"]
    ):
        return None
    unique, passes = _budget(config, sizes["vocabulary"] > 0, train)
    return Point(
        **sizes,
        corpus=str(look_up(config, "data", "name")),
        tokens=unique,
        passes=passes,
        dropout=float(config["dropout"]),
        weight_decay=float(config["weight_decay"]),
        parameters=int(parameters),
    )


def _sizes(record: Mapping[str, Any], vocabulary: int | None) -> dict[str, Any] | None:
    """Return the network, vocabulary, depth and width of a run; None where one of them has no place on the map."""
    config, network = record.get("config") or {}, network_of(record)
    kind = network.partition(",")[0]
    if kind not in NETWORKS.values() or not config.keys() >= CONFIG_PARTS:
        return None
    model = config["model"]
    if vocabulary is None:
        reached, limit = look_up(record, "data_meta", "vocab_size"), look_up(config, "data", "vocab_size")
        vocabulary = (reached or limit) if kind in OF_TEXT else 0
    if vocabulary is None or not (model.get("width") and model.get("depth")):
        return None
    return {
        "network": network,
        "vocabulary": int(vocabulary),
        "width": int(model["width"]),
        "depth": int(model["depth"]),
    }


def _budget(config: Mapping[str, Any], is_text: bool, train: int) -> tuple[int, float]:
    """Return the different tokens or examples that a run was to read, and how often it was to read them."""
    batches, trainer = config["task"]["batches"], config["trainer"]
    per_step = batches["batch_size"] * (batches["window"] if is_text else 1)
    whole = max(1, train // per_step)
    steps_an_epoch = min(whole, trainer.get("limit_train_batches") or whole)
    steps = trainer.get("max_steps") or steps_an_epoch * trainer["max_epochs"]
    read = steps * per_step
    # A state that is carried reads the same first windows in every epoch; others are shuffled anew.
    unique = min(train, read, steps_an_epoch * per_step if batches.get("carry") else train)
    return unique, max(1.0, float(f"{read / unique:.5g}"))


def group_sizes(method: str, distinct: int, depth: int) -> tuple[int, ...]:
    """Return how many uses each block of weights has, as many numbers as there are blocks of weights."""
    if method == "top_k":
        return (depth - distinct + 1, *[1] * (distinct - 1))
    return tuple(len(range(first, depth, distinct)) for first in range(distinct))


# --- what the advisor reads ---

FOLDER = "map"
"""The map's own folder in a folder of results."""
FILE = "points.csv"
_POINT = [field.name for field in fields(Point)]
_REST = [field.name for field in fields(Measurement) if field.name != "point"]


def as_csv(measured: Sequence[Measurement]) -> str:
    """Write a line for each measurement: its point, what was measured, and the difference in percent of perplexity."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_POINT, *_REST, "percent"])
    for row in measured:
        values = [getattr(row, name) for name in _REST[:-1]]
        shown = ["" if value is None else _digits(value) for value in values]
        writer.writerow(
            [*map(_digits, astuple(row.point)), *shown, " ".join(row.sweeps), f"{row.percent:.2f}"]
        )
    return text.getvalue()


def _digits(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def from_csv(path: Path) -> list[Measurement]:
    """Read what `as_csv` wrote. BadInput where the file is missing or holds no points."""
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


def fingerprint(measured: Sequence[Measurement]) -> str:
    """Return 12 hex digits of the points that a prediction is made from."""
    return identity(json.loads(json.dumps({"points": as_csv(measured)})))
