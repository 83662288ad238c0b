"""Show what each tying costs as tables, and the notes below them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.costs import PAIRS
from bench.analysis.groups import control_note, natural
from bench.analysis.runs import is_finite, look_up
from bench.report.markup import Column, Table, tabulate
from bench.report.notes import provenance
from bench.report.numbers import NOTHING, fixed, places, ratio
from bench.runs.store import Status

MIB = 2**20

Cost = Mapping[str, Any]
"""A cost record; {} where there is none."""


def cost_tables(rows: Sequence[tuple[str, Cost]]) -> dict[str, Table]:
    """Title -> table of the cost records, each with the label of its row; {} where none is measured."""
    measured = [cost for _, cost in rows if is_measured(cost)]
    if not measured:
        return {}
    tables = {"Memory": _memory(measured), "Time": _time(measured)}
    if any(look_up(cost, "latency", "first_token") for cost in measured):
        tables["Generation"] = _generation(measured)
    labels, costs = [[label] for label, _ in rows], [cost for _, cost in rows]
    return {
        title: tabulate(["tying"], labels, [_with_holes(first), *more], costs)
        for title, (first, *more) in tables.items()
    }


def is_measured(cost: Cost) -> bool:
    return cost.get("status") == Status.DONE


def _with_holes(column: Column[Cost]) -> Column[Cost]:
    def text(cost: Cost) -> str:
        if is_measured(cost):
            return column.text(cost)
        return "n/a" if cost.get("status") == Status.NOT_APPLICABLE else "hole"

    return replace(column, text=text)


def _memory(measured: list[Cost]) -> list[Column[Cost]]:
    def mib(header: str, *path: str, optional: bool = False) -> Column[Cost]:
        return _figure(measured, header, ("memory", *path), 1 / MIB, "min", optional)

    return [
        _count("unique\nparameters", ("num_params",), "min"),
        mib("parameters\nMiB", "state", "parameters"),
        mib("optimizer state\nMiB", "state", "optimizer_state"),
        mib("activations MiB\n(train step)", "train_step", "activations"),
        mib("peak MiB\n(train step)", "train_step", "total"),
        mib("peak MiB\n(inference)", "inference", "total"),
        mib("device peak MiB\n(allocated)", "peak_allocated_bytes", optional=True),
        mib("device peak MiB\n(reserved)", "peak_reserved_bytes", optional=True),
        mib("on disk\nMiB", "checkpoint_bytes"),
        _count("largest batch\n(train step)", ("memory", "largest_batch", "train_step"), "max"),
        _count("largest batch\n(inference)", ("memory", "largest_batch", "inference"), "max"),
    ]


def _time(measured: list[Cost]) -> list[Column[Cost]]:
    return [
        _milliseconds(measured, "train step ms\n(median)", ("train_step",)),
        _ratio("train step\nratio [95 %]", ("train_step",)),
        _milliseconds(measured, "batch latency ms\n(median)", ("latency", "batch")),
        _ratio("batch latency\nratio, warm", ("latency", "batch")),
        _ratio("batch latency\nratio, cold", ("latency", "batch_cold"), optional=True),
        _milliseconds(measured, "batch 1 latency ms\n(median)", ("latency", "one")),
        _ratio("batch 1 latency\nratio, warm", ("latency", "one")),
        _ratio("batch 1 latency\nratio, cold", ("latency", "one_cold"), optional=True),
        _figure(measured, "GFLOP\na train step", ("flops", "train_step"), 1e-9),
        _timed(_figure(measured, "% of peak\nrate", ("flops", "share_of_peak"), 100)),
        _timed(_figure(measured, "energy J\na train step", ("energy", "train_step_j"), optional=True)),
        _timed(_figure(measured, "compilation\ns", ("compile_s",), optional=True)),
    ]


def _generation(measured: list[Cost]) -> list[Column[Cost]]:
    columns = []
    for what, path in (("first token", "first_token"), ("per token", "per_token")):
        columns += [
            _milliseconds(measured, f"{what} ms\n(median)", ("latency", path)),
            _ratio(f"{what}\nratio, warm", ("latency", path)),
            _ratio(f"{what}\nratio, cold", ("latency", f"{path}_cold"), optional=True),
        ]
    return columns


def _count(header: str, path: tuple[str, ...], mode: str) -> Column[Cost]:
    return Column(header, _text(lambda cost: fixed(_number(cost, path), 0)), lambda c: _number(c, path), mode)


def _figure(
    measured: list[Cost],
    header: str,
    path: tuple[str, ...],
    unit: float = 1.0,
    mode: str | None = None,
    optional: bool = False,
) -> Column[Cost]:
    """A number in its unit, at as many decimals as the column needs."""

    def value(cost: Cost) -> float | None:
        found = _number(cost, path)
        return None if found is None else found * unit

    decimals = places([found for cost in measured if (found := value(cost)) is not None])
    return Column(header, _text(lambda cost: fixed(value(cost), decimals)), value, mode, optional=optional)


def _milliseconds(measured: list[Cost], header: str, pair: tuple[str, ...]) -> Column[Cost]:
    """No best: times of two processes are not compared, their ratios to a twin beside them are."""
    return _timed(_figure(measured, header, (*pair, "tied", "median_s"), 1e3))


def _ratio(header: str, pair: tuple[str, ...], optional: bool = False) -> Column[Cost]:
    def text(cost: Cost) -> str:
        return ratio(*(_number(cost, (*pair, key)) for key in ("ratio", "low", "high")))

    def value(cost: Cost) -> float | None:
        """A ratio that is not shown to be below 1 counts as 1, and so does a copy against itself."""
        found, high = _number(cost, (*pair, "ratio")), _number(cost, (*pair, "high"))
        if found is None or cost.get("suspect"):
            return None
        return found if high is not None and high < 1 and cost.get("tying") != "none" else 1.0

    return _timed(Column(header, _text(text), value, "min", optional=optional))


def _timed(column: Column[Cost]) -> Column[Cost]:
    """Marked with ? where the timings are suspect."""

    def text(cost: Cost) -> str:
        said = column.text(cost)
        return f"{said} ?" if cost.get("suspect") and said not in ("", NOTHING) else said

    return replace(column, text=text)


def _text(said: Callable[[Cost], str]) -> Callable[[Cost], str]:
    return lambda cost: said(cost) if is_measured(cost) else ""


def _number(cost: Cost, path: tuple[str, ...]) -> float | None:
    """None where nothing is recorded there, or nothing was measured at all."""
    value = look_up(cost, *path)
    return value if is_finite(value) else None


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
NAMES = {
    "train_step": "train step",
    "latency_batch": "batch latency",
    "latency_one": "batch 1 latency",
    "latency_first_token": "first token",
    "latency_per_token": "per token",
}


def cost_notes(rows: Sequence[tuple[str, Cost]]) -> list[str]:
    """Lines, each a statement of its own, on the tables that `cost_tables` makes of the same rows."""
    measured = list({str(cost.get("cost")): cost for _, cost in rows if is_measured(cost)}.values())
    if not measured:
        return _missing(rows)
    lines = [MEMORY.format(_all(cost["memory"].get("meter") for cost in measured))]
    lines += [
        f"Size of {cost['tying']}: {said}; timed against `none`."
        for cost in measured
        if (said := control_note(cost))
    ]
    lines += (
        _largest(measured)
        + _ratios(measured)
        + [NOISE] * any(cost.get("tying") == "none" for cost in measured)
    )
    lines += [GENERATION] * any(look_up(cost, "latency", "first_token") is not None for cost in measured)
    lines += _conditions(measured) + _timed_records(measured) + _rate(measured) + _energy(measured)
    lines += [_suspect(label, cost) for label, cost in rows if cost.get("suspect")]
    return [*lines, *provenance("Costs", measured), *_missing(rows)]


def _largest(measured: list[Cost]) -> list[str]:
    limits = {look_up(cost, "memory", "largest_batch", "limit_bytes") for cost in measured}
    said = _all(f"{limit / GIB:g} GiB" for limit in limits if is_finite(limit))
    if not said:
        return []
    unknown = _all(
        look_up(cost, "memory", "largest_batch", f"{step}_reason")
        for cost in measured
        for step in ("train_step", "inference")
    )
    because = f" Not known (—): {unknown}." if unknown else ""
    return [f"Largest batch: the largest whose exact peak is within {said}.{because}"]


def _ratios(measured: list[Cost]) -> list[str]:
    warm = [cost["tying"] for cost in measured if look_up(cost, "latency", "batch_cold") is None]
    if not warm:
        return [RATIOS + COLD]
    some = f" of {_all(warm)}" if len(warm) < len(measured) else ""
    return [RATIOS + COLD * bool(some), WARM.format(some)]


def _conditions(measured: list[Cost]) -> list[str]:
    said = {
        "precision": _all(cost.get("precision") for cost in measured),
        "output layer": _all(cost.get("output_precision") for cost in measured),
        "threads": _all(cost.get("threads") for cost in measured),
    }
    return [f"Measured with {', '.join(f'{what} {text}' for what, text in said.items() if text)}."]


def _timed_records(measured: list[Cost]) -> list[str]:
    """Of each thing timed, warm and cold together: on how many examples, of what length, over how many turns."""
    said = []
    for name, spoken in NAMES.items():
        pairs = [
            pair
            for path in PAIRS
            if "_".join(path).removesuffix("_cold") == name
            for cost in measured
            if (pair := look_up(cost, *path))
        ]
        if pairs:
            window = _span(pair.get("window") for pair in pairs)
            parts = [f"batch {_span(pair.get('batch') for pair in pairs)}"]
            parts += [f"window {window}"] if window else []
            said.append(f"{spoken}: {', '.join(parts)}, {_span(pair.get('turns') for pair in pairs)} turns")
    return [f"{TIMED}: {'; '.join(said)}."]


def _rate(measured: list[Cost]) -> list[str]:
    found: dict[str, list[float]] = {}
    for cost in measured:
        rate = look_up(cost, "flops", "peak_per_s")
        if is_finite(rate):
            found.setdefault(str(look_up(cost, "flops", "peak")), []).append(rate / 1e9)
    said = [f"{_span(rates, places(rates, 3))} GFLOP/s ({what})" for what, rates in sorted(found.items())]
    return [f"{TIMED}: the peak rate is {'; '.join(said)}."] if said else []


def _energy(measured: list[Cost]) -> list[str]:
    reasons = _all(look_up(cost, "energy", "unavailable") for cost in measured)
    return [f"Energy: not measured ({reasons})."] if reasons else []


def _suspect(label: str, cost: Cost) -> str:
    """The first reason, and how many there are: each thing timed can have its own."""
    first, *more = cost["suspect"]
    counted = f"; {len(more)} more in its record" if more else ""
    return f"{TIMED} of {label} is suspect (?): {' '.join(str(first).split())}{counted}."


def _missing(rows: Sequence[tuple[str, Cost]]) -> list[str]:
    labels: dict[str, list[str]] = {}
    for label, cost in rows:
        if not is_measured(cost):
            why = str(cost.get("reason") or cost.get("status") or "not measured yet")
            labels.setdefault(why, []).append(label)
    return [
        f"No cost of {'any of these' if len(of) == len(rows) > 1 else ', '.join(of)}: {why}."
        for why, of in labels.items()
    ]


def _all(values: Iterable[Any]) -> str:
    """The values that occur, each once."""
    return " and ".join(sorted({str(value) for value in values if value is not None}, key=natural))


def _span(values: Iterable[float | None], decimals: int = 0) -> str:
    """`62`, or `40 to 62` of several; empty of none."""
    found = [value for value in values if value is not None]
    ends = (min(found), max(found)) if found else ()
    return " to ".join(dict.fromkeys(fixed(end, decimals) for end in ends))
