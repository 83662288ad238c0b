"""What stands below the tables of costs: how they were measured, which are suspect, which are missing and why."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.report.control import control_note
from bench.report.cost_columns import PAIRS
from bench.report.costs import Cost, is_measured
from bench.report.footer import provenance
from bench.report.numbers import fixed, places
from bench.report.order import natural
from bench.report.rows import is_finite, look_up

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
    lines += _conditions(measured) + _timed(measured) + _rate(measured) + _energy(measured)
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


def _timed(measured: list[Cost]) -> list[str]:
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
