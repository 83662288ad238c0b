"""No leak between splits, whatever is held out."""

import ast
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from bench.data.encode import hold_out, text_splits
from bench.data.sources import documents, pydocs_lines, split_of, topics
from bench.tying.errors import BadInput


@given(st.lists(st.integers(0, 30), min_size=80, max_size=200), st.integers(0, 2), st.integers(0, 9))
def test_hold_out_keeps_groups_whole(groups: list[int], parts: int, seed: int) -> None:
    array = np.array(groups)
    try:
        rows = hold_out(array, 8, parts, seed)
    except BadInput:
        assert np.bincount(array).max() > 8  # only a few big groups cannot be shared out
        return
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(array)))
    held = [set(array[part].tolist()) for part in rows]
    assert all(a.isdisjoint(b) for i, a in enumerate(held) for b in held[:i])
    assert len(rows[0]) > 0 and all(len(part) >= 8 for part in rows[1:])


def test_hold_out_is_exact_without_groups_and_moves_with_the_seed() -> None:
    rest, part = hold_out(np.arange(50), 5, 1, 0)
    assert (len(rest), len(part)) == (45, 5)
    assert part.tolist() == hold_out(np.arange(50), 5, 1, 0)[1].tolist()
    assert part.tolist() != hold_out(np.arange(50), 5, 1, 1)[1].tolist()


def test_text_is_cut_in_order() -> None:
    lines = [str(i) for i in range(20)]
    splits = text_splits(DatasetDict(train=Dataset.from_dict({"text": lines})))
    assert [list(splits[s]["text"]) for s in ("train", "val", "test")] == [
        lines[:16],
        lines[16:18],
        lines[18:],
    ]


def test_two_lines_are_too_few() -> None:
    with pytest.raises(BadInput, match="too few"):
        text_splits(DatasetDict(train=Dataset.from_dict({"text": ["a", "b"]})))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """30 modules that share a line, tests that must not be read, a template, help topics."""
    for i in range(30):
        (tmp_path / f"m{i}.py").write_text(
            f'"""Module {i}.\n\n    Shared line.\n"""\nraise SystemExit("imported")\n'
        )
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_m.py").write_text('"""A test."""')
    (tmp_path / "template.py").write_text("not python $")
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text('topics = {"b": "Topic b.", "a": "Topic a."}')
    return tmp_path


def test_documents_are_read_and_never_imported(library: Path) -> None:
    found = dict(documents(library))
    assert found["m3"] == "Module 3.\n\nShared line."
    assert [name for name in found if "topics" in name] == ["pydoc_data.topics:a", "pydoc_data.topics:b"]
    assert not any("test" in name for name in found)
    assert topics(ast.parse("x = 1")) == {}


def test_a_line_occurs_once_and_a_module_lies_in_one_split(library: Path) -> None:
    splits = pydocs_lines(0, library)
    lines = [line for part in splits.values() for line in part]
    assert len(lines) == len(set(lines)) == 33  # 30 of modules, 1 shared, 2 topics
    for i in range(30):
        assert f"Module {i}." in splits[split_of(f"m{i}", 0)]
    assert splits != pydocs_lines(1, library)


def test_modules_split_about_80_10_10() -> None:
    counts = [
        sum(split_of(f"module{i}", 0) == split for i in range(2000))
        for split in ("train", "validation", "test")
    ]
    assert 1550 < counts[0] < 1650 and all(150 < count < 250 for count in counts[1:])
