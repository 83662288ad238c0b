"""Tiny runs of every task x method at one seed: their numbers are those of golden.json, to the bit.

A method that does not apply to a task has its reason there. Bits depend on the processor and on the versions of what
computes, so golden.json says what it was made on; elsewhere numbers are compared to a tolerance.
"""

import copy
import hashlib
import json
import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grid import CELLS, ROWS, TASKS, Grid

from bench.config.run_config import RunConfig
from bench.runs import machine
from bench.runs.identity import RESULTS_VERSION
from bench.runs.worker import DoesNotApply
from bench.sweep.launchers.local import Joblib
from bench.sweep.prerequisites import with_grouping
from bench.sweep.run_or_load import ensure_run
from bench.sweep.sweep import run_sweep
from bench.training import train
from bench.training.init_from_run import weights_of
from bench.training.module import Training

GOLDEN = Path(__file__).with_name("golden.json")
HOW = "python -m pytest -n 0 tests/golden --write-golden"

TOLERANCE = 3e-5
"""Relative, of numbers on another machine than that of golden.json. The same runs with kernels for AVX2 and for SSE
came within 9e-6, most within 1e-7; the farthest are those in bfloat16 and a spread that is nearly zero."""

# Two epochs in two orders; dropout, decay and clipping, so that everything that is carried matters.
SETTINGS = (
    *("trainer.max_epochs=2", "trainer.limit_train_batches=3", "trainer.val_check_interval=1.0"),
    *("dropout=0.1", "weight_decay=0.5", "optimizer.clip=0.3", "measure.max_seconds=0"),
)
STRONG = "tying.strength=10"
"""Of soft ties: at their own strength six steps show little of them."""

CONTROLS = [(task, "cross_layer", f"control={kind}") for task in TASKS for kind in ("params", "respend")]
OTHER_SETTINGS = [
    ("image_cnn", "cross_layer", "model.norm=group"),
    ("image_cnn", "soft", "tying.init=shared"),
    ("series_gru", "soft_decoupled", "tying.init=shared"),
    ("series_gru", "relaxed", "tying.rank=0"),
    ("text_classifier", "cross_layer", "tying.scope=attention"),
    ("text_classifier", "none", "trainer.precision=bf16-mixed"),
    ("text_gru", "cross_layer", "trainer.precision=64-true", "trainer.output_precision=null"),
    ("text_gru", "[embedding,soft]"),
    ("text_gru", "relaxed", "tying.groups=2"),
    ("text_gru", "top_k", "tying.k=3"),
    ("text_transformer", "cross_layer", "tying.scope=all"),
    ("text_transformer", "albert", "trainer.quantize=true"),
    *(("text_transformer", tying, "model=llama") for tying in ("none", "albert", "relaxed")),
]
IN_PROCESSES = {
    "text_gru learned, from end to end": ("text_gru", "learned", "tying.groups=2"),
    "text_gru learned, shuffled": ("text_gru", "learned", "tying.groups=2", "tying.shuffle=1"),
    "image_rows growl, from end to end": ("image_rows", "growl", "tying.strength=3"),
    "text_gru cross_layer start=untied": ("text_gru", "cross_layer", "start=untied"),
    "image_cnn soft start=untied": ("image_cnn", "soft", "start=untied"),
    "image_cnn soft, two ranks": ("image_cnn", "soft", "trainer.devices=2"),
    "text_gru albert, two ranks": ("text_gru", "albert", "trainer.devices=2"),
}
"""Runs that a sweep starts in processes of their own, after the runs that they wait for."""
RESUMED = {
    "image_cnn soft, resumed": ("image_cnn", "soft"),
    "text_gru albert, resumed": ("text_gru", "albert"),
}
"""Runs that are ended in the middle and go on in another process, to the numbers of those that never were."""
ENDED_AT = 4
"""Steps that those take before they are ended."""

OF_BITS = (
    "test accuracy",
    "test next_token_accuracy",
    "int8 next_token_accuracy",
    "clipped_share",
    "parameters",
)
"""Counts and a checksum: the last bit of another number can change them by more than a tolerance."""

Numbers = dict[str, Any]
"""What golden.json holds of a run: its numbers by name, or the reason why its method does not apply."""


def name_of(task: str, tying: str, *overrides: str) -> str:
    return " ".join((task, tying, *overrides))


IN_THIS_PROCESS = {name_of(*asked): asked for asked in (*CELLS, *ROWS, *CONTROLS, *OTHER_SETTINGS)}
NAMES = [*IN_THIS_PROCESS, *IN_PROCESSES, *RESUMED]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def made_here() -> dict[str, str]:
    """What bits depend on: the processor with its vector instructions, and the versions of what computes."""
    installed = machine.provenance()["versions"]
    versions = {package: installed[package] for package in ("torch", "lightning", "transformers", "numpy")}
    return {"processor": machine.processor(), "instructions": _instructions(), **versions}


def _instructions() -> str:
    """Vector instructions that kernels are chosen by, as Linux names them; a processor's name can hide them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next((line.split(":")[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join(sorted(flag for flag in flags if flag.startswith(("avx", "amx", "fma", "asimd", "sve"))))


@dataclass
class Golden:
    """What golden.json holds: what it was made on, and the numbers of each run by its name."""

    made_on: Mapping[str, str]
    results_version: int
    runs: dict[str, Numbers]

    @classmethod
    def read(cls) -> "Golden":
        return cls(**json.loads(GOLDEN.read_text())) if GOLDEN.exists() else cls({}, 0, {})

    @property
    def is_of_here(self) -> bool:
        """Whether its numbers are to be found again to the bit."""
        return self.made_on == made_here()

    def write(self, made: Mapping[str, Numbers]) -> None:
        """Write the numbers made anew beside the others; drop those of runs that there are no more."""
        mixes = not (self.is_of_here and self.results_version == RESULTS_VERSION)
        if mixes and made.keys() != {*NAMES}:
            pytest.fail(f"golden.json is of another machine or version: write all of it with `{HOW}`")
        runs = {name: {**self.runs, **made}[name] for name in NAMES if name in {**self.runs, **made}}
        head = json.dumps({"made_on": made_here(), "results_version": RESULTS_VERSION}, indent=1)
        lines = [f"  {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in runs.items()]
        GOLDEN.write_text(head.removesuffix("\n}") + ',\n "runs": {\n' + ",\n".join(lines) + "\n }\n}\n")


@pytest.fixture(scope="module")
def writes(pytestconfig: pytest.Config) -> bool:
    """Whether golden.json is to be written."""
    return pytestconfig.getoption("--write-golden")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden.read()


@pytest.fixture(scope="module")
def compare(golden: Golden, writes: bool) -> Iterator[Callable[[str, Callable[[], Numbers]], None]]:
    """(name, makes its numbers) -> fails where they are not the golden ones.

    With --write-golden the numbers are written after the last test. A number that moved is not, and then none is,
    unless RESULTS_VERSION was raised: a record is found again by its identity, so code that changes a number must
    change the identity.
    """
    made, refused = {}, []

    def compared(name: str, make: Callable[[], Numbers]) -> None:
        known = golden.runs.get(name)
        if known is None and not writes:
            pytest.fail(f"golden.json has no numbers of `{name}`: write them with `{HOW}`", pytrace=False)
        made[name] = json.loads(json.dumps(make()))
        moved = [] if known is None else differences(known, made[name], golden.is_of_here)
        if writes and (not moved or "reason" in known or golden.results_version < RESULTS_VERSION):
            return
        if moved:
            refused.append(name)
            how = (
                "to the bit"
                if golden.is_of_here
                else f"to {TOLERANCE:g}, for golden.json is of another machine"
            )
            lines = [f"`{name}` moved, compared {how}:", *moved]
            lines += [
                f"if it is meant to move raise RESULTS_VERSION in bench/runs/identity.py, then run `{HOW}`"
            ]
            pytest.fail("\n  ".join(lines), pytrace=False)

    yield compared
    if writes and not refused:
        golden.write(made)


def differences(known: Numbers, numbers: Numbers, to_the_bit: bool) -> list[str]:
    """A line for each number that is not the known one, to the bit or as near as another machine comes."""
    same = operator.eq if to_the_bit else _near
    lines = []
    for key in sorted(known.keys() | numbers.keys()):
        before, now = known.get(key), numbers.get(key)
        if not same(before, now) and (to_the_bit or key not in OF_BITS or None in (before, now)):
            lines.append(f"{key}: {before} -> {now}")
    return lines


def _near(before: Any, now: Any) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=TOLERANCE)
    return before == now


def numbers_of(record: Mapping[str, Any], folder: Path) -> Numbers:
    """The golden numbers of a finished run: its sizes, scores and a checksum of its best weights."""
    int8 = record["int8"] or {"test": {}}
    return {
        "num_params": record["num_params"],
        "effective_params": record["effective_params"],
        **{f"test {metric}": value for metric, value in record["test"].items()},
        **{f"{split} nll": record[split]["nll"] for split in ("val", "train")},
        "last val nll": record["last"]["val"]["nll"],
        **{f"int8 {metric}": value for metric, value in int8["test"].items()},
        "spread": record["spread"]["depth"],
        "clipped_share": record["clipped_share"],
        **({"grouping": record["config"]["tying"]["grouping"]} if record.get("learned_from") else {}),
        "parameters": checksum(folder / "best.ckpt"),
    }


def checksum(checkpoint: Path) -> str:
    """SHA-256 of the network's distinct tensors, in their order, whatever they are called."""
    total = hashlib.sha256()
    distinct = {(tensor.data_ptr(), tensor.shape): tensor for tensor in weights_of(checkpoint).values()}
    for tensor in distinct.values():
        total.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def asked_for(grid: Grid, task: str, tying: str, *overrides: str) -> RunConfig:
    """A cell of the grid at the settings of this file."""
    cell = grid.cell(task, tying, *SETTINGS, *overrides)
    soft = cell.config["tying"]["strength"] is not None
    return grid.cell(task, tying, *SETTINGS, STRONG, *overrides) if soft else cell


def trained_here(cell: RunConfig, folder: Path, checkpoint_every_s: float | None = None) -> Numbers:
    """The numbers of a run as its process makes it, but in this one."""
    config = copy.deepcopy(cell.config)
    config["trainer"]["checkpoint_every_s"] = checkpoint_every_s
    folder.mkdir(parents=True, exist_ok=True)
    request = {**cell.header(), "logger": cell.options["logger"], "sweep": "golden"}
    try:
        record = train.train(request, config, folder, time.time())
    except DoesNotApply as reason:
        return {"reason": str(reason)}
    return numbers_of({**record, "config": config}, folder)


def trained_by_a_sweep(cell: RunConfig) -> Numbers:
    """The numbers of a run in processes of its own, after the runs that it waits for."""
    (settled,), (record,) = run_sweep([cell], Joblib(n_jobs=1))
    assert record["status"] == "done", record["reason"]
    return numbers_of(record, settled.folder)


class Ended(Exception):
    """Ends a run in the middle."""


def resumed(cell: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    """The numbers of a run that is ended here after some steps, and goes on in a process of its own."""
    step = Training.training_step

    def ends(module: Training, batch: Any, index: int) -> Any:
        if module.global_step == ENDED_AT:
            raise Ended
        return step(module, batch, index)

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(Training, "training_step", ends)
        trained_here(cell, cell.folder, checkpoint_every_s=0)
    record = ensure_run(cell)
    assert (record["status"], record["resumed_from"]) == ("done", [ENDED_AT]), record["reason"]
    return numbers_of(record, cell.folder)


@pytest.mark.parametrize("name", IN_THIS_PROCESS)
def test_a_run_has_its_golden_numbers(grid, compare, tmp_path, name):
    compare(name, lambda: trained_here(asked_for(grid, *IN_THIS_PROCESS[name]), tmp_path))


@pytest.mark.parametrize("name", IN_PROCESSES)
def test_a_run_in_processes_has_its_golden_numbers(grid, compare, name):
    cell = asked_for(grid, *IN_PROCESSES[name])
    unlearned = with_grouping(cell, None) if cell.config["tying"]["grouping"] else cell
    compare(name, lambda: trained_by_a_sweep(unlearned))


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_has_its_golden_numbers(grid, compare, monkeypatch, tmp_path, name):
    """They are those of the run that was never ended, which also shows that a process of its own changes none."""
    cell = asked_for(grid, *RESUMED[name])
    numbers = resumed(cell, monkeypatch)
    compare(name, lambda: numbers)
    assert numbers == trained_here(cell, tmp_path)


def test_golden_numbers_are_of_runs_that_there_are_and_of_this_version(golden, writes):
    gone = golden.runs.keys() - {*NAMES}
    assert writes or not gone, f"there are no such runs, {sorted(gone)}: write golden.json with `{HOW}`"
    assert writes or golden.results_version == RESULTS_VERSION, f"golden.json is out of date: run `{HOW}`"


def test_numbers_are_compared_to_the_bit(golden, writes):
    if not (writes or golden.is_of_here):
        pytest.skip(f"golden.json is of {golden.made_on}, this is {made_here()}: compared to {TOLERANCE:g}")


@pytest.mark.parametrize(
    ("change", "bits", "elsewhere"),
    [
        ({}, [], []),
        ({"nll": math.nextafter(2.0, 3)}, ["nll: 2.0 -> 2.0000000000000004"], []),
        ({"nll": 2.0001}, ["nll: 2.0 -> 2.0001"], ["nll: 2.0 -> 2.0001"]),
        ({"nll": None}, ["nll: 2.0 -> None"], ["nll: 2.0 -> None"]),
        ({"num_params": 8}, ["num_params: 7 -> 8"], ["num_params: 7 -> 8"]),
        ({"parameters": "b"}, ["parameters: a -> b"], []),
        ({"parameters": None}, ["parameters: a -> None"], ["parameters: a -> None"]),
        ({"more": 1}, ["more: None -> 1"], ["more: None -> 1"]),
    ],
)
def test_a_number_that_moved_is_told(change, bits, elsewhere):
    known = {"nll": 2.0, "num_params": 7, "parameters": "a"}
    assert differences(known, {**known, **change}, to_the_bit=True) == bits
    assert differences(known, {**known, **change}, to_the_bit=False) == elsewhere
