"""The state of a sweep in the terminal: what is done, what is at work, what went wrong, how long. No torch.

`python -m bench.status` or `make status`; it reads the runs folder and writes nothing.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.analysis.archive import chosen_names
from bench.analysis.groups import grouped
from bench.runs import machine
from bench.runs.code import other_code
from bench.runs.command_line import add_places, add_sweep, framed, parser
from bench.runs.store import Status, cost_folder, manifest_path, read_json, recorded, run_folder
from bench.sweep import state as states
from bench.sweep.state import (
    COST,
    SHOWN,
    Durations,
    State,
    count,
    in_words,
    run_name,
    state_of,
    tally,
)
from bench.tying.errors import BadInput

EXPLAINED = (Status.FAILED, Status.DIVERGED, Status.INTERRUPTED, Status.NOT_APPLICABLE)

WIDTH = 98
MOST = 20
"""How many running ones, and how many reasons of a kind, are listed."""

KEYS = ("id", "task", "data", "tying", "dropout", "weight_decay", "seed", "cost")

Entry = tuple[Mapping[str, Any], State]
"""A run's line in the manifest, and its state."""


def report(runs: Path, names: Sequence[str] | None = None) -> str:
    """Return the state of the named sweeps (None: of every one) as text: in full of one, a line each of several.

    BadInput for an unknown sweep, a torn manifest and a record of a newer schema.
    """
    chosen = chosen_names(names, runs)
    if len(chosen) == 1:
        return _in_full(runs, chosen[0])
    width = max(map(len, chosen))
    lines = [f"{name:{width}}  {_counts(state for _, state in _look(runs, name))}" for name in chosen]
    return "\n".join([*lines, f"one of them in full: python -m bench.status --runs {runs} --sweep NAME"])


def _look(runs: Path, name: str, part: str = "runs") -> Iterator[Entry]:
    """Yield the runs that the sweep consists of, or those of a part of `states.PHASES`."""
    path = manifest_path(runs, name)
    entries = read_json(path).get(part, [] if part in states.PHASES else None)
    try:
        unique = {entry["id"]: {key: entry[key] for key in KEYS} for entry in entries}
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({error!r}); delete it and run the sweep again") from error
    for run_id, entry in unique.items():
        yield entry, state_of(run_folder(runs, run_id))


def _in_full(runs: Path, name: str) -> str:
    grid, before = list(_look(runs, name)), {part: list(_look(runs, name, part)) for part in states.PHASES}
    entries = [*sum(before.values(), []), *grid]
    counted = ((entry, [SHOWN[state.status], "total"]) for entry, state in grid)
    parts = [
        f"sweep {name} in {runs}/: {_counts(state for _, state in grid)}",
        tally(counted, [*SHOWN.values(), "total"]).rstrip(),
        _costs(runs, grid),
        *(
            f"{states.PHASES[part]}: {_counts(state for _, state in members)}"
            for part, members in before.items()
            if any(state.is_open for _, state in members)
        ),
        _other_code(entries),
        _running(runs, entries),
        _reasons(runs, entries),
        _to_go(runs, entries),
        _measured(entries),
        _next(runs, name, entries),
    ]
    return "\n\n".join(part for part in parts if part)


def _counts(states: Iterable[State]) -> str:
    counts = Counter(SHOWN[state.status] for state in states)
    counted = ", ".join(f"{counts[column]:,} {column}" for column in SHOWN.values() if counts[column])
    return f"{count(sum(counts.values()), 'run')}: {counted or 'none'}"


def _costs(runs: Path, entries: Sequence[Entry]) -> str:
    """Say what is missing of the measurements that come before the runs; nothing where all are there."""
    ids = {entry["cost"] for entry, _ in entries} - {None}
    costs = {cost: state_of(cost_folder(runs, cost), COST) for cost in ids}
    missing = {
        cost: state
        for cost, state in costs.items()
        if state.status not in (Status.DONE, Status.NOT_APPLICABLE)
    }
    if not missing:
        return ""
    counts = Counter(state.status for state in missing.values())
    statuses = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    lines = [f"costs: {len(costs) - len(missing)} of {len(costs)} measured, {statuses}"]
    for cost, state in missing.items():
        if state.status == Status.FAILED:
            lines.append(_wrapped(f"{state.reason} (log: {cost_folder(runs, cost) / 'log'})", "  "))
    return "\n".join(lines)


def _other_code(entries: Sequence[Entry]) -> str:
    stale = [state for _, state in entries if state.changed]
    if not stale:
        return ""
    reason = other_code(name for state in stale for name in state.changed)
    counted = f"{count(len(stale), 'recorded run')} {reason}, counted as queued"
    return _wrapped(f"{counted}: the sweep makes them again, reuse=true accepts them", "", "  ")


def _running(runs: Path, entries: Sequence[Entry]) -> str:
    running = [(entry, state) for entry, state in entries if state.status == Status.RUNNING]
    lines = [f"running: {len(running)}"] if running else []
    for entry, state in running[:MOST]:
        where = f"beat {in_words(state.beat_s or 0)} ago on {state.host}"
        log = run_folder(runs, entry["id"]) / "log"
        again = [f"attempt {state.attempts}"] if state.attempts > 1 else []
        lines += [
            f"  {run_name(entry)}",
            _wrapped(", ".join([_position(state), *again, where, f"log {log}"]), "    "),
        ]
    lines += [f"  and {len(running) - MOST} more"] if len(running) > MOST else []
    return "\n".join(lines)


def _measured(entries: Sequence[Entry]) -> str:
    """Say who measures alone on this machine, where there are runs that wait for it."""
    waits = any(state.status == Status.QUEUED for _, state in entries)
    if not waits or (measured_by := machine.measured_by()) is None:
        return ""
    return _wrapped(f"runs wait on this machine for a measurement to end: {measured_by}", "", "  ")


def _position(state: State) -> str:
    if state.step is None:
        return "starting"
    text = f"step {state.step}/{state.steps}"
    return text if state.value is None else f"{text} {state.metric} {state.value:.4g}"


def _reasons(runs: Path, entries: Sequence[Entry]) -> str:
    """Say why runs have no number, most frequent first: reasons that differ in figures alone are told as one."""
    blocks = []
    for status in EXPLAINED:
        members = [entry for entry in entries if entry[1].status == status]
        groups = grouped(members, lambda entry: re.sub(r"\d+", "0", str(entry[1].reason)))
        for members in sorted(groups.values(), key=len, reverse=True)[:MOST]:
            blocks.append(_reason(runs, SHOWN[status], members))
        if len(groups) > MOST:
            blocks.append(f"{SHOWN[status]}: and {len(groups) - MOST} other reasons")
    return "\n".join(blocks)


def _reason(runs: Path, status: str, members: Sequence[Entry]) -> str:
    entry, state = members[0]
    text = _wrapped(f"{status} x {len(members)}: {state.reason or 'no reason is recorded'}", "", "  ")
    if status == SHOWN[Status.NOT_APPLICABLE]:
        return text
    log = run_folder(runs, entry["id"]) / "log"
    return f"{text}\n" + _wrapped(f"see {log} ({run_name(entry)})", "    ")


def _to_go(runs: Path, entries: Sequence[Entry]) -> str:
    left = [(entry, state) for entry, state in entries if state.is_open]
    if not left:
        return ""
    took = Durations()
    for entry, state in entries:
        if state.status == Status.DONE:
            took.add(_alike(entry), state.seconds)
    going = sum(state.status == Status.RUNNING for _, state in left)
    workers = going or max(1, machine.cores() // _threads(runs, entries))
    seconds, unknown = took.span(((_alike(entry), state.share_left) for entry, state in left), workers)
    if seconds is None:
        return "time to go: unknown, no run of these tasks has finished"
    by = f"{going} running at once" if going else f"none is running; {workers} at once on this machine"
    doubt = f"; {unknown} of tasks without a finished run count as the others" if unknown else ""
    return f"time to go: about {in_words(seconds)} ({by}{doubt})"


def _alike(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    task = entry["task"], entry["data"]
    return [(*task, entry["tying"]), task]


def _threads(runs: Path, entries: Sequence[Entry]) -> int:
    """Return the CPU threads of a run, as the first run that was asked for says; 1 before there is one."""
    for entry, _ in entries:
        request = recorded(run_folder(runs, entry["id"]) / "request.json")
        if request is not None:
            return request["provenance"]["threads"]
    return 1


def _next(runs: Path, name: str, entries: Sequence[Entry]) -> str:
    """Return the commands that bring the sweep on."""
    is_shipped = (machine.CONF / "sweep" / f"{name}.yaml").exists()
    elsewhere = f"runs={runs}" if runs != Path("runs") else ""
    if machine.IS_CHECKOUT:
        arguments = f"SWEEP={name}" + (f" ARGS={elsewhere}" if elsewhere else "")
        go, retry = f"make sweep {arguments}", f"make retry {arguments}"
    else:
        go = f"tying-bench -m sweep={name} {elsewhere}".rstrip()
        retry = f"{go} retry=true"
    if not is_shipped:
        go, retry = "the command that started it, once more", "the command that started it, with retry=true"
    lines = []
    if any(state.status == Status.RUNNING for _, state in entries):
        lines.append(f"should it be stopped, it goes on with: {go}")
    elif any(state.is_left for _, state in entries):
        lines.append(f"to go on: {go}")
    if any(state.status == Status.FAILED for _, state in entries):
        lines.append(f"to run failed ones again: {retry}")
    return "\n".join(lines or [f"complete; its tables: python -m bench.tables --runs {runs} --sweep {name}"])


def _wrapped(text: str, first: str, rest: str | None = None) -> str:
    indents = {"initial_indent": first, "subsequent_indent": first if rest is None else rest}
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False, **indents)


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the state that the command line asks for."""
    options = parser(
        "bench.status",
        "Print the state of recorded sweeps: what is done, running, left and failed, and the time to go.",
    )
    add_places(options, runs="of the records")
    add_sweep(options, "one sweep in full (default: a line for each)")
    chosen = options.parse_args(arguments)
    print(report(Path(chosen.runs), chosen.sweep))


if __name__ == "__main__":
    sys.exit(main())
