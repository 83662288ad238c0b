"""A run as `bench.training.train` does it, watched from inside: each rank leaves `seen-<rank>.pt` in the folder."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.runs.worker import run_and_record
from bench.training import train as run
from bench.training.module import Training


def main(folder: Path, launched: float) -> None:
    run_and_record(folder, "record.json", lambda request, config: _watched(request, config, folder, launched))


def _watched(request: Mapping[str, Any], config: Any, folder: Path, launched: float) -> Mapping[str, Any]:
    rank = int(os.environ.get("RANK", "0"))
    if request.get("other_seed_on") == rank:
        config = {**config, "seed": config["seed"] + 1}
    seen: dict[str, Any] = {"gradients": [], "masks": [], "written": set()}
    sys.addaudithook(lambda event, told: _note_writing(seen["written"], folder, event, told))
    _watch(seen)
    if "ended_at" in request:
        _then(request["ended_at"], lambda: os.kill(os.getpid(), signal.SIGTERM))
    if rank == 1 and request.get("second") == "raises":
        _then(2, lambda: {}["no such key"])
    if rank == 1 and request.get("second") == "dies":
        _then(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
    record = run.train(request, config, folder, launched)
    torch.save({**seen, "written": sorted(seen["written"])}, folder / f"seen-{rank}.pt")
    return record


def _note_writing(written: set[str], folder: Path, event: str, told: tuple[Any, ...]) -> None:
    if event == "open" and str(told[0]).startswith(str(folder)) and told[2] & (os.O_WRONLY | os.O_RDWR):
        written.add(Path(told[0]).name)


def _then(step: int, what: Callable[[], object]) -> None:
    """Do `what` once `step` steps are done."""
    train = Training.training_step

    def training_step(module: Training, batch: Any, index: int) -> Any:
        if module.global_step == step:
            what()
        return train(module, batch, index)

    Training.training_step = training_step


def _watch(seen: dict[str, Any]) -> None:
    clip, evaluate = Training.configure_gradient_clipping, run._evaluate

    def clip_and_keep(module: Training, *given: Any, **named: Any) -> None:
        seen["gradients"].append({n: p.grad.clone() for n, p in module.model.named_parameters()})
        clip(module, *given, **named)

    def keep_and_evaluate(trainer: Any, module: Training, *given: Any) -> dict[str, Any]:
        named = dict(module.model.named_parameters(remove_duplicate=False))
        seen["parameters"] = {name: p.detach().clone() for name, p in named.items()}
        seen["storages"] = {name: p.data_ptr() for name, p in named.items()}
        return evaluate(trainer, module, *given)

    Training.configure_gradient_clipping, run._evaluate = clip_and_keep, keep_and_evaluate
    nn.modules.module.register_module_forward_hook(
        lambda m, given, out: _keep_mask(seen["masks"], m, given, out)
    )


def _keep_mask(masks: list[torch.Tensor], module: nn.Module, given: Any, out: Any) -> None:
    if isinstance(module, nn.Dropout) and module.training and module.p and len(masks) < 3:
        masks.append((out == 0) & (given[0] != 0))
