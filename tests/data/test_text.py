"""Batches of text: next tokens, carried streams, every token scored once."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.batches import Batches
from bench.data.text import TextData
from bench.tying.errors import BadInput

Folder = Callable[..., Path]


def scored(loader: Batches) -> list[int]:
    return sorted(int(token) for _, targets, _ in loader for token in targets[targets != -100])


def pairs_are_next_tokens(loader: Batches, length: int) -> bool:
    """Tokens count up from 1 (0 is <eos>): a target is its input plus one, or 1 at the ring's seam."""
    return all(
        torch.equal(targets[keep], inputs[keep] % length + 1)
        for whole, targets, _ in loader
        for inputs, keep in [(whole[:, -targets.shape[1] :], targets != -100)]
    )


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 120), window=st.integers(2, 20), batch=st.integers(1, 9), carry=st.booleans())
def test_evaluation_scores_every_token_once(
    n: int, window: int, batch: int, carry: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_tokens(tmp_path_factory, n)
    data = TextData(folder, 1, window, 0, carry, eval_streams=batch, eval_batch_size=batch)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert scored(loader) == list(range(1, n + 1))
        assert len(list(loader)) == len(loader)
        assert pairs_are_next_tokens(loader, n + 1)
    probed = scored(data.probe_dataloader())
    assert len(probed) == len(set(probed)) == max(1, n // 4)
    assert set(probed) <= set(range(1, n + 41))


def test_the_probe_is_pieces_from_the_beginning_to_the_end_of_train(token_folder: Folder) -> None:
    data = TextData(token_folder(100, val=48), 1, 5, 0, True, eval_streams=3)
    assert scored(data.probe_dataloader()) == [*range(1, 5), *range(49, 53), *range(97, 101)]


def test_limits_leave_pieces_from_the_beginning_to_the_end_of_a_split(token_folder: Folder) -> None:
    folder = token_folder(100, val=48)
    data = TextData(folder, 1, 5, 0, True, eval_streams=3, val_limit=6, test_limit=1000)
    assert scored(data.val_dataloader()) == [1, 2, 24, 25, 47, 48]
    whole = TextData(folder, 1, 5, 0, True, eval_streams=3)
    assert scored(data.test_dataloader()) == scored(whole.test_dataloader())
    assert len(scored(data.probe_dataloader())) == 1  # a quarter of what validation scores


def write_tokens(factory: pytest.TempPathFactory, n: int) -> Path:
    import numpy as np
    from prepared_folder import write_folder

    sizes = {"train": n + 40, "val": n, "test": n}
    arrays = {f"{split}_tokens": np.arange(1, size + 1, dtype=np.int32) for split, size in sizes.items()}
    return write_folder(factory.mktemp("law") / "tokens", {"vocab_size": n + 41, "sizes": sizes}, arrays)


def test_first_token_follows_eos(token_folder: Folder) -> None:
    folder = token_folder(40)
    for carry in (True, False):
        inputs, targets, fresh = next(iter(TextData(folder, 2, 4, 0, carry).val_dataloader()))
        assert inputs[0, 0] == 0 and targets[0, 0] == 1 and fresh is True


def test_eval_streams_do_not_depend_on_the_batch_size(token_folder: Folder) -> None:
    folder = token_folder(100, val=50)
    one, other = (list(TextData(folder, b, 4, 0, True, eval_streams=3).val_dataloader()) for b in (1, 8))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))
    assert [fresh for *_, fresh in one] == [True] + [False] * 4 and one[0][0].shape == (3, 4)


def test_carried_rows_continue(token_folder: Folder) -> None:
    data = TextData(token_folder(103), 4, 5, 1, carry=True)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 5
    assert [fresh for *_, fresh in batches] == [True, False, False, False, False]
    assert pairs_are_next_tokens(batches, 103)
    for (_, before, _), (after, _, _) in zip(batches[:-1], batches[1:], strict=True):
        seam = after[:, 0] == 0  # the ring's start, whose input is <eos>
        assert torch.equal(before[:, -1][~seam], after[:, 0][~seam])
    tokens = torch.cat([targets for _, targets, _ in batches]).flatten()
    assert tokens.unique().numel() == 100 and tokens.dtype == torch.int64


def test_windows_are_shuffled_and_disjoint(token_folder: Folder) -> None:
    data = TextData(token_folder(103), 4, 5, 1, carry=False)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 5 and all(fresh for *_, fresh in batches)
    assert pairs_are_next_tokens(batches, 103)
    starts = torch.cat([targets[:, 0] for _, targets, _ in batches])
    assert torch.cat([t for _, t, _ in batches]).unique().numel() == 100
    assert not torch.equal(starts, starts.sort().values)


@pytest.mark.parametrize("carry", [True, False])
def test_order_is_of_seed_and_epoch(carry: bool, token_folder: Folder) -> None:
    folder = token_folder(3001)

    def order(seed: int, epoch: int) -> list[list[int]]:
        data = TextData(folder, 3, 5, seed, carry)
        data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1)
        return [targets.flatten().tolist() for _, targets, _ in data.train_dataloader()]

    assert order(1, 0) == order(1, 0)
    assert len({str(order(seed, epoch)) for seed, epoch in ((1, 0), (1, 1), (2, 0), (2, 1))}) == 4


@pytest.mark.parametrize("carry", [True, False])
def test_ranks_share_what_one_process_sees(carry: bool, token_folder: Folder) -> None:
    folder = token_folder(300, val=61)

    def batches(rank: int, ranks: int, which: str) -> list:
        data = TextData(folder, 4, 5, 1, carry, eval_streams=4, eval_batch_size=5)
        data.trainer = SimpleNamespace(current_epoch=0, global_rank=rank, world_size=ranks)
        return list(getattr(data, which)())

    for which in ("train_dataloader", "val_dataloader"):
        halves = [batches(rank, 2, which) for rank in (0, 1)]
        assert len(halves[0]) == len(halves[1]) and all(len(b[0]) for half in halves for b in half)
        assert scored(halves[0] + halves[1]) == scored(batches(0, 1, which))


def test_train_limit_is_the_first_tokens(token_folder: Folder) -> None:
    folder = token_folder(300, val=50)
    data = TextData(folder, 2, 5, 0, carry=True, train_limit=40)
    assert scored(data.train_dataloader()) == list(range(1, 41))
    assert set(scored(data.probe_dataloader())) <= set(range(1, 41))
    short = TextData(token_folder(300, val=400), 2, 5, 0, carry=True, train_limit=40)
    assert scored(short.probe_dataloader()) == list(range(1, 41))  # never more than there is


@pytest.mark.parametrize(
    "wrong, word",
    [({"batch_size": 21}, "exceeds"), ({"window": 1}, "window"), ({"train_limit": 9}, "exceeds")]
    + [({"train_limit": 101}, "train_limit"), ({"eval_streams": 0}, "eval_streams")],
)
def test_wrong_sizes(token_folder: Folder, wrong: dict, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        TextData(token_folder(100), **({"batch_size": 2, "window": 5, "seed": 0, "carry": True} | wrong))


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning 2.6 under torch 2.13
@pytest.mark.filterwarnings("ignore:The .srun. command is available")  # and of no concern
def test_a_trainer_gives_the_epoch(token_folder: Folder) -> None:
    """Lightning iterates our loader anew each epoch, so the order moves; nothing is warned about."""
    import lightning

    class Listener(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[list[int]] = []

        def training_step(self, batch: tuple, index: int) -> None:
            self.seen.append(batch[1].flatten().tolist())

        def validation_step(self, batch: tuple, index: int) -> None:
            assert batch[0].shape == batch[1].shape

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Listener()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", devices=1, **quiet)
    trainer.fit(module, TextData(token_folder(100), 2, 5, 0, carry=True))
    first, second = module.seen[:10], module.seen[10:]
    assert len(first) == len(second) == 10 and first != second


@pytest.mark.parametrize("which", ["train", "val"])
@pytest.mark.parametrize("carry", [True, False])
def test_goes_on_at_any_position(carry: bool, which: str, token_folder: Folder) -> None:
    data = TextData(token_folder(203, val=61), 4, 5, 1, carry, eval_streams=4, eval_batch_size=5)
    loader = getattr(data, f"{which}_dataloader")()
    whole = list(loader)
    for position in range(len(whole) + 1):
        loader.load_state_dict({"position": position})
        rest = list(loader)
        assert len(rest) == len(whole) - position
        for ours, expected in zip(rest, whole[position:], strict=True):
            assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])
            assert ours[2] == expected[2]
