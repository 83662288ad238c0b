"""Measure what a sweep costs beyond its runs, and the commands that read many records."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.runs import machine
from bench.runs.store import read_json, read_records

SEEDS = range(1, 7)
SWEEP = ("task=image_cnn", "tying=none,cross_layer", "dropout=0,0.2", f"seed={','.join(map(str, SEEDS))}")
BENCH = ("-m", "bench")
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
    """Print a sweep's makespan over its floor, and over the same short runs started one after another."""
    runs, folders = scratch / "runs", _folders(scratch, "runs")
    measured = ("task=image_cnn", "tying=none,cross_layer", "trainer.limit_train_batches=1", "seed=99")
    _run(*BENCH, "-m", *measured, *folders)  # pays for the data and the costs, which are no training
    wall, _ = _run(*BENCH, "-m", *SWEEP, *BUDGET, *folders)
    records = read_records(runs, [run["id"] for run in read_json(runs / "sweeps" / "perf.json")["runs"]])
    seconds = [record["seconds"]["total"] for record in records.values()]
    workers, count = machine.cores(), len(records)
    floor = sum(seconds) / workers
    print(
        f"makespan of {count} runs on {workers} cores: {wall:.1f} s for a floor of {floor:.1f} s "
        f"(summed run seconds over workers): ratio {wall / floor:.3f}, start-up, composition and tables included"
    )
    apart = _folders(scratch, "apart")
    _run(*BENCH, "-m", *measured, *apart)
    alone = [_run(*BENCH, *BUDGET, f"seed={seed}", *apart)[0] for seed in range(1, ALONE + 1)]
    mean = statistics.mean(alone)
    print(
        f"the same started one after another as `python -m bench ...`: {mean:.2f} s a run "
        f"(n {ALONE}) against {wall / count:.2f} s a run in the sweep: ratio {mean * count / wall:.2f}"
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
        seconds, peak = zip(*(_run(*arguments) for _ in range(3)), strict=True)
        print(f"{name}: {statistics.median(seconds):.2f} s, {max(peak) / 1e6:.0f} MB at most (median of 3)")
    grid = (*SWEEP[:3], f"seed={','.join(map(str, range(COMPOSED // 4)))}", "hydra/launcher=dry_run")
    seconds, peak = _run(*BENCH, "-m", *grid, *_folders(scratch, "none"))
    print(
        f"dry run of {COMPOSED:,} cells: {1e3 * seconds / COMPOSED:.1f} ms a cell, {peak / 1e6:.0f} MB at most"
    )


def _many_records(runs: Path, name: str, count: int) -> None:
    """Write a sweep of `count` records: copies of those that were run, under other seeds."""
    manifest = read_json(runs / "sweeps" / "perf.json")
    originals = [read_json(runs / entry["id"] / "record.json") for entry in manifest["runs"]]
    entries = []
    for index in range(count):
        source = index % len(originals)
        changed = {"id": f"{name}-{index:07}", "seed": 1 + index // len(originals)}
        (runs / changed["id"]).mkdir()
        (runs / changed["id"] / "record.json").write_text(json.dumps({**originals[source], **changed}))
        entries.append({**manifest["runs"][source], **changed})
    (runs / "sweeps" / f"{name}.json").write_text(json.dumps({**manifest, "name": name, "runs": entries}))


def _folders(scratch: Path, name: str) -> tuple[str, ...]:
    return f"runs={scratch / name}", f"results={scratch / 'results'}", "sweep.name=perf"


def _run(*arguments: str) -> tuple[float, int]:
    """Run a Python command. Return its seconds and the most memory it held, in bytes."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT)
        _, code, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            output.seek(0)
            end = output.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {end}")
    return seconds, 1024 * used.ru_maxrss
