"""`bench.load_results`: a recorded sweep as a DataFrame."""

from pathlib import Path

import pytest

import bench
from bench.tying.errors import BadInput

RESULTS = Path(__file__).parents[2] / "results"


def test_a_row_for_each_run_that_the_sweep_asked_for(tmp_path: Path) -> None:
    quick = bench.load_results("quick", RESULTS, tmp_path)
    assert len(quick) == 60 and quick.id.is_unique
    assert {"tying", "dropout", "weight_decay", "test_perplexity", "num_params", "commit"} <= {*quick.columns}
    # Embedding tying does not apply to the CNN: 4 of its 20 cells.
    assert quick.status.value_counts().to_dict() == {"done": 56, "not_applicable": 4}


def test_what_a_run_trained_on_is_known_with_a_limit_and_without(tmp_path: Path) -> None:
    names = ("trained_out_factorial", "trained_out_images")
    limited, whole = (bench.load_results(name, RESULTS, tmp_path) for name in names)
    assert set(limited.training_size) == {38684} and set(whole.training_size) == {1197}


def test_an_unknown_sweep_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no sweep nope in .*: there is .*quick"):
        bench.load_results("nope", RESULTS, tmp_path)
    with pytest.raises(BadInput, match="no sweep is recorded in"):
        bench.load_results("quick", tmp_path, tmp_path)


def test_nothing_else_comes_from_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_result'"):
        bench.load_result  # noqa: B018
