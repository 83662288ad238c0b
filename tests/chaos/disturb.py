"""What is done to sweeps, in a random order that a seed fixes, and the counts of it. Imports no torch."""

import os
import random
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

from chaos.sweeps import BREAK, Sweeps, data_bytes, fill, until

MIB = 2**20
MOST_STARTS = 100
"""Of one sweep, before it counts as one that never ends."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
Kill = tuple[str, signal.Signals, bool]
"""(whom, how, only after its first checkpoint)"""


class Chaos:
    """Disturbs `sweeps` and makes each good again by starting the same command again."""

    def __init__(self, sweeps: Sweeps, seed: int, small: bool) -> None:
        self.sweeps, self.random, self.small = sweeps, random.Random(seed), small
        self.kills: Counter[str] = Counter()
        self.struck: set[int] = set()
        self.after_checkpoint, self.data_bytes = 0, 0
        self.wrong: list[str] = []

    def expect(self, what: str, holds: bool) -> None:
        print(f"  {'yes' if holds else 'NO '} {what}", flush=True)
        if not holds:
            self.wrong.append(f"not so: {what}")

    def killed(self, name: str, count: int) -> None:
        """Kill the sweep, its runs and their ranks as planned, starting it again each time, until its end."""
        plan, reasons = self._plan(count), set()
        loses_rank = any(who == "rank" for who, _, _ in plan)
        for _ in range(MOST_STARTS):
            process = self.sweeps.start(name, "retry=true")
            while process.poll() is None:
                time.sleep(self.random.uniform(0.02, 0.2))
                if struck := next((kill for kill in plan if self._strike(process, *kill)), None):
                    plan.remove(struck)
            reasons |= {str(record.get("reason")) for record in self.sweeps.records()}
            if process.returncode == 0:
                break
        self.expect(f"{name}: ends well after {count} kills", process.returncode == 0 and not plan)
        if loses_rank:
            said = "rank 1: killed by SIGKILL"
            self.expect(f"{name}: a record said {said}", any(reason.startswith(said) for reason in reasons))

    def _plan(self, count: int) -> list[Kill]:
        """A quarter controllers, a sixth ranks, the rest runs; a quarter early."""
        whom = ["controller"] * max(1, count // 4) + ["rank"] * (count // 6)
        whom += ["run"] * (count - len(whom))
        late = [at % 4 != 3 for at in range(count)]
        self.random.shuffle(whom)
        self.random.shuffle(late)
        signals = [SIGNALS[at % 2] if who != "rank" else signal.SIGKILL for at, who in enumerate(whom)]
        return list(zip(whom, signals, late, strict=True))

    def _strike(self, process: subprocess.Popen[bytes], who: str, how: signal.Signals, late: bool) -> bool:
        """Whether there was one to kill."""
        saved = self.sweeps.saved()
        logs = saved if late or who == "rank" else self.sweeps.workers()
        fit = [pid for pid, log in logs.items() if who != "rank" or log.name == "log-rank1"]
        choice = sorted(set(fit) - self.struck)
        if not choice:
            return False
        self.data_bytes = max(self.data_bytes, *map(data_bytes, choice))
        victim = process.pid if who == "controller" else self.random.choice(choice)
        if not self.kill(who, victim, how, bool(saved) if who == "controller" else victim in saved):
            return False
        if who == "controller":
            process.wait()
        return True

    def kill(self, who: str, pid: int, how: signal.Signals, saved: bool) -> bool:
        """Whether it was still there. saved: its run has a checkpoint."""
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return False
        self.struck.add(pid)
        self.kills[f"{who} by {how.name}"] += 1
        self.after_checkpoint += saved
        return True

    def good_again(self, name: str) -> None:
        self.expect(f"{name}: the same command makes it good", self.sweeps.finish(name, "retry=true") == 0)

    def break_a_run(self) -> None:
        marker = self.sweeps.scratch / "break"
        marker.touch()
        self.sweeps.finish("broken", env={BREAK: str(marker)})
        reason = self.sweeps.record("broken").get("reason")
        self.expect("broken: a run raises", reason == "RuntimeError: broken on purpose")
        marker.unlink()
        self.good_again("broken")
        self.expect("broken: from its checkpoint", bool(self.sweeps.record("broken").get("resumed_from")))

    def starve_a_run(self) -> None:
        self.sweeps.finish("starved", limits=[(resource.RLIMIT_DATA, self.data_bytes + 64 * MIB)])
        reason = str(self.sweeps.record("starved").get("reason"))
        self.expect(f"starved: a run is out of memory ({reason[:70]}...)", "memory" in reason)
        self.good_again("starved")

    def diverge(self) -> None:
        """And die as soon as that is recorded: what the run still had to put away must not stay."""
        process = self.sweeps.start("diverging")
        running = until(
            lambda: [p for p, log in self.sweeps.workers().items() if "costs" not in log.parts], process
        )
        until(lambda: self.sweeps.record("diverging"), process)
        for pid in running:
            self.kill("run", pid, signal.SIGKILL, saved=False)
        self.expect("diverging: killed just after its record, or at its end", process.wait() == 0)
        self.good_again("diverging")
        self.expect("diverging: a run diverges", self.sweeps.record("diverging").get("status") == "diverged")

    def fill_the_disk(self) -> None:
        """Really, where the runs lie on a small file system of their own, else by a limit on the size of files."""
        how = "no space left" if self.small else "a limit of 4 KiB on files"
        limits = [] if self.small else [(resource.RLIMIT_FSIZE, 4096)]
        process, ballast = self.sweeps.start("unwritten", limits=limits), self.sweeps.folder / "ballast"
        if self.small:  # in the middle of a run
            until(self.sweeps.saved, process)
            fill(ballast)
        ended = process.wait()
        ballast.unlink(missing_ok=True)
        self.expect(f"unwritten ({how}): exit code {ended}, {self.sweeps.last_line()[:90]}", ended in (1, 2))
        self.good_again("unwritten")

    def tear_a_record(self) -> None:
        """Two controllers find it at once, of which one makes it again."""
        torn = self.sweeps.path(self.sweeps.record("killed")["id"])
        before = self._stamps()
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
        both = [self.sweeps.start("killed") for _ in range(2)]
        self.expect("killed: two controllers at once end well", [each.wait() for each in both] == [0, 0])
        after = self._stamps()
        again = [path for path in after if after[path] != before.get(path)]
        self.expect("killed: the torn record alone was made again", again == [torn])

    def _stamps(self) -> dict[object, int]:
        return {path: path.stat().st_mtime_ns for path in self.sweeps.runs.glob("*/record.json")}

    def faults(self) -> dict[str, Callable[[], None]]:
        """By the sweep that each disturbs."""
        return {
            "broken": self.break_a_run,
            "starved": self.starve_a_run,
            "diverging": self.diverge,
            "unwritten": self.fill_the_disk,
        }
