"""What a sweep costs beyond its runs, and how the commands that read many records hold up."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.runs import machine
from bench.runs.store import read_json, read_records

SEEDS = range(1, 7)
SWEEP = ("task=image_cnn", "tying=none,cross_layer", "dropout=0,0.2", f"seed={','.join(map(str, SEEDS))}")
BUDGET = ("trainer.max_epochs=20", "logger=wandb")
ALONE = 6
"""Runs that are also started one after another; what the others would take is known from these."""

MANY, RECORDED, COMPOSED = 10_000, 200, 2_000
"""Records that the state of a sweep is told of, records that tables are made of, cells that a dry run composes."""


def report(scratch: Path) -> None:
    """Print makespan, start-up, and the times of commands; everything is made in `scratch`."""
    _print_sweep(scratch)
    _print_commands(scratch)


def _print_sweep(scratch: Path) -> None:
    """A sweep of short runs: its makespan over its floor, and over the same runs started one after another."""
    runs, folders = scratch / "runs", _folders(scratch, "runs")
    measured = ("task=image_cnn", "tying=none,cross_layer", "trainer.limit_train_batches=1", "seed=99")
    _bench("-m", *measured, *folders)  # pays for the data and the costs, which are no training
    wall = _seconds(lambda: _bench("-m", *SWEEP, *BUDGET, *folders))
    records = read_records(runs, [run["id"] for run in read_json(runs / "sweeps" / "perf.json")["runs"]])
    seconds = [record["seconds"]["total"] for record in records.values()]
    workers, count = machine.cores(), len(records)
    floor = sum(seconds) / workers
    print(
        f"makespan of {count} runs on {workers} cores: {wall:.1f} s for a floor of {floor:.1f} s "
        f"(summed run seconds over workers): ratio {wall / floor:.3f}, start-up, composition and tables included"
    )
    apart = _folders(scratch, "apart")
    _bench("-m", *measured, *apart)
    one = [
        _seconds(lambda seed=seed: _bench(*BUDGET, f"seed={seed}", *apart)) for seed in range(1, ALONE + 1)
    ]
    each = statistics.mean(one)
    print(
        f"the same started one after another as `python -m bench ...`: {each:.2f} s a run "
        f"(n {ALONE}) against {wall / count:.2f} s a run in the sweep: ratio {each * count / wall:.2f}"
    )
    first = sorted(record["seconds"]["to_first_step"] for record in records.values())
    later = first[:-workers]  # those that waited for the imports aside
    print(
        f"launch to first training step: median {statistics.median(later):.2f} s, "
        f"largest {max(later):.2f} s, n {len(later)}"
    )
    over = [record["seconds"]["total"] - record["seconds"]["fit"] for record in records.values()]
    print(
        f"a run's seconds outside training steps (start, validations, test, checkpoint, W&B): "
        f"median {statistics.median(over):.2f} s, n {count}"
    )


def _print_commands(scratch: Path) -> None:
    runs = scratch / "runs"
    _many_records(runs, "few", RECORDED)
    _many_records(runs, "many", MANY)
    tables = ("-m", "bench.tables", "--runs", str(runs), "--results", str(scratch / "few"), "--sweep", "few")
    status = ("-m", "bench.status", "--runs", str(runs), "--sweep", "many")
    for name, arguments in (
        ("python -m bench --help", ("-m", "bench", "--help")),
        (f"bench.tables on {RECORDED} records", tables),
        (f"bench.status on {MANY:,} records", status),
    ):
        seconds, peak = zip(*(_measured(*arguments) for _ in range(3)), strict=True)
        print(f"{name}: {statistics.median(seconds):.2f} s, {max(peak) / 1e6:.0f} MB at most (median of 3)")
    grid = (*SWEEP[:3], f"seed={','.join(map(str, range(COMPOSED // 4)))}", "hydra/launcher=dry_run")
    seconds, peak = _measured("-m", "bench", "-m", *grid, *_folders(scratch, "none"))
    print(
        f"dry run of {COMPOSED:,} cells: {1e3 * seconds / COMPOSED:.1f} ms a cell, {peak / 1e6:.0f} MB at most"
    )


def _many_records(runs: Path, name: str, count: int) -> None:
    """A sweep of `count` records: copies of those that were run, under other seeds."""
    manifest = read_json(runs / "sweeps" / "perf.json")
    originals = [read_json(runs / entry["id"] / "record.json") for entry in manifest["runs"]]
    made = []
    for index in range(count):
        at = index % len(originals)
        changed = {"id": f"{name}-{index:07}", "seed": 1 + index // len(originals)}
        (runs / changed["id"]).mkdir()
        (runs / changed["id"] / "record.json").write_text(json.dumps({**originals[at], **changed}))
        made.append({**manifest["runs"][at], **changed})
    (runs / "sweeps" / f"{name}.json").write_text(json.dumps({**manifest, "name": name, "runs": made}))


def _folders(scratch: Path, name: str) -> tuple[str, ...]:
    return f"runs={scratch / name}", f"results={scratch / 'results'}", "sweep.name=perf"


def _bench(*arguments: str) -> None:
    command = [sys.executable, "-m", "bench", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _measured(*arguments: str) -> tuple[float, int]:
    """Seconds of a command and the most memory it held, in bytes."""
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([sys.executable, *arguments], stdout=nowhere)
        _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - began, 1024 * used.ru_maxrss
