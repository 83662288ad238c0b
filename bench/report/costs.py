"""Show what each tying costs as tables, and the notes below them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.frame import PAIRS
from bench.analysis.groups import control_note, natural
from bench.analysis.runs import CostRecord
from bench.report.markup import Column, Table, tabulate
from bench.report.notes import provenance
from bench.report.numbers import NOTHING, bounded, fixed, places, span
from bench.runs.store import Status

MIB = 2**20
GIB = 2**30
TIMED = "Timing"
"""First word of every line about time: these lines are what measuring again may change."""

MEMORY = (
    "Memory: the exact peaks of one training step and of one inference by the tracker ({}); parameters and "
    "optimizer state are held all through a step, activations are those alive at its peak. On disk: the "
    "weights, what is shared once. MiB are 2^20 bytes."
)
RATIOS = (
    "Ratios: tied / untied, the two in one process in turns, each with fresh copies: the median of the turns' "
    "ratios and its 95 % interval, which a few turns do not give. Below 1 the tied network is the faster one; a "
    "ratio is marked as best only where its interval lies below 1. Times in ms come from a process each and none "
    "is marked: compare the ratios."
)
COLD = " Cold: the caches were overwritten before each call."
WARM = "Cold caches: not measured{} (measure.cold=false)."
NOISE = "`none` is timed against copies of itself: its ratios are the meter's noise, and should contain 1."
GENERATION = (
    "Generation: of one text with the network's own cache; the first token from a prompt of half a window, then "
    "the mean of each further token."
)
KEYS = (
    "Keys and values: bytes that must be kept of each token, what is made twice counted once. The caches here keep all "
    "heads of all layers, so that latencies show nothing of it."
)
NAMES = {
    "train_step": "train step",
    "latency_batch": "batch latency",
    "latency_one": "batch 1 latency",
    "latency_first_token": "first token",
    "latency_per_token": "per token",
}


def cost_tables(rows: Sequence[tuple[str, CostRecord]]) -> dict[str, Table]:
    """Title -> table of the cost records, each with the label of its row; {} where none is measured."""
    measured = [cost for _, cost in rows if cost.is_measured]
    if not measured:
        return {}
    tables = {"Memory": _memory(measured), "Time": _time(measured)}
    if any(cost.value("latency", "first_token") for cost in measured):
        tables["Generation"] = _generation(measured)
    labels, costs = [[label] for label, _ in rows], [cost for _, cost in rows]
    return {title: tabulate(["tying"], labels, columns, costs) for title, columns in tables.items()}


def _memory(measured: list[CostRecord]) -> list[Column[CostRecord]]:
    def mib(header: str, *path: str, optional: bool = False) -> Column[CostRecord]:
        return _figure(measured, header, ("memory", *path), 1 / MIB, "min", optional)

    return [
        _with_holes(_figure(measured, "unique\nparameters", ("num_params",), mode="min", decimals=0)),
        mib("parameters\nMiB", "state", "parameters"),
        mib("optimizer state\nMiB", "state", "optimizer_state"),
        mib("activations MiB\n(train step)", "train_step", "activations"),
        mib("peak MiB\n(train step)", "train_step", "total"),
        mib("peak MiB\n(inference)", "inference", "total"),
        mib("device peak MiB\n(allocated)", "peak_allocated_bytes", optional=True),
        mib("device peak MiB\n(reserved)", "peak_reserved_bytes", optional=True),
        mib("on disk\nMiB", "checkpoint_bytes"),
        *(
            _figure(
                measured, f"largest batch\n({name})", ("memory", "largest_batch", key), mode="max", decimals=0
            )
            for name, key in (("train step", "train_step"), ("inference", "inference"))
        ),
    ]


def _time(measured: list[CostRecord]) -> list[Column[CostRecord]]:
    return [
        _with_holes(_milliseconds(measured, "train step ms\n(median)", "train_step")),
        _ratio("train step\nratio [95 %]", "train_step"),
        *_warm_and_cold(measured, "batch latency", "batch"),
        *_warm_and_cold(measured, "batch 1 latency", "one"),
        _figure(measured, "GFLOP\na train step", ("flops", "train_step"), 1e-9),
        _timed(_figure(measured, "% of peak\nrate", ("flops", "share_of_peak"), 100)),
        _timed(_figure(measured, "energy J\na train step", ("energy", "train_step_j"), optional=True)),
        _timed(_figure(measured, "compilation\ns", ("compile_s",), optional=True)),
    ]


def _generation(measured: list[CostRecord]) -> list[Column[CostRecord]]:
    first, *others = _warm_and_cold(measured, "first token", "first_token")
    cache = ("memory", "kv_bytes_per_token")
    return [
        _with_holes(first),
        *others,
        *_warm_and_cold(measured, "per token", "per_token"),
        _figure(measured, "keys and values\nbytes a token", cache, mode="min", optional=True, decimals=0),
    ]


def _warm_and_cold(measured: list[CostRecord], name: str, key: str) -> list[Column[CostRecord]]:
    return [
        _milliseconds(measured, f"{name} ms\n(median)", "latency", key),
        _ratio(f"{name}\nratio, warm", "latency", key),
        _ratio(f"{name}\nratio, cold", "latency", f"{key}_cold", optional=True),
    ]


def _figure(
    measured: list[CostRecord],
    header: str,
    path: tuple[str, ...],
    unit: float = 1.0,
    mode: str | None = None,
    optional: bool = False,
    decimals: int | None = None,
) -> Column[CostRecord]:
    """Make a column of a number in its unit, at as many decimals as it needs where none are given."""

    def value(cost: CostRecord) -> float | None:
        number = cost.number(*path)
        return None if number is None else number * unit

    if decimals is None:
        decimals = places([number for cost in measured if (number := value(cost)) is not None])

    def text(cost: CostRecord) -> str:
        return fixed(value(cost), decimals) if cost.is_measured else ""

    return Column(header, text, value, mode, optional=optional)


def _milliseconds(measured: list[CostRecord], header: str, *pair: str) -> Column[CostRecord]:
    """Make a column without a best: times of two processes are not compared, their ratios to a twin are."""
    return _timed(_figure(measured, header, (*pair, "tied", "median_s"), 1e3))


def _ratio(header: str, *pair: str, optional: bool = False) -> Column[CostRecord]:
    def text(cost: CostRecord) -> str:
        numbers = (cost.number(*pair, key) for key in ("ratio", "low", "high"))
        return bounded(*numbers, 3) if cost.is_measured else ""

    def value(cost: CostRecord) -> float | None:
        """A ratio that is not shown to be below 1 counts as 1, and so does a copy against itself."""
        ratio, high = cost.number(*pair, "ratio"), cost.number(*pair, "high")
        if ratio is None or cost.suspect:
            return None
        return ratio if high is not None and high < 1 and cost.tying != "none" else 1.0

    return _timed(Column(header, text, value, "min", optional=optional))


def _timed(column: Column[CostRecord]) -> Column[CostRecord]:
    """Mark the texts of a column with ? where the timings are suspect."""

    def text(cost: CostRecord) -> str:
        plain = column.text(cost)
        return f"{plain} ?" if cost.suspect and plain not in ("", NOTHING) else plain

    return replace(column, text=text)


def _with_holes(column: Column[CostRecord]) -> Column[CostRecord]:
    """Let the first column of a table say where nothing is measured."""

    def text(cost: CostRecord) -> str:
        if cost.is_measured:
            return column.text(cost)
        return "n/a" if cost.value("status") == Status.NOT_APPLICABLE else "hole"

    return replace(column, text=text)


def cost_notes(rows: Sequence[tuple[str, CostRecord]]) -> list[str]:
    """Return lines, each a statement of its own, on the tables that `cost_tables` makes of the same rows."""
    measured = list({cost.value("cost"): cost for _, cost in rows if cost.is_measured}.values())
    if not measured:
        return _missing(rows)
    lines = [MEMORY.format(_all(cost.value("memory", "meter") for cost in measured))]
    sizes = ((cost.tying, control_note(cost.fields)) for cost in measured)
    lines += [f"Size of {tying}: {size}; timed against `none`." for tying, size in sizes if size]
    lines += _largest(measured) + _ratios(measured)
    lines += [NOISE] * any(cost.tying == "none" for cost in measured)
    lines += [GENERATION] * any(cost.value("latency", "first_token") is not None for cost in measured)
    lines += [KEYS] * any(cost.value("memory", "kv_bytes_per_token") is not None for cost in measured)
    lines += [_conditions(measured), _turns(measured), *_peak_rate(measured)]
    reasons = _all(cost.value("energy", "unavailable") for cost in measured)
    lines += [f"Energy: not measured ({reasons})."] if reasons else []
    for label, cost in rows:
        if cost.suspect:
            # Each thing timed can have its own reason.
            more = f"; {len(cost.suspect) - 1} more in its record" if cost.suspect[1:] else ""
            lines.append(f"{TIMED} of {label} is suspect (?): {cost.suspect[0]}{more}.")
    return [*lines, *provenance("Costs", [cost.fields for cost in measured]), *_missing(rows)]


def _largest(measured: list[CostRecord]) -> list[str]:
    limits = {cost.number("memory", "largest_batch", "limit_bytes") for cost in measured} - {None}
    if not limits:
        return []
    reasons = _all(
        cost.value("memory", "largest_batch", f"{step}_reason")
        for cost in measured
        for step in ("train_step", "inference")
    )
    unknown = f" Not known (—): {reasons}." if reasons else ""
    within = _all(f"{limit / GIB:g} GiB" for limit in limits)
    return [f"Largest batch: the largest whose exact peak is within {within}.{unknown}"]


def _ratios(measured: list[CostRecord]) -> list[str]:
    warm = [cost.tying for cost in measured if cost.value("latency", "batch_cold") is None]
    if not warm:
        return [RATIOS + COLD]
    which = f" of {_all(warm)}" if len(warm) < len(measured) else ""
    return [RATIOS + COLD * bool(which), WARM.format(which)]


def _conditions(measured: list[CostRecord]) -> str:
    keys = {"precision": "precision", "output layer": "output_precision", "threads": "threads"}
    values = {name: _all(cost.value(key) for cost in measured) for name, key in keys.items()}
    return f"Measured with {', '.join(f'{name} {text}' for name, text in values.items() if text)}."


def _turns(measured: list[CostRecord]) -> str:
    """Say on how many examples, of what length and over how many turns each part is timed, warm and cold together."""
    parts = []
    for key, name in NAMES.items():
        paths = [path for path in PAIRS if "_".join(path).removesuffix("_cold") == key]
        pairs = [pair for path in paths for cost in measured if (pair := cost.value(*path))]
        if pairs:
            window = span(pair.get("window") for pair in pairs)
            text = f"{name}: batch {span(pair.get('batch') for pair in pairs)}"
            text += f", window {window}" if window else ""
            parts.append(f"{text}, {span(pair.get('turns') for pair in pairs)} turns")
    return f"{TIMED}: {'; '.join(parts)}."


def _peak_rate(measured: list[CostRecord]) -> list[str]:
    rates: dict[str, list[float]] = defaultdict(list)
    for cost in measured:
        if (rate := cost.number("flops", "peak_per_s")) is not None:
            rates[str(cost.value("flops", "peak"))].append(rate / 1e9)
    sources = sorted(rates.items())
    parts = [f"{span(values, places(values, 3))} GFLOP/s ({source})" for source, values in sources]
    return [f"{TIMED}: the peak rate is {'; '.join(parts)}."] if parts else []


def _missing(rows: Sequence[tuple[str, CostRecord]]) -> list[str]:
    labels: dict[str, list[str]] = defaultdict(list)
    for label, cost in rows:
        if not cost.is_measured:
            labels[str(cost.value("reason") or cost.value("status") or "not measured yet")].append(label)
    return [
        f"No cost of {'any of these' if len(names) == len(rows) > 1 else ', '.join(names)}: {reason}."
        for reason, names in labels.items()
    ]


def _all(values: Iterable[Any]) -> str:
    """Join the values that occur, each once."""
    return " and ".join(sorted({str(value) for value in values if value is not None}, key=natural))
