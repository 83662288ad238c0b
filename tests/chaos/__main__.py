"""`make chaos`: prints what was done and whether it made a difference; exit code 1 if it did."""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.compare import differences, leftovers
from chaos.disturb import Chaos
from chaos.sweeps import Sweeps, grids

SPACE = "256m"
"""Of the small file system that can be filled."""

ENDING_S = 15.0
"""In which the last processes have to be gone."""


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _asked(arguments)
    names = ["killed", *asked.faults]
    overrides = {name: words for name, words in grids(asked.runs).items() if name in names}
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
        folder.mkdir(parents=True, exist_ok=True)
        scratches = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="c"))) for _ in range(2)]
        cache = asked.cache or folder / "cache"
        sweeps = Sweeps(folder / "disturbed", cache, scratches[0], overrides)
        calm = Sweeps(folder / "calm", cache, scratches[1], overrides)
        stack.callback(calm.end)
        stack.callback(sweeps.end)
        with _small_disk(sweeps.folder, "unwritten" in names) as small:
            chaos = Chaos(sweeps, asked.seed, small)
            _disturb(chaos, asked.faults, asked.kills)
        print("the same sweeps left alone", flush=True)
        for name in overrides:
            chaos.expect(f"{name}: ends well", calm.finish(name) == 0)
        wrong = chaos.wrong + differences(sweeps.folder, calm.folder)
        wrong += [f"left over: {name}" for name in leftovers(sweeps.runs)]
        wrong += [f"still there: process {name}" for name in _remaining(sweeps)]
        _tell(chaos, calm)
    print("\n".join(wrong[:50]) or "equal: every record, every table, and nothing left over")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    others = [name for name in grids(4) if name != "killed"]
    parser = argparse.ArgumentParser("make chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="runs of the sweep that is killed (%(default)s)")
    parser.add_argument("--kills", type=int, default=30, help="kills in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of what is done (%(default)s)")
    parser.add_argument("--faults", nargs="*", choices=others, default=others, help="others than kills (all)")
    parser.add_argument("--folder", type=Path, help="keep what the sweeps leave in this new folder")
    parser.add_argument("--cache", type=Path, help="prepared data")
    asked = parser.parse_args(arguments)
    if not Path("/proc/self/environ").exists():
        parser.error("it finds what to kill in /proc, which is not there")
    if asked.folder is not None and asked.folder.exists() and any(asked.folder.iterdir()):
        parser.error(f"{asked.folder} is not empty: name a new folder")
    return asked


def _disturb(chaos: Chaos, faults: Sequence[str], kills: int) -> None:
    """Kills first; they also say how much memory a run needs. `mirrored` takes two of them."""
    print("sweeps that are disturbed", flush=True)
    elsewhere = 2 * ("mirrored" in faults)
    chaos.killed("killed", kills - elsewhere)
    if "mirrored" in faults:
        chaos.killed("mirrored", 2)
        folders = list(chaos.sweeps.runs.glob("*/wandb/*run-*"))
        named = {(path.parents[1].name, path.name.rpartition("-")[2]) for path in folders}
        chaos.expect(
            f"mirrored: 2 runs of W&B in {len(folders)} attempts",
            len(named) == 2 < len(folders) and all(run == there for run, there in named),
        )
    for name, disturb in chaos.faults().items():
        if name in faults:
            disturb()
    chaos.tear_a_record()
    chaos.expect(
        f"{chaos.after_checkpoint} of {chaos.kills.total()} kills came after the first checkpoint, half are asked",
        2 * chaos.after_checkpoint >= chaos.kills.total() >= kills,
    )


def _remaining(sweeps: Sweeps) -> list[str]:
    deadline = time.monotonic() + ENDING_S
    while (found := sweeps.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _tell(chaos: Chaos, calm: Sweeps) -> None:
    records = chaos.sweeps.records()
    attempts = [record.get("attempts", 1) for record in records]
    resumed = [len(record.get("resumed_from") or ()) for record in records]
    print(", ".join(f"{count} {what}" for what, count in sorted(chaos.kills.items())) + " killed")
    print(
        f"{len(records)} runs in {sum(attempts)} attempts (at most {max(attempts)}), {sum(resumed)} times from a "
        f"checkpoint; undisturbed {len(calm.records())} runs in as many"
    )


@contextlib.contextmanager
def _small_disk(folder: Path, wanted: bool) -> Iterator[bool]:
    """True: `folder` is a file system of its own, whose content stays when it goes. False: not wanted, or not
    allowed here."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(folder)]
    small = wanted and shutil.which("mount") is not None
    small = small and subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield small
        if small:
            shutil.copytree(folder, folder.with_name("copy"), symlinks=True)
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            folder.rmdir()
            if folder.with_name("copy").exists():
                folder.with_name("copy").rename(folder)


if __name__ == "__main__":
    sys.exit(main())
