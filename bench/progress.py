"""The line that shows how a sweep is getting on."""

import contextlib
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

from bench.cell import Cell
from bench.records import Status, recorded
from bench.states import run_name

REFRESH_S = {True: 0.5, False: 30.0}
"""Seconds between lines, on a terminal (one line, rewritten) and in a log (a line each)."""


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Prints done / failed / left / time to go and the newest run's metric, to stderr, until it is left."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.live = self.out.isatty()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.running: dict[str, Cell] = {}
        self.begin("", 0)

    def __enter__(self) -> "Progress":
        self.thread = threading.Thread(target=self._refresh, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self.thread.join()
        if self.total and self.spent:
            self._print(last=True)

    def begin(self, phase: str, total: int) -> None:
        """A new phase of `total` runs."""
        with self.lock:
            self.phase, self.total, self.at_once = phase, total, 1
            self.counts: Counter[str] = Counter()
            self.spent: list[float] = []
            self.since: dict[str, float] = {}

    def started(self, cell: Cell) -> None:
        with self.lock:
            self.running[cell.id] = cell
            self.since[cell.id] = time.monotonic()
            self.at_once = max(self.at_once, len(self.since))

    def elsewhere(self, cell: Cell) -> None:
        """Another controller is at it: its record will come from there."""
        with self.lock:
            self.running.pop(cell.id, None)
            self.since.pop(cell.id, None)

    def ended(self, cell: Cell, record: dict[str, Any]) -> None:
        with self.lock:
            self.running.pop(cell.id, None)
            since = self.since.pop(cell.id, None)
            self.counts[record["status"]] += 1
            if since is None:  # it had been recorded before, and told then
                return
            if record["status"] == Status.DONE:
                self.spent.append(time.monotonic() - since)
            # Of a single run the command line says at the end what became of it.
            if self.total > 1 and record["status"] not in (Status.DONE, Status.NOT_APPLICABLE):
                self._write(f"{record['status']}: {_name(cell)}: {record['reason']}\n")

    def line(self) -> str:
        """`training 12/60: 11 done, 1 failed, 48 left, 9:40 to go | text_gru soft(...) step 340/900 perplexity 121`"""
        with self.lock:
            ended = sum(self.counts.values())
            parts = [f"{self.counts[Status.DONE]} done"]
            parts += [
                f"{n} {s.replace('_', ' ')}" for s, n in sorted(self.counts.items()) if s != Status.DONE
            ]
            if self.counts[Status.FAILED] == 0:
                parts.append("0 failed")
            parts.append(f"{self.total - ended} left")
            if self.spent and ended < self.total:
                each = sum(self.spent) / len(self.spent)
                left = (self.total - ended - len(self.running)) * each + sum(
                    max(0.0, each - (time.monotonic() - since)) for since in self.since.values()
                )
                parts.append(f"{_clock(left / self.at_once)} to go")
            newest = next(reversed(self.running.values()), None)
        text = f"{self.phase} {ended}/{self.total}: {', '.join(parts)}"
        return text if newest is None else f"{text} | {_name(newest)}{_position(newest.folder)}"

    def _refresh(self) -> None:
        while not self.over.wait(REFRESH_S[self.live]):
            if self.total:
                self._print(last=False)

    def _print(self, last: bool) -> None:
        line = self.line()
        with self.lock:
            if self.live:
                self.out.write(f"\r\x1b[2K{line[: _columns() - 1]}" + ("\n" if last else ""))
            else:
                self.out.write(line + "\n")
            self.out.flush()

    def _write(self, text: str) -> None:
        self.out.write(("\r\x1b[2K" if self.live else "") + text)
        self.out.flush()


def _name(cell: Cell) -> str:
    return run_name(cell.header())


def _position(folder: Path) -> str:
    status = recorded(folder / "status.json") or {}
    text = f" step {status['step']}/{status['steps']}" if status else ""
    return text if status.get("value") is None else f"{text} {status['metric']} {status['value']:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
