"""Batches of a series: the next change, every step scored once, the past and nothing else as context."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.batches import Batches
from bench.data.series import SeriesData
from bench.tying.errors import BadInput

SIZES = {"train": 60, "val": 21, "test": 20}
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "probe_dataloader")


def write(folder: Path, sizes: dict[str, int]) -> Path:
    """A prepared series that counts 1, 2, 3, ... through the splits, so that a change tells its place."""
    from prepared_folder import write_folder

    places = np.arange(1, 1 + sum(sizes.values()), dtype=np.float32)[:, None] * [1, -1]
    parts = np.split(places.astype(np.float32), np.cumsum(list(sizes.values()))[:-1])
    arrays = {f"{split}_changes": part for split, part in zip(sizes, parts, strict=True)}
    return write_folder(folder, {"kind": "series", "columns": ["a", "b"], "sizes": sizes}, arrays)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "counting", SIZES)


def scored(loader: Batches) -> list[int]:
    return sorted(int(step) for _, told in loader for step in told[..., 0][~told[..., 0].isnan()])


def steps(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


def data_of(folder: Path, **given: int) -> SeriesData:
    return SeriesData(folder, **({"batch_size": 2, "window": 6, "stride": 3, "seed": 0} | given))


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(st.integers(12, 70), st.integers(12, 40), st.integers(12, 40)),
    window=st.integers(2, 12),
    batch=st.integers(1, 9),
)
def test_evaluation_scores_every_step_once_from_its_own_past(
    sizes: tuple[int, int, int], window: int, batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = write(tmp_path_factory.mktemp("law") / "series", dict(zip(SIZES, sizes, strict=True)))
    data = data_of(at, batch_size=1, window=window, stride=1, eval_batch_size=batch)
    train, val, test = sizes
    assert scored(data.val_dataloader()) == steps(train + 1, train + val)
    assert scored(data.test_dataloader()) == steps(train + val + 1, train + val + test)
    probed = scored(data.probe_dataloader())
    assert probed and len(set(probed)) == len(probed) <= val and set(probed) <= set(steps(1, train))
    for which in LOADERS[1:]:
        loader = getattr(data, which)()
        assert len(list(loader)) == len(loader)
        for inputs, told in loader:
            assert inputs.shape[1:] == (window, 2) and told.shape[1:] == (window // 2, 2)
            assert torch.equal(inputs[..., 0], -inputs[..., 1])
            before = inputs[:, -told.shape[1] :]
            keep = ~told.isnan()
            assert torch.equal(told[keep].abs(), before[keep].abs() + 1)  # 0 before the first


def test_training_windows_lie_inside_of_train(folder: Path) -> None:
    data = data_of(folder)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 9  # 18 windows start at every third of 55 places
    for inputs, told in batches:
        assert inputs.shape == told.shape == (2, 6, 2)
        assert torch.equal(told[..., 0], inputs[..., 0] + 1)
        assert torch.equal(inputs[:, 1:], told[:, :-1])
        assert told[..., 0].min() >= 1 and told[..., 0].max() <= SIZES["train"]
    starts = torch.cat([told[:, 0, 0] for _, told in batches])
    assert starts.unique().numel() == 18 and starts.sort().values.diff().unique().tolist() == [3]
    assert not torch.equal(starts, starts.sort().values)


def test_order_and_offset_are_of_seed_and_epoch(folder: Path) -> None:
    def order(seed: int, epoch: int) -> list[list[float]]:
        data = data_of(folder, seed=seed)
        data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1)
        return [told.flatten().tolist() for _, told in data.train_dataloader()]

    assert order(1, 0) == order(1, 0)
    asked = [(seed, epoch) for seed in (1, 2) for epoch in range(4)]
    assert len({str(order(*one)) for one in asked}) == 8
    assert len({min(min(batch) for batch in order(*one)) for one in asked}) > 1


def test_ranks_share_what_one_process_sees(folder: Path) -> None:
    def batches(rank: int, ranks: int, which: str) -> list:
        data = data_of(folder, batch_size=4, eval_batch_size=3)
        data.trainer = SimpleNamespace(current_epoch=0, global_rank=rank, world_size=ranks)
        return list(getattr(data, which)())

    for which in LOADERS:
        halves = [batches(rank, 2, which) for rank in (0, 1)]
        assert len(halves[0]) == len(halves[1]) and all(len(b[0]) for half in halves for b in half)
        assert scored(halves[0] + halves[1]) == scored(batches(0, 1, which))


@pytest.mark.parametrize("which", LOADERS)
def test_goes_on_at_any_position(which: str, folder: Path) -> None:
    loader = getattr(data_of(folder, eval_batch_size=2), which)()
    whole = list(loader)
    for position in range(len(whole) + 1):
        loader.load_state_dict({"position": position})
        rest = list(loader)
        assert len(rest) == len(whole) - position
        for ours, expected in zip(rest, whole[position:], strict=True):
            assert all(
                torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(ours, expected, strict=True)
            )


def test_train_limit_is_the_last_steps_of_train_and_the_past_before_is_gone(folder: Path) -> None:
    data = data_of(folder, train_limit=20)
    read = [inputs for which in LOADERS for inputs, _ in getattr(data, which)()]
    assert scored(data.probe_dataloader())[0] == 41
    assert {int(step) for inputs in read for step in inputs[..., 0].unique()} == {0, *steps(41, 100)}
    assert scored(data.val_dataloader()) == steps(61, 81)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"window": 1}, "window"), ({"window": 21}, "window=21 is longer than the 20 steps of a split")]
    + [({"batch_size": 19}, "exceeds the 18 training windows"), ({"train_limit": 61}, "train_limit")]
    + [
        ({"stride": 0}, "stride"),
        ({"eval_batch_size": 0}, "eval_batch_size"),
        ({"train_limit": 5}, "window"),
    ],
)
def test_wrong_sizes(folder: Path, wrong: dict, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        data_of(folder, **wrong)
