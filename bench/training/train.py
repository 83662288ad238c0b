"""ONE run, from its frozen config to its record."""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from bench.meters.memory import peak_rss_bytes
from bench.models.checks import dropout_sites
from bench.runs import loggers, machine
from bench.runs.identity import VALIDATIONS, identity
from bench.runs.store import BEST, EXAMPLES, write_bytes_atomic
from bench.runs.worker import RENDEZVOUS, RESUME, run_and_record
from bench.training import build, distributed
from bench.training.callbacks import MetricsCallback, UseCurves
from bench.training.checkpoint import LAYOUT, Best, Checked, Resume
from bench.training.init_from_pretrained import init_from_pretrained
from bench.training.init_from_run import init_from_run, left_in, pair_similarity
from bench.training.lightning_compat import leave_signals_alone
from bench.training.module import Training
from bench.tying import TyingPlan
from bench.tying.growl import alike
from bench.tying.int8 import num_bytes, quantize
from bench.tying.structure import copied, parts_of

DROPOUT_STREAM, RANK_STREAM = 1_000_003, 7_919_000_033
"""What is added to a seed for its stream of dropout, and for that of each further rank."""


def main(folder: Path, launched: float) -> None:
    """Train, evaluate and record the run whose request lies in `folder`, as one of its ranks."""
    is_first = os.environ.get("RANK", "0") == "0"
    # One lock a run: between two of its ranks a measurement could come in, and wait for the one while the other
    # waits for it.
    with machine.among_others() if is_first else contextlib.nullcontext():
        run_and_record(
            folder, "record.json", lambda request, config: train(request, config, folder, launched)
        )


def train(
    request: Mapping[str, Any], config: Mapping[str, Any], folder: Path, launched: float
) -> dict[str, Any]:
    """Build, tie, train and evaluate one network. Returns the run's own part of its record.

    Every rank does all of it. Only the first one writes, and only what it returns is recorded.
    """
    torch.set_num_threads(config["trainer"]["threads"])
    on_gpu = build.device(config).type == "cuda"
    rendezvous = Path(os.environ[RENDEZVOUS]) if RENDEZVOUS in os.environ else None
    distributed.connect(config["trainer"]["devices"], identity(config), gpu=on_gpu, rendezvous=rendezvous)

    data = build.data_module(config)
    sized, control = build.controlled(config, data.shapes)
    model = build.network(sized, data.shapes, config["dropout"])
    plan = build.plan_for(sized, model)
    start = _begin(model, config, data.shapes, request, folder.parent, control)
    if start and config["start"]["likeness"]:
        start["likeness"] = pair_similarity(model, plan, config, data)
    num_params_untied = build.tie(sized, model, plan, data)
    module = build.training(config, model, plan, data.meta)
    if module.learns_from_original:
        module.learn_from(_original(config, data.shapes))
    taught = {}
    if module.has_teacher:
        taught["teacher_accuracy"] = module.teach(build.data_module(config, train_limit=None))
    if config["trainer"]["precision"] == "64-true":
        module.double()  # before a checkpoint is loaded into it
    build.compile_in_place(model, config["trainer"]["compile"])

    # The dropout stream starts here for every tying alike, whatever building the network drew.
    torch.manual_seed(config["seed"] + DROPOUT_STREAM + distributed.rank() * RANK_STREAM)
    logger = loggers.open_logger(request, config, folder) if distributed.rank() == 0 else False
    measured_ties = build.measured_ties(model)
    metrics = MetricsCallback(folder, config["task"]["metric"]["name"], measured_ties["depth"], launched)
    best = Best(folder / BEST, config["task"]["metric"], config["trainer"]["patience"])
    resume = Resume(folder / RESUME, config["trainer"]["checkpoint_every_s"], _stamp(request), metrics.paused)
    # Use curves come first: they are not counted as training.
    uses = [UseCurves(folder / "uses.csv", plan)] if config["trainer"]["use_gradients"] else []
    trainer = trainer_of(config, folder, logger, [*uses, best, metrics, resume])

    with resume.listening():
        if start and "model" in start:  # what tying does before anything is trained
            start["test"] = module.evaluate(trainer, data.test_dataloader(), "test")
        trainer.fit(module, data, ckpt_path=resume.usable_path(), weights_only=True)
        record = {
            "num_params": sum(p.numel() for p in model.parameters()),
            "num_params_untied": control["untied_params"] if control else num_params_untied,
            "control": control,
            "start": start,
            **_evaluate(trainer, module, plan, best, metrics),
            **_example_scores(trainer, module, config, folder),
            "int8": _evaluate_int8(trainer, module, plan) if config["trainer"]["quantize"] else None,
            "effective_params_by_use": measured_ties["depth"].effective_params_by_use(model),
            "spread": {name: ties.spread(model) for name, ties in measured_ties.items()},
            "similarity": build.similarity(model),
            **_alike_rows(module),
            **taught,
            "dropout_sites": dropout_sites(model),
            **_training_figures(module, trainer, metrics),
            "stop": _stop(trainer, module),
            "attempts": request.get("attempts", 1),
            "resumed_from": resume.resumed_from,
            "checkpoint_bytes": best.path.stat().st_size,
        }
        if distributed.rank() == 0:
            loggers.close_logger(logger, request, record, folder.parent)
            record["seconds"]["total"] = metrics.total_s()
    distributed.close()
    return record


def _begin(
    model: nn.Module,
    config: Mapping[str, Any],
    shapes: Mapping[str, int],
    request: Mapping[str, Any],
    runs: Path,
    control: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """Load the weights that the run begins from, in place, and return what the record says of them.

    A network with blocks left out begins from those blocks that it has.
    """
    start, blocks = config["start"], control and control["blocks"]
    if start is None:
        return None
    if "model" in start:
        return init_from_pretrained(model, start["model"], blocks)
    if blocks is None:
        return init_from_run(model, runs, request["start"]["run"])
    whole, left = build.names_of_blocks(config, shapes), parts_of(model).stack
    return init_from_run(model, runs, request["start"]["run"], lambda w: left_in(w, whole, left, blocks))


def _original(config: Mapping[str, Any], shapes: Mapping[str, int]) -> nn.Module:
    """Return the untied network that training begins from, whatever of it is tied or left out."""
    model = build.network(config, shapes, dropout=0.0)
    if config["start"]:
        init_from_pretrained(model, config["start"]["model"])
    return model


def _stamp(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to be of this run and to mean the same numbers."""
    versions = {"torch": str(torch.__version__), "lightning": L.__version__, "layout": LAYOUT}
    return {"run": request["id"], **versions}


def trainer_of(config: Mapping[str, Any], folder: Path, logger: Any, callbacks: list[Any]) -> L.Trainer:
    """Return Lightning's trainer as the config asks for it. Processes and signals are not left to Lightning."""
    settings = config["trainer"]
    trainer = L.Trainer(
        default_root_dir=folder,
        logger=logger,
        callbacks=callbacks,
        plugins=[Checked(), LightningEnvironment()],  # the processes are ours, whatever SLURM says
        **_budget(settings),
        limit_train_batches=settings["limit_train_batches"],
        limit_val_batches=settings["limit_eval_batches"],
        limit_test_batches=settings["limit_eval_batches"],
        precision=settings["precision"],
        accelerator=settings["accelerator"],
        strategy=_strategy(config),
        devices=settings["devices"],
        use_distributed_sampler=False,  # Lightning's own shuffles training data even where asked not to
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    leave_signals_alone(trainer)
    return trainer


def _budget(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how long Lightning trains and how often it validates: by epochs, or by steps across epochs.

    A budget in steps that 12 divides ends with a validation; of another the last comes a little before the end.
    """
    steps = settings["max_steps"]
    if steps is None:
        return {
            "max_epochs": settings["max_epochs"],
            "val_check_interval": settings["val_check_interval"],
        }
    return {
        "max_epochs": -1,
        "max_steps": steps,
        "val_check_interval": max(1, round(steps / VALIDATIONS)),
        "check_val_every_n_epoch": None,
    }


def _strategy(config: Mapping[str, Any]) -> DDPStrategy | str:
    """Return Lightning's choice for one process, else a strategy for ranks that are connected already."""
    if distributed.count() == 1:
        return "auto"
    return DDPStrategy(
        process_group_backend="nccl" if build.device(config).type == "cuda" else "gloo",
        find_unused_parameters=False,
        broadcast_buffers=False,  # once before an evaluation is enough, see Training; this would be at every step
    )


def _evaluate(
    trainer: L.Trainer, module: Training, plan: TyingPlan, best: Best, metrics: MetricsCallback
) -> dict[str, Any]:
    """Score the weights that were best on validation, check their ties and count their distinct values.

    Returns `test`, `val` and `train` of these weights, and under `last` those of the weights that training ended
    with, which overfitted longest. `gap` is validation's nll less training's.
    """
    distributed.wait()  # the first rank may still be writing them
    best_weights = torch.load(best.path, weights_only=True)
    data = trainer.datamodule
    last = None
    if best_weights["global_step"] < trainer.global_step:
        last = {
            "val": metrics.scores.get(trainer.global_step)
            or module.evaluate(trainer, data.val_dataloader(), "val"),
            "train": module.evaluate(trainer, data.probe_dataloader(), "probe"),
        }
    module.load_state_dict(best_weights["state_dict"])
    plan.verify(module.model)
    scores = {
        "test": module.evaluate(trainer, data.test_dataloader(), "test"),
        "val": metrics.scores[best_weights["global_step"]],
        "train": module.evaluate(trainer, data.probe_dataloader(), "probe"),
    }
    last = last or {split: scores[split] for split in ("val", "train")}
    return {
        "test_groups": scores["test"].pop("groups", None),
        "test_by_frequency": scores["test"].pop("by_frequency", None),
        **scores,
        "gap": _gap(scores),
        "last": {**last, "gap": _gap(last)},
        "effective_params": plan.effective_params(module.model),
        "best_epoch": best_weights["global_step"] / trainer.num_training_batches,
    }


def _gap(scores: Mapping[str, Mapping[str, Any]]) -> float:
    return scores["val"]["nll"] - scores["train"]["nll"]


def _example_scores(
    trainer: L.Trainer, module: Training, config: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write what each example of the test split scores, where that is asked for; returns how many there are."""
    if not config["trainer"]["example_scores"]:
        return {}
    scores = module.score_examples(trainer, trainer.datamodule.test_dataloader())
    packed = io.BytesIO()
    np.savez_compressed(packed, **{key: value.cpu().numpy() for key, value in scores.items()})
    write_bytes_atomic(folder / EXAMPLES, packed.getvalue())
    return {"example_scores": {"file": EXAMPLES, "n": len(scores["nll"])}}


def _evaluate_int8(trainer: L.Trainer, module: Training, plan: TyingPlan) -> dict[str, Any]:
    """Score a copy of the network in int8. Every rank does it alike, and no other number of the run changes.

    Returns `test`, its scores, and `bytes` and `bytes_float`: the size of the distinct tensors, buffers included, in
    int8 and before.
    """
    model = module.model
    module.model = quantize(copied(model), plan)
    try:
        test = module.evaluate(trainer, trainer.datamodule.test_dataloader(), "test")
        size = num_bytes(module.model)
    finally:
        module.model = model
    for parts in ("groups", "by_frequency"):  # recorded of the float weights alone
        test.pop(parts, None)
    return {"test": test, "bytes": size, "bytes_float": num_bytes(model)}


def _stop(trainer: L.Trainer, module: Training) -> dict[str, Any]:
    """Return at which step training ended, of how many that it had, and why."""
    is_whole = trainer.global_step == module.budget
    return {
        "step": trainer.global_step,
        "of": module.budget,
        "why": "budget" if is_whole else "patience",
    }


def _alike_rows(module: Training) -> dict[str, Any]:
    """Return a label for each row of the matrix whose rows were penalised: those that became alike have one."""
    if not module.penalised:
        return {}
    return {"alike_rows": alike(module.model.get_parameter(module.penalised).T)}


def _training_figures(module: Training, trainer: L.Trainer, metrics: MetricsCallback) -> dict[str, Any]:
    seen = distributed.total(seen=module.seen - metrics.seen_at_start)["seen"]
    return {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "decay": {**module.decay, "dose": module.dose},
        "clipped_share": float(module.clipped) / max(1, trainer.global_step),
        "curves": metrics.curves,
        "throughput": {"value": seen / metrics.training_s if seen else None, "unit": module.unit},
        "ranks": distributed.count(),
        "peak_rss_bytes": peak_rss_bytes(),
        "device": build.device_name(trainer.strategy.root_device),
        "seconds": {
            "total": metrics.total_s(),
            "fit": metrics.start_s + metrics.training_s,
            "first_steps": metrics.start_s,
            "to_first_step": metrics.first_step_s,
        },
    }
