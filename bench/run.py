"""ONE run, from its frozen config to its record."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from bench import assembly, machine, tracking
from bench.journal import Journal
from bench.measure.memory import peak_rss_bytes
from bench.models.parts import dropout_sites
from bench.training import Training
from bench.worker import settle


def main(folder: Path, launched: float) -> None:
    """Train, evaluate and record the run whose request lies in `folder`."""
    with machine.among_others():
        settle(folder, "record.json", lambda request, config: train(request, config, folder, launched))


def train(
    request: Mapping[str, Any], config: Mapping[str, Any], folder: Path, launched: float
) -> dict[str, Any]:
    """The whole of a run: data, model, plan, fit, evaluate; returns its part of the record."""
    torch.set_num_threads(config["trainer"]["threads"])
    data = assembly.data_module(config)
    model = assembly.network(config, data.shapes, config["dropout"])
    plan = assembly.plan_for(config, model)
    untied = assembly.tie(config, model, plan)
    module = assembly.training(config, model, plan, data.meta)
    # The dropout stream starts here for every tying alike, whatever the building of the model drew.
    torch.manual_seed(config["seed"] + 1_000_003)

    metric = config["task"]["metric"]
    logger = tracking.open_logger(request, config, folder)
    checkpoint = ModelCheckpoint(
        folder, "best", monitor=f"val/{metric['name']}", mode=metric["mode"], save_weights_only=True
    )
    measured = assembly.measured_ties(model)
    journal = Journal(folder, metric["name"], measured["depth"], launched)
    trainer = _trainer(config, folder, logger, [checkpoint, journal])
    trainer.fit(module, data)

    best = torch.load(checkpoint.best_model_path, weights_only=True)
    module.load_state_dict(best["state_dict"])
    plan.verify(model)
    scores = {
        "test": module.evaluate(trainer, data.test_dataloader(), "test"),
        "val": journal.scores[best["global_step"]],
        "train": module.evaluate(trainer, data.probe_dataloader(), "probe"),
    }
    record = {
        "num_params": sum(p.numel() for p in model.parameters()),
        "num_params_untied": untied,
        **scores,
        "gap": scores["val"]["nll"] - scores["train"]["nll"],
        "best_epoch": best["global_step"] / trainer.num_training_batches,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "spread": {name: ties.spread(model) for name, ties in measured.items()},
        "dropout_sites": dropout_sites(model),
        **_training_figures(module, trainer, journal),
        "checkpoint_bytes": Path(checkpoint.best_model_path).stat().st_size,
        "peak_rss_bytes": peak_rss_bytes(),
        "device": assembly.device_name(trainer.strategy.root_device),
        "seconds": {
            "total": time.time() - launched,
            "fit": journal.training_s,
            "to_first_step": journal.first_step_s,
        },
    }
    tracking.close_logger(logger, request, record, folder.parent)
    return record


def _trainer(config: Mapping[str, Any], folder: Path, logger: Any, callbacks: list[Any]) -> L.Trainer:
    asked = config["trainer"]
    return L.Trainer(
        default_root_dir=folder,
        logger=logger,
        callbacks=callbacks,
        max_epochs=asked["max_epochs"],
        val_check_interval=asked["val_check_interval"],
        limit_train_batches=asked["limit_train_batches"],
        limit_val_batches=asked["limit_eval_batches"],
        limit_test_batches=asked["limit_eval_batches"],
        precision=asked["precision"],
        accelerator=asked["accelerator"],
        devices=asked["devices"],
        use_distributed_sampler=False,  # Lightning's own shuffles training data even where asked not to
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _training_figures(module: Training, trainer: L.Trainer, journal: Journal) -> dict[str, Any]:
    return {
        "decay": {**module.decay, "dose": module.dose},
        "clipped_share": float(module.clipped) / max(1, trainer.global_step),
        "curves": journal.curves,
        "throughput": {"value": float(module.seen) / journal.training_s, "unit": module.unit},
    }
