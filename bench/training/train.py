"""ONE run, from its frozen config to its record."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from bench.meters.memory import peak_rss_bytes
from bench.models.checks import dropout_sites
from bench.runs import loggers, machine
from bench.runs.store import identity
from bench.runs.worker import MEETING, RESUME, settle
from bench.training import build, distributed
from bench.training.build import controlled
from bench.training.callbacks import Journal, UseCurves, scored_in_int8
from bench.training.checkpoint import Best, Checked, Resume
from bench.training.init_from_run import before_tying, inherit
from bench.training.lightning_compat import leave_signals_alone
from bench.training.module import Training
from bench.tying import TyingPlan

STREAM, APART = 1_000_003, 7_919_000_033
"""The dropout stream of a seed, and how far the streams of two ranks lie apart."""


def main(folder: Path, launched: float) -> None:
    """Train, evaluate and record the run whose request lies in `folder`, as one of its ranks."""
    first = os.environ.get("RANK", "0") == "0"
    # One lock a run: between two of its ranks a measurement could come in, and wait for the one while the other
    # waits for it.
    with machine.among_others() if first else contextlib.nullcontext():
        settle(folder, "record.json", lambda request, config: train(request, config, folder, launched))


def train(
    request: Mapping[str, Any], config: Mapping[str, Any], folder: Path, launched: float
) -> dict[str, Any]:
    """The whole of a run: data, model, plan, fit, evaluate; returns its part of the record.

    Every rank does all of it; the first one alone writes, and what it returns is what counts.
    """
    torch.set_num_threads(config["trainer"]["threads"])
    _connect(config)
    built = _build(request, config, folder)
    module, plan = built.module, built.plan
    # The dropout stream starts here for every tying alike, whatever the building of the model drew.
    torch.manual_seed(config["seed"] + STREAM + distributed.rank() * APART)

    metric = config["task"]["metric"]
    logger = loggers.open_logger(request, config, folder) if distributed.rank() == 0 else False
    measured = build.measured_ties(module.model)
    journal = Journal(folder, metric["name"], measured["depth"], launched)
    best = Best(folder / "best.ckpt", metric)
    resume = Resume(folder / RESUME, config["trainer"]["checkpoint_every_s"], _stamp(request), journal.paused)
    callbacks: list[L.Callback] = [best, journal, resume]
    if config["trainer"]["use_gradients"]:
        callbacks.insert(0, UseCurves(folder / "uses.csv", plan))  # before the journal's clock goes on
    trainer = trainer_of(config, folder, logger, callbacks)
    with resume.listening():
        trainer.fit(module, built.data, ckpt_path=resume.found(), weights_only=True)
        record = {
            **built.origin,
            **_evaluate(trainer, module, plan, best, journal),
            "int8": scored_in_int8(trainer, module, plan) if config["trainer"]["quantize"] else None,
            **_figures_of_weights(module.model, measured),
            **_figures_of_training(module, trainer, journal),
            "attempts": request.get("attempts", 1),
            "resumed_from": resume.resumed_from,
            "checkpoint_bytes": best.path.stat().st_size,
        }
        if distributed.rank() == 0:
            loggers.close_logger(logger, request, record, folder.parent)
            record["seconds"]["total"] = journal.total_s()
    distributed.close()
    return record


@dataclass(frozen=True)
class Built:
    """What a run trains, and where it comes from: `origin` is the part of its record that building it settles."""

    data: L.LightningDataModule
    module: Training
    plan: TyingPlan
    origin: Mapping[str, Any]


def _build(request: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> Built:
    """Make the network, give it the weights that it starts from, and tie it."""
    data = build.data_module(config)
    sized, control = controlled(config, data.shapes)
    model = build.network(sized, data.shapes, config["dropout"])
    plan = build.plan_for(sized, model)
    start = inherit(model, folder.parent, request["start"]["run"]) if config["start"] else None
    if start and config["start"]["likeness"]:
        start["likeness"] = before_tying(model, plan, config, data)
    untied = build.tie(sized, model, plan, data)
    module = build.training(config, model, plan, data.meta)
    if config["trainer"]["precision"] == "64-true":
        module.double()  # before a checkpoint is loaded into it, not after
    build.compile_in_place(model, config["trainer"]["compile"])
    origin = {
        "num_params": sum(p.numel() for p in model.parameters()),
        "num_params_untied": control["untied_params"] if control else untied,
        "control": control,
        "start": start,
    }
    return Built(data, module, plan, origin)


def _connect(config: Mapping[str, Any]) -> None:
    on_gpu = build.device(config).type == "cuda"
    meeting = Path(os.environ[MEETING]) if MEETING in os.environ else None
    distributed.connect(config["trainer"]["devices"], identity(config), gpu=on_gpu, meeting=meeting)


def _stamp(request: Mapping[str, Any]) -> dict[str, str]:
    """What must be the same for a checkpoint to be of this run and to mean the same numbers."""
    return {"run": request["id"], "torch": str(torch.__version__), "lightning": L.__version__}


def trainer_of(config: Mapping[str, Any], folder: Path, logger: Any, callbacks: list[Any]) -> L.Trainer:
    """Lightning's trainer as a run asks for it: its processes and its signals are ours."""
    asked = config["trainer"]
    trainer = L.Trainer(
        default_root_dir=folder,
        logger=logger,
        callbacks=callbacks,
        plugins=[Checked(), LightningEnvironment()],  # the processes are ours, whatever SLURM says
        max_epochs=asked["max_epochs"],
        val_check_interval=asked["val_check_interval"],
        limit_train_batches=asked["limit_train_batches"],
        limit_val_batches=asked["limit_eval_batches"],
        limit_test_batches=asked["limit_eval_batches"],
        precision=asked["precision"],
        accelerator=asked["accelerator"],
        strategy=_strategy(config),
        devices=asked["devices"],
        use_distributed_sampler=False,  # Lightning's own shuffles training data even where asked not to
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    leave_signals_alone(trainer)
    return trainer


def _strategy(config: Mapping[str, Any]) -> DDPStrategy | str:
    """Processes that exist and are connected already; or Lightning's own for one."""
    if distributed.count() == 1:
        return "auto"
    return DDPStrategy(
        process_group_backend="nccl" if build.device(config).type == "cuda" else "gloo",
        find_unused_parameters=False,
        broadcast_buffers=False,  # once before an evaluation is enough, see Training; this would be at every step
    )


def _evaluate(
    trainer: L.Trainer, module: Training, plan: TyingPlan, best: Best, journal: Journal
) -> dict[str, Any]:
    """The scores of the weights that were best on validation, their ties checked once more and their copies counted.

    `last` has those of the weights that training ended with, which overfitted longest.
    """
    distributed.wait()  # the first rank may still be writing them
    kept = torch.load(best.path, weights_only=True)
    data = trainer.datamodule
    last = None
    if kept["global_step"] < trainer.global_step:
        last = {
            "val": journal.scores.get(trainer.global_step)
            or module.evaluate(trainer, data.val_dataloader(), "val"),
            "train": module.evaluate(trainer, data.probe_dataloader(), "probe"),
        }
    module.load_state_dict(kept["state_dict"])
    plan.verify(module.model)
    scores = {
        "test": module.evaluate(trainer, data.test_dataloader(), "test"),
        "val": journal.scores[kept["global_step"]],
        "train": module.evaluate(trainer, data.probe_dataloader(), "probe"),
    }
    last = last or {split: scores[split] for split in ("val", "train")}
    return {
        "test_groups": scores["test"].pop("groups", None),
        **scores,
        "gap": _gap(scores),
        "last": {**last, "gap": _gap(last)},
        "effective_params": plan.effective_params(module.model),
        "best_epoch": kept["global_step"] / trainer.num_training_batches,
    }


def _gap(scores: Mapping[str, Mapping[str, Any]]) -> float:
    return scores["val"]["nll"] - scores["train"]["nll"]


def _figures_of_weights(model: nn.Module, ties: Mapping[str, TyingPlan]) -> dict[str, Any]:
    return {
        "spread": {name: plan.spread(model) for name, plan in ties.items()},
        "similarity": build.similarity(model),
        "dropout_sites": dropout_sites(model),
    }


def _figures_of_training(module: Training, trainer: L.Trainer, journal: Journal) -> dict[str, Any]:
    seen = distributed.total(seen=module.seen - journal.seen_at_start)["seen"]
    return {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "decay": {**module.decay, "dose": module.dose},
        "clipped_share": float(module.clipped) / max(1, trainer.global_step),
        "curves": journal.curves,
        "throughput": {"value": seen / journal.training_s if seen else None, "unit": module.unit},
        "ranks": distributed.count(),
        "peak_rss_bytes": peak_rss_bytes(),
        "device": build.device_name(trainer.strategy.root_device),
        "seconds": {
            "total": journal.total_s(),
            "fit": journal.start_s + journal.training_s,
            "first_steps": journal.start_s,
            "to_first_step": journal.first_step_s,
        },
    }
