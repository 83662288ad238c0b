"""The published data sets, where BENCH_DATA_ROOT holds them, and the embedded text of the running Python."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import sources
from bench.data.encode import image_splits
from bench.data.prepare import prepare
from bench.data.sources import hub, pydocs_lines


def test_wikitext2_counts_as_published(
    real_root: str, configured: Callable[..., dict], tmp_path: Path
) -> None:
    done = prepare(configured("wikitext2", root=real_root), tmp_path)
    meta = done.meta
    assert meta["sizes"] == {"train": 2_088_628, "val": 217_646, "test": 245_569}
    assert meta["vocab_size"] == 33_278
    train = np.load(done.folder / "train_tokens.npy")
    assert np.unique(train).tolist() == list(range(33_278))  # no gap, nothing out of range
    assert meta["floors"]["trigram_perplexity"] < meta["floors"]["unigram_perplexity"] < 1000


def test_blood_cells_sources_do_not_leak(real_root: str) -> None:
    columns = {"group": "source"}
    data = hub(None, "blood_cells", columns=columns, root=real_root).load().select_columns(["group"])
    splits = image_splits(data, 0, 0.1)
    train, val, test = (set(splits[split]["group"]) for split in ("train", "val", "test"))
    assert train.isdisjoint(val) and len(train | val) == 277
    assert len(test) == 71  # numbered anew: its names say nothing about train's


def test_fashion_mnist(real_root: str, configured: Callable[..., dict], tmp_path: Path) -> None:
    done = prepare(configured("fashion_mnist", root=real_root), tmp_path)
    assert done.meta["sizes"] == {"train": 54_000, "val": 6_000, "test": 10_000}
    assert done.meta["mean"] == pytest.approx([0.286], abs=1e-3)
    assert done.meta["std"] == pytest.approx([0.353], abs=1e-3)
    assert np.bincount(np.load(done.folder / "test_labels.npy")).tolist() == [1000] * 10


def test_pydocs_of_this_python(
    configured: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = pydocs_lines(0)
    assert sum(map(len, lines.values())) == len(set.union(*map(set, lines.values())))
    monkeypatch.setattr(sources, "pydocs_lines", lambda split_seed: lines)  # read the library once
    meta = prepare(configured("pydocs"), tmp_path).meta
    assert meta["sizes"]["train"] > 300_000 and sum(meta["bytes"].values()) > 1_500_000
    assert meta["vocab_size"] == 4000 and meta["oov"]["test"] < 0.06 * meta["sizes"]["test"]
    assert 40 < meta["floors"]["trigram_perplexity"] < 150 < meta["floors"]["unigram_perplexity"] < 400
