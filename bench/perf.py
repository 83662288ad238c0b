"""How fast the harness itself is: ratios, measured in turns on this machine. `make perf`."""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from bench import assembly, machine
from bench.cell import Cell, from_hydra
from bench.records import read_json, read_records
from bench.training import Training, decay_groups, schedule

CONF = str(machine.REPOSITORY / "conf")

STEPS = (
    ("small step", ("task=image_cnn", "logger=none"), 60),
    ("large step", ("task=text_gru", "logger=none", "model.width=128"), 20),
)
"""What is stepped: a name, its overrides, and the steps of one turn."""

SWEEP = ("task=image_cnn", "tying=none,cross_layer", "dropout=0,0.2", "seed=1,2,3", "trainer.max_epochs=20")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.perf", description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="turns of each side, A B A B ... (default 7)")
    turns = parser.parse_args().turns
    logging.getLogger("lightning.pytorch").setLevel(
        logging.ERROR
    )  # what it says to each of the trainers here
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    print(f"{machine.processor()}, {machine.cores()} cores, torch {torch.__version__}, one thread a run\n")
    for name, overrides, steps in STEPS:
        _print_step(name, overrides, steps, turns)
    with tempfile.TemporaryDirectory() as scratch:
        _print_sweep(Path(scratch))
        _print_commands(Path(scratch))
    return 0


def _print_step(name: str, overrides: Sequence[str], steps: int, turns: int) -> None:
    """Time of a training step, ours over a hand-written loop on the same model and the same batches."""
    cell = _cell(overrides)
    ours, by_hand = [], []
    for _ in range(turns):
        ours.append(_through_trainer(cell, steps))
        by_hand.append(_by_hand(cell, steps))
    ratio = statistics.median(a / b for a, b in zip(ours, by_hand, strict=True))
    over = statistics.median(a - b for a, b in zip(ours, by_hand, strict=True))
    print(
        f"training step, {name} ({' '.join(overrides)}): ours {_ms(ours)}, by hand {_ms(by_hand)}: "
        f"ratio {ratio:.3f}, {over * 1e3:+.2f} ms a step ({turns} turns of {steps} steps, medians)"
    )


def _cell(overrides: Sequence[str]) -> Cell:
    with initialize_config_dir(CONF, version_base="1.3"):
        return from_hydra(compose("config", list(overrides)))


def _parts(cell: Cell) -> tuple[Training, L.LightningDataModule]:
    data = assembly.data_module(cell.config)
    model = assembly.network(cell.config, data.shapes, 0.0)
    plan = assembly.plan_for(cell.config, model)
    return assembly.training(cell.config, model, plan, data.meta), data


class _Stopwatch(L.Callback):
    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 1:
            self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.ended = time.perf_counter()


def _through_trainer(cell: Cell, steps: int) -> float:
    """Seconds of a step through our trainer, the first of `steps` aside."""
    module, data = _parts(cell)
    watch = _Stopwatch()
    trainer = L.Trainer(
        logger=False,
        callbacks=[watch],
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return (watch.ended - watch.began) / (steps - 1)


def _by_hand(cell: Cell, steps: int) -> float:
    """Seconds of a step of the loop that one would write without us: same model, batches and optimizer."""
    module, data = _parts(cell)
    model, s = module.model.train(), cell.config["optimizer"]
    groups, _ = decay_groups(model, cell.config["weight_decay"])
    optimizer = torch.optim.AdamW(groups, lr=s["lr"], betas=(s["beta1"], s["beta2"]), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: schedule(i, steps, s["warmup_share"]))
    state, began = None, 0.0
    for index, batch in enumerate(data.train_dataloader()):
        if index == steps:
            break
        if index == 1:
            began = time.perf_counter()
        if len(batch) == 2:
            loss = F.cross_entropy(model(batch[0]), batch[1])
        else:
            logits, state = model(batch[0], state)
            state = None if state is None else state.detach()
            loss = F.cross_entropy(logits.flatten(0, 1), batch[1].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), s["clip"])
        optimizer.step()
        scheduler.step()
    return (time.perf_counter() - began) / (steps - 1)


def _print_sweep(scratch: Path) -> None:
    """A sweep of short runs: its makespan over its floor, and how soon each run after the first was training."""
    runs = scratch / "runs"
    folders = (f"runs={runs}", f"results={scratch / 'results'}", "sweep.name=perf")
    measured = ("task=image_cnn", "tying=none,cross_layer", "trainer.limit_train_batches=1", "seed=9")
    for overrides in (measured, SWEEP):  # the first pays for the data and the costs, which are no training
        began = time.perf_counter()
        _run("-m", "bench", "-m", *overrides, *folders)
        wall = time.perf_counter() - began
    records = read_records(runs, [run["id"] for run in read_json(runs / "sweeps" / "perf.json")["runs"]])
    seconds = [record["seconds"]["total"] for record in records.values()]
    first = sorted(record["seconds"]["to_first_step"] for record in records.values())
    workers = machine.cores()
    floor = sum(seconds) / workers
    print(
        f"makespan of {len(seconds)} runs on {workers} cores: {wall:.1f} s for a floor of {floor:.1f} s "
        f"(summed run seconds over cores): ratio {wall / floor:.3f}, start-up, composition and tables included"
    )
    later = first[:-workers]  # those that waited for the imports aside
    print(
        f"launch to first training step: median {statistics.median(later):.2f} s, "
        f"largest {max(later):.2f} s, n {len(later)}"
    )


def _print_commands(scratch: Path) -> None:
    runs = scratch / "runs"
    _many_records(runs, 200)
    tables = (
        "-m",
        "bench.tables",
        "--runs",
        str(runs),
        "--results",
        str(scratch / "many"),
        "--sweep",
        "many",
    )
    for name, arguments in (
        ("python -m bench --help", ("-m", "bench", "--help")),
        ("bench.tables on 200 records", tables),
    ):
        print(f"{name}: {_median_seconds(lambda arguments=arguments: _run(*arguments)):.2f} s (median of 3)")


def _many_records(runs: Path, count: int) -> None:
    """A sweep of `count` records: copies of one that was run, under other seeds."""
    entries = read_json(runs / "sweeps" / "perf.json")["runs"]
    made = []
    for index in range(count):
        entry = entries[index % len(entries)]
        record = read_json(runs / entry["id"] / "record.json")
        changed = {"id": f"{index:012x}", "seed": 1 + index // len(entries)}
        (runs / changed["id"]).mkdir()
        (runs / changed["id"] / "record.json").write_text(json.dumps({**record, **changed}))
        made.append({**entry, **changed})
    manifest = {**read_json(runs / "sweeps" / "perf.json"), "name": "many", "runs": made}
    (runs / "sweeps" / "many.json").write_text(json.dumps(manifest))


def _median_seconds(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=machine.REPOSITORY, check=True, capture_output=True)


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
