"""Batches of images: order, coverage, normalisation, subsets."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.data.batches import Batches, ImageData, subset
from bench.tying.errors import BadInput


def labels(loader: Batches) -> list[int]:
    return [int(label) for _, batch in loader for label in batch]


def at_epoch(data: ImageData, epoch: int, rank: int = 0, ranks: int = 1) -> ImageData:
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=ranks)
    return data


def test_normalised_by_train(pixel_folder: Path) -> None:
    images, target = next(iter(ImageData(pixel_folder, 4, 0).test_dataloader()))
    assert images.dtype == torch.float32 and target.dtype == torch.int64 and images.shape == (5, 1, 2, 2)
    torch.testing.assert_close(images[3], torch.full((1, 2, 2), (3 / 255 - 0.5) / 0.25))


def test_evaluation_sees_every_example_once_in_order(pixel_folder: Path) -> None:
    data = ImageData(pixel_folder, 4, 0, eval_batch_size=3)
    assert labels(data.val_dataloader()) == list(range(7)) and len(data.val_dataloader()) == 3
    assert labels(data.test_dataloader()) == list(range(5))
    assert labels(data.probe_dataloader()) == list(range(7))
    assert data.shapes == {"in_channels": 1, "num_classes": 20}


def test_training_order_is_of_seed_and_epoch(pixel_folder: Path) -> None:
    data = ImageData(pixel_folder, 6, seed=1)
    loader = data.train_dataloader()
    first, again = labels(loader), labels(loader)
    assert first == again and len(first) == 18 and len(set(first)) == 18 and len(loader) == 3
    assert labels(at_epoch(data, 1).train_dataloader()) != first
    assert labels(ImageData(pixel_folder, 6, seed=2).train_dataloader()) != first
    assert labels(ImageData(pixel_folder, 6, seed=1).train_dataloader()) == first


def test_order_does_not_touch_the_global_generator(pixel_folder: Path) -> None:
    before = torch.get_rng_state()
    labels(ImageData(pixel_folder, 6, seed=1).train_dataloader())
    assert torch.equal(before, torch.get_rng_state())


def test_ranks_share_what_one_process_sees(pixel_folder: Path) -> None:
    alone = ImageData(pixel_folder, 6, 0, eval_batch_size=3)
    ranks = [at_epoch(ImageData(pixel_folder, 6, 0, eval_batch_size=3), 0, rank, 2) for rank in (0, 1)]
    whole = [set(batch.tolist()) for _, batch in alone.train_dataloader()]
    halves = zip(*(list(data.train_dataloader()) for data in ranks), strict=True)
    assert [set(a[1].tolist()) | set(b[1].tolist()) for a, b in halves] == whole
    tested = [labels(data.val_dataloader()) for data in ranks]
    assert sorted(tested[0] + tested[1]) == list(range(7))
    assert len({len(data.val_dataloader()) for data in ranks}) == 1
    assert all(len(target) for data in ranks for _, target in data.val_dataloader())
    with pytest.raises(BadInput, match="multiple of 2"):
        at_epoch(ImageData(pixel_folder, 5, 0), 0, 0, 2).train_dataloader()


def test_train_limit_is_nested_and_not_of_the_seed(pixel_folder: Path) -> None:
    few, more = (set(ImageData(pixel_folder, 1, 0, train_limit=n).labels["train"].tolist()) for n in (5, 11))
    assert len(few) == 5 and len(more) == 11 and few < more
    assert set(ImageData(pixel_folder, 1, seed=9, train_limit=5).labels["train"].tolist()) == few
    assert few != set(range(5)) and torch.equal(subset(9, 9), torch.arange(9))
    assert len(ImageData(pixel_folder, 8, 0, train_limit=5).train_dataloader()) == 1


@pytest.mark.parametrize(
    "wrong", [{"train_limit": 21}, {"train_limit": 0}, {"batch_size": 0}, {"eval_batch_size": 0}]
)
def test_wrong_sizes(pixel_folder: Path, wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        ImageData(pixel_folder, **({"batch_size": 2, "seed": 0} | wrong))


def test_goes_on_at_a_position_and_makes_only_the_rest(pixel_folder: Path) -> None:
    data = at_epoch(ImageData(pixel_folder, 4, seed=1), epoch=3)
    loader = data.train_dataloader()
    whole = [batch.tolist() for _, batch in loader]
    made = []
    data.batch = lambda split, rows: made.append(rows) or (rows, data.labels[split][rows])
    loader.load_state_dict({"position": 3})
    rest = iter(loader)
    assert next(rest)[1].tolist() == whole[3] and len(made) == 1
    assert loader.state_dict() == {"position": 4}
    assert [batch.tolist() for _, batch in rest] == whole[4:]
    assert [batch.tolist() for _, batch in loader] == whole


def test_a_position_set_after_the_iterator_was_asked_for_counts(pixel_folder: Path) -> None:
    loader = ImageData(pixel_folder, 4, seed=1).train_dataloader()
    whole, asked_for = labels(loader), iter(loader)
    loader.load_state_dict({"position": 2})
    assert [int(label) for _, batch in asked_for for label in batch] == whole[8:]
