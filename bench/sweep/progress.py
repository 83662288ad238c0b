"""Show how a sweep is getting on, and what a single run ended with. No torch."""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bench.analysis.groups import control_note
from bench.config.run_config import RunConfig
from bench.runs import lock
from bench.runs.machine import WAITING
from bench.runs.store import Status, recorded
from bench.sweep.run_or_load import Record
from bench.sweep.state import Durations, kinship, makespan, run_name

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


def outcome(cell: RunConfig, record: Record) -> str:
    """Return the lines on a run: the headline figures of a finished one, where it lies of another."""
    if record["status"] != Status.DONE:
        return f"{record['status']}: {cell.folder}"
    figures = "  ".join(f"{k} {v:.5g}" for k, v in record["test"].items() if isinstance(v, int | float))
    control = f"{note}\n" if (note := control_note(record)) else ""
    return (
        f"{record['task']} on {record['data']}, tying {record['tying']}, seed {record['seed']}: "
        f"{record['num_params']:,} of {record['num_params_untied']:,} parameters\n"
        f"{control}{_begun(record)}"
        f"test  {figures}  (epoch {record['best_epoch']:.3g} of {record['epochs']}, chosen on validation)\n"
        f"record: {cell.folder / 'record.json'}"
    )


def _origin(start: Record) -> str:
    """Name what a run began from, of which `test` is the score: a trained model's as tied, before any training."""
    return f"{start['model']}, tied and not trained yet" if "model" in start else f"run {start['run']}"


def _begun(record: Record) -> str:
    """Return what was found out or trained before the run, a line each."""
    lines = []
    if record.get("learned_from"):
        labels = " ".join(map(str, record["config"]["tying"]["grouping"]))
        lines.append(f"groups: {labels}, learned from run {record['learned_from']}\n")
    if record.get("start"):
        reached = record["start"]["test"][record["metric"]["name"]]
        lines.append(
            f"started from {_origin(record['start'])}: test {record['metric']['name']} {reached:.5g}\n"
        )
    return "".join(lines)


PER_SECOND = 2
"""How often a terminal is drawn anew."""

LINE_S = 30.0
"""Seconds between the lines in a log."""

TAIL_BYTES = 1000
"""How much of a run's log is read for its last line."""


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Shows done / failed / left / time to go and where the newest run is, on stderr, until it is left."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.lock, self.over = threading.Lock(), threading.Event()
        self.running: dict[str, RunConfig] = {}
        self.begin("", ())
        self.live = _live(self) if self.out.isatty() else None

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        else:
            self.thread = threading.Thread(target=self._write_lines, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.live:
            self.live.transient = not self.any_ran
            self.live.stop()
            return
        self.over.set()
        self.thread.join()
        if self.any_ran:
            self._write(self.line())

    def begin(
        self,
        phase: str,
        cells: Sequence[RunConfig],
        folder: Callable[[RunConfig], Path] = attrgetter("folder"),
    ) -> None:
        """Start a phase of runs, or of measurements. `folder`: where what is made for a cell lies."""
        with self.lock:
            self.phase, self.total, self.folder, self.at_once = phase, len(cells), folder, 1
            self.counts: Counter[str] = Counter()
            self.left = {cell.id: kinship(cell) for cell in cells}
            self.took, self.any_ran = Durations(), False
            self.since: dict[str, float] = {}
            self.others: dict[str, RunConfig] = {}
            self.begun = time.monotonic()

    def started(self, cell: RunConfig) -> None:
        with self.lock:
            self.others.pop(cell.id, None)
            self.running[cell.id] = cell
            self.since[cell.id] = time.monotonic()
            self.at_once = max(self.at_once, len(self.since))

    def elsewhere(self, cell: RunConfig) -> None:
        """Note that another controller is at the cell: its record will come from there."""
        with self.lock:
            self.running.pop(cell.id, None)
            self.since.pop(cell.id, None)
            self.others[cell.id] = cell

    def ended(self, cell: RunConfig, record: Record) -> None:
        with self.lock:
            self.running.pop(cell.id, None)
            self.others.pop(cell.id, None)
            since = self.since.pop(cell.id, None)
            self.counts[record["status"]] += 1
            self.left.pop(cell.id, None)
            if since is None:  # it had been recorded before, and told then
                return
            if record["status"] == Status.DONE:
                self.took.add(kinship(cell), time.monotonic() - since)
                self.any_ran = True
        # Of a single run the command line says at the end what became of it.
        if self.total > 1 and record["status"] not in (Status.DONE, Status.NOT_APPLICABLE):
            self._write(f"{record['status']}: {_name(cell)}: {record['reason']}")

    def say(self, text: str) -> None:
        """Print a line of its own."""
        with self.lock:
            self._write(f"{text}\n")

    def line(self) -> str:
        """`training 12/60: 11 done, 1 failed, 48 left, 2:10 elapsed, 9:40 to go | perplexity 9, step 3/9: text_gru`"""
        with self.lock:
            text = f"{self.phase} {self._ended}/{self.total}: {self._counted()}, {self._times()}"
        return f"{text} | {where}" if (where := self._where()) else text

    def drawn(self) -> "RenderableType":
        """The same for a terminal: a bar with the time since the phase began and the time to go, counts, newest run."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self.lock:
            bar = Table.grid(padding=(0, 1))
            bar.add_row(
                self.phase,
                ProgressBar(self.total, self._ended, width=30),
                f"{self._ended}/{self.total}",
                self._times(),
            )
            counts = self._counted()
        lines = [Text(part, no_wrap=True, overflow="ellipsis") for part in (counts, self._where()) if part]
        return Group(bar, *lines) if self.total else Group()

    @property
    def _ended(self) -> int:
        return sum(self.counts.values())

    def _counted(self) -> str:
        parts = [f"{self.counts[Status.DONE]} done"]
        parts += [f"{n} {s.replace('_', ' ')}" for s, n in sorted(self.counts.items()) if s != Status.DONE]
        if self.counts[Status.FAILED] == 0:
            parts.append("0 failed")
        return ", ".join([*parts, f"{self.total - self._ended} left"])

    def _times(self) -> str:
        """Return the time since the phase began and, where a run has ended and others are left, the time to go.

        That is an estimate by the runs of the phase that are alike. `perhaps`: where some have none, they count as the
        others on average.
        """
        now = time.monotonic()
        elapsed = f"{_clock(now - self.begun)} elapsed"
        expected = [
            None
            if (seconds := self.took.expected(kin)) is None
            else max(0.0, seconds - now + self.since.get(key, now))
            for key, kin in self.left.items()
        ]
        seconds, unknown = makespan(expected, self.at_once)
        if not expected or seconds is None:
            return elapsed
        return f"{elapsed}, {'perhaps ' * bool(unknown)}{_clock(seconds)} to go"

    def _where(self) -> str:
        """Say how far the newest run is, and which it is, or what is waited for; empty where nothing is under way.

        What changes comes first: a narrow terminal shows no more.
        """
        with self.lock:
            newest = next(reversed(self.running.values()), None)
            others = list(self.others.values())
        if newest is not None:
            return ": ".join(filter(None, (_position(self.folder(newest)), _name(newest))))
        if not others:
            return ""
        folder = self.folder(others[0])
        holder = lock.holder(folder)
        host = f" on {holder.host}, heard of {holder.age_s:.0f} s ago" if holder else ""
        position = f", {where}" if (where := _position(folder)) else ""
        return f"waiting for another controller's {_name(others[0])}{position}{host}"

    def _write_lines(self) -> None:
        while not self.over.wait(LINE_S):
            if self.total:
                self._write(self.line())

    def _write(self, text: str) -> None:
        """Write a line that stays; on a terminal above the bar."""
        if self.live:
            self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self.out.write(f"{text}\n")
            self.out.flush()


def _live(progress: Progress) -> "Live | None":
    """Return rich's display of `progress`; None on a terminal that cannot move its cursor (TERM=dumb).

    Imports rich, 0.04 s, which only a terminal needs.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(file=progress.out)
    if console.is_dumb_terminal:
        return None
    return Live(
        console=console,
        get_renderable=progress.drawn,
        refresh_per_second=PER_SECOND,
        redirect_stdout=False,  # what goes to a file must not come out here
    )


def _name(cell: RunConfig) -> str:
    return run_name(cell.header())


def _position(folder: Path) -> str:
    """Say how far the run in `folder` is; before its first step what it waits for, as the last line of its log says."""
    status = recorded(folder / "status.json")
    if status is None:
        waiting = _last_line(folder / "log")
        return waiting.removeprefix("note: ") if waiting.startswith(WAITING) else ""
    text = f"step {status['step']}/{status['steps']}"
    return text if status.get("value") is None else f"{status['metric']} {status['value']:.4g}, {text}"


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return (file.read().decode(errors="replace").splitlines() or [""])[-1]
    return ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
