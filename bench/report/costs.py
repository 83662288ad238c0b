"""What each tying costs, as tables: a row per cost record; memory, time and, where a model writes text, generation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.records import Status
from bench.report.columns import Column, tabulate
from bench.report.markup import Table
from bench.report.numbers import NOTHING, fixed, places, ratio
from bench.report.rows import is_finite, look_up

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
