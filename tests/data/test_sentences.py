"""Batches of sentences: padding, cutting, order, coverage, subsets."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from prepared_folder import write_folder

from bench.data.batches import PAD_ID, SentenceData
from bench.tying.errors import BadInput

SIZES = {"train": 20, "val": 7, "test": 5}


@pytest.fixture
def row_folder(tmp_path: Path) -> Path:
    """Row i of a split is i + 1 times the token i + 1, and its label is i."""
    arrays = {}
    for split, count in SIZES.items():
        lengths = np.arange(1, count + 1)
        arrays[f"{split}_tokens"] = np.repeat(lengths, lengths).astype(np.int32)
        arrays[f"{split}_offsets"] = np.concatenate([[0], np.cumsum(lengths)])
        arrays[f"{split}_labels"] = np.arange(count)
    meta = {"kind": "labelled_text", "vocab_size": 21, "num_classes": 20, "sizes": SIZES}
    return write_folder(tmp_path / "rows", meta, arrays)


def rows(loader: object) -> list[int]:
    return [int(label) for _, labels in loader for label in labels]


def test_a_row_is_its_tokens_then_padding_and_is_cut_at_the_window(row_folder: Path) -> None:
    for tokens, labels in SentenceData(row_folder, 4, 6, 0).train_dataloader():
        assert tokens.dtype == labels.dtype == torch.int64 and tokens.shape == (4, 6)
        for row, label in zip(tokens.tolist(), labels.tolist(), strict=True):
            assert row == ([label + 1] * (label + 1) + [PAD_ID] * 6)[:6]


def test_evaluation_sees_every_example_once_in_order(row_folder: Path) -> None:
    data = SentenceData(row_folder, 4, 6, 0, eval_batch_size=3)
    assert rows(data.val_dataloader()) == list(range(7)) and rows(data.test_dataloader()) == list(range(5))
    assert data.shapes == {"vocab_size": 21, "num_classes": 20}


def test_the_probe_is_a_fixed_part_from_all_over_train(row_folder: Path) -> None:
    probes = [rows(SentenceData(row_folder, 4, 6, seed).probe_dataloader()) for seed in (0, 1)]
    assert probes[0] == probes[1] == sorted(set(probes[0])) and len(probes[0]) == 7
    assert probes[0] != list(range(7))


def test_training_order_is_of_seed_and_epoch(row_folder: Path) -> None:
    data = SentenceData(row_folder, 6, 6, seed=1)
    first = rows(data.train_dataloader())
    assert first == rows(data.train_dataloader()) and len(set(first)) == 18
    assert rows(SentenceData(row_folder, 6, 6, seed=2).train_dataloader()) != first
    data.trainer = SimpleNamespace(current_epoch=1, global_rank=0, world_size=1)
    assert rows(data.train_dataloader()) != first


def test_a_smaller_limit_is_part_of_a_larger_one(row_folder: Path) -> None:
    def kept(limit: int | None) -> set[int]:
        return set(rows(SentenceData(row_folder, 1, 6, 0, train_limit=limit).train_dataloader()))

    assert kept(3) < kept(9) < kept(None) == set(range(20)) and len(kept(3)) == 3
    assert max(kept(9)) > 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 0}, r"task\.batches\.window=0"),
        ({"window": 2.5}, r"task\.batches\.window=2\.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"train_limit": 21}, r"data\.train_limit=21: train has 20 examples"),
    ],
)
def test_bad_input_is_named_in_one_line(change: dict, said: str, row_folder: Path) -> None:
    make: Callable[..., SentenceData] = SentenceData
    with pytest.raises(BadInput, match=said):
        make(row_folder, **{"batch_size": 4, "window": 6, "seed": 0} | change)
