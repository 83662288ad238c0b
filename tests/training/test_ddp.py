"""A run of two processes: the same gradients, weights and scores as one at the same global batch, on every task."""

import hashlib
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from grid import COUNTS, TASKS, build, kind, score
from omegaconf import OmegaConf

from bench.runs import process
from bench.runs.store import recorded, write_json
from bench.runs.worker import CONFIG, REQUEST
from bench.training.distributed import RENDEZVOUS_S

TIGHT = {"rtol": 1e-9, "atol": 1e-12}
"""Sums in another order, in double precision."""

SUMMED = 1e-6
"""Of a batch's losses in evaluation, which is done in single precision."""

AT_ONCE = RENDEZVOUS_S / 2
"""Seconds, on a busy machine too: a rank that waited for one that has gone would take twice that, or more."""

STEPS = 4
EXACT = (
    *(
        "trainer.precision=64-true",
        "trainer.output_precision=null",
        "dropout=0",
        "weight_decay=0.5",
        "optimizer.clip=0.3",
    ),
    *(f"trainer.limit_train_batches={STEPS}", "trainer.max_epochs=1", "trainer.val_check_interval=0.5"),
)
DROPPING = (*EXACT, "dropout=0.5", "trainer.devices=2")
TYINGS = {"none": (), "cross_layer": (), "soft": ("tying.strength=10",)}

every_task = pytest.mark.parametrize("task", TASKS)


class Ended:
    """What a run left: its record, the files in its folder, and what each rank saw."""

    def __init__(self, folder: Path, code: int, seconds: float) -> None:
        self.folder, self.code, self.seconds = folder, code, seconds
        self.record: Mapping[str, Any] = recorded(folder / "record.json") or {}
        ranks = sorted(folder.glob("seen-*.pt"))
        self.seen = [torch.load(path, weights_only=True) for path in ranks]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """(cell, ranks, again=its folder, **request) -> how its run ended."""

    def start(cell: Any, ranks: int, again: Path | None = None, **request: Any) -> Ended:
        folder = again or tmp_path_factory.mktemp("run")
        config = OmegaConf.to_yaml(OmegaConf.create(cell.config)).encode()
        (folder / CONFIG).write_bytes(config)
        asked = {**cell.header(), "logger": cell.options["logger"], "sweep": "test", **request}
        write_json(folder / REQUEST, {**asked, "config_sha256": hashlib.sha256(config).hexdigest()})
        began = time.monotonic()
        ending = process.Runner().run("ddp_body", folder, 1, ranks)
        return Ended(folder, ending.code, time.monotonic() - began)

    return start


@pytest.fixture(scope="module")
def pairs(cell: Callable[..., Any], started: Callable[..., Ended]) -> Mapping[tuple[str, str], list[Ended]]:
    """(task, tying) -> its run in one process, and in two."""
    runs = {}
    for task in TASKS:
        norm = ("model.norm=group",) if kind(task) == "image" else ()  # a batch's statistics are a rank's own
        for tying, given in TYINGS.items():
            both = [cell(task, tying, *given, *norm, *EXACT, f"trainer.devices={n}") for n in (1, 2)]
            runs[task, tying] = [started(c, n) for c, n in zip(both, (1, 2), strict=True)]
    return runs


@pytest.mark.parametrize("tying", TYINGS)
@every_task
def test_two_ranks_take_the_steps_of_one_process(pairs, task, tying):
    one, two = pairs[task, tying]
    (alone,) = one.seen
    assert len(two.seen) == 2 and len(alone["gradients"]) == STEPS
    for rank in two.seen:
        for expected, gradients in zip(alone["gradients"], rank["gradients"], strict=True):
            torch.testing.assert_close(gradients, expected, **TIGHT)
        torch.testing.assert_close(rank["parameters"], alone["parameters"], **TIGHT)
        assert next(iter(rank["parameters"].values())).dtype == torch.float64
    for name, parameter in two.seen[0]["parameters"].items():
        assert torch.equal(parameter, two.seen[1]["parameters"][name]), name


@pytest.mark.parametrize("tying", TYINGS)
@every_task
def test_tied_tensors_are_one_storage_on_every_rank(pairs, task, tying):
    one, two = pairs[task, tying]
    groups = [_groups(seen["storages"]) for seen in (*one.seen, *two.seen)]
    assert groups[0] == groups[1] == groups[2]
    assert (len(groups[0]) < len(one.seen[0]["storages"])) == (tying == "cross_layer")
    assert one.record["num_params"] == two.record["num_params"]


def _groups(storages: Mapping[str, int]) -> set[frozenset[str]]:
    return {frozenset(n for n, at in storages.items() if at == one) for one in storages.values()}


@pytest.mark.parametrize("tying", TYINGS)
@every_task
def test_two_ranks_count_what_one_process_counts(pairs, task, tying):
    one, two = (ended.record for ended in pairs[task, tying])
    assert (one["ranks"], two["ranks"]) == (1, 2)
    sizes, count = two["data_meta"]["sizes"], COUNTS.get(kind(task), "examples")
    assert [two[split][count] for split in ("test", "val")] == [sizes["test"], sizes["val"]]
    for split in ("test", "val", "train"):
        assert two[split] == near(one[split])
    for name, curve in two["curves"].items():
        assert dict(enumerate(curve)) == near(dict(enumerate(one["curves"][name]))), name
    assert two["clipped_share"] == one["clipped_share"] > 0
    assert two["decay"] == one["decay"] and two["best_epoch"] == one["best_epoch"]
    warm = [r["seconds"]["fit"] - r["seconds"]["first_steps"] for r in (one, two)]
    seen = [r["throughput"]["value"] * s for r, s in zip((one, two), warm, strict=True)]
    assert seen[1] == pytest.approx(seen[0])


def near(scores: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return {
        k: v if v is None or isinstance(v, int) else pytest.approx(v, rel=SUMMED) for k, v in scores.items()
    }


def test_some_splits_do_not_divide_by_the_ranks(pairs):
    sizes = [ended[1].record["data_meta"]["sizes"] for ended in pairs.values()]
    assert any(size["test"] % 2 for size in sizes) and any(size["val"] % 2 for size in sizes)


@every_task
def test_the_first_rank_alone_writes(pairs, task):
    _, two = pairs[task, "none"]
    first, second = (seen["written"] for seen in two.seen)
    assert second == [] and any("best.ckpt" in name for name in first)
    assert not list(two.folder.glob(".*.tmp")) and not (two.folder / ".claim").exists()


@pytest.fixture(scope="module")
def dropping(cell: Callable[..., Any], started: Callable[..., Ended]) -> Mapping[str, Ended]:
    """Task -> a run of two ranks with dropout."""
    return {task: started(cell(task, "none", *DROPPING), 2) for task in TASKS}


@every_task
def test_ranks_drop_different_units(cell, dropping, task):
    ended = dropping[task]
    assert ended.record["status"] == "done", ended.record["reason"]
    masks = [seen["masks"] for seen in ended.seen]
    for one, other in zip(*masks, strict=True):
        assert one.shape == other.shape and 0.2 < (one != other).double().mean() < 0.8
    if kind(task) == "image":
        _evaluates_what_it_keeps(ended, cell(task, "none", *DROPPING))


def _evaluates_what_it_keeps(ended: Ended, cell: Any) -> None:
    """Each rank normalised by its own batches; all are scored with the statistics in the checkpoint."""
    assert cell.config["model"]["norm"] == "batch"
    built = build(cell)
    built.module.double()
    built.module.load_state_dict(torch.load(ended.folder / "best.ckpt", weights_only=True)["state_dict"])
    for split, batches in (("test", built.data.test_dataloader()), ("val", built.data.val_dataloader())):
        scores = score(built.module, [(images.double(), labels) for images, labels in batches], split)
        assert scores == near(ended.record[split]), split


@every_task
def test_ranks_end_at_once_and_go_on_to_the_same_bits(cell, started, dropping, task):
    """Each with its own random numbers and carried state."""
    asked = cell(task, "none", *DROPPING, "trainer.checkpoint_every_s=1e-9")
    ended = started(asked, 2, ended_at=3)
    assert ended.record == {} and ended.code == -signal.SIGTERM and ended.seconds < AT_ONCE
    assert (ended.folder / "last.ckpt").exists()
    again = started(asked, 2, again=ended.folder).record
    assert again["resumed_from"] == [3] and again["attempts"] == 2
    for key in ("test", "val", "train", "curves", "spread", "decay", "clipped_share", "best_epoch"):
        assert again[key] == dropping[task].record[key], key


@pytest.mark.parametrize(
    ("second", "reason"),
    [("raises", "rank 1: KeyError: 'no such key'"), ("dies", "rank 1: killed by SIGKILL")],
)
def test_a_rank_that_ends_ends_the_run_with_its_reason(cell, started, second, reason):
    ended = started(cell("text_gru", "none", *EXACT, "trainer.devices=2"), 2, second=second)
    assert ended.seconds < AT_ONCE and ended.record["status"] == "failed"
    assert ended.record["reason"].startswith(reason), ended.record["reason"]


def test_ranks_that_hold_different_configs_refuse_to_train(cell, started):
    ended = started(cell("image_cnn", "none", *EXACT, "trainer.devices=2"), 2, other_seed_on=1)
    assert ended.record["status"] == "failed" and ended.seconds < AT_ONCE
    assert "different configs: rank 0" in ended.record["reason"], ended.record["reason"]


def test_ranks_diverge_together(cell, started):
    steps = ("trainer.max_epochs=40", "trainer.devices=2", "optimizer.lr=1e6", "optimizer.clip=null")
    ended = started(cell("text_gru", "none", *steps), 2)
    assert ended.record["status"] == "diverged" and "at the first" in ended.record["reason"]
    assert ended.code == 0 and ended.seconds < AT_ONCE
