"""Where curves go besides the local record: W&B, a csv file, or nowhere. No table reads them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from bench.records import cost_folder, recorded


def open_logger(request: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> Logger | bool:
    """The logger that the run was asked to use, with the whole config in it; False for none."""
    logger = instantiate(request["logger"])(folder, request)
    if isinstance(logger, Logger):
        logger.log_hyperparams(dict(config))
    return logger


def close_logger(
    logger: Logger | bool, request: Mapping[str, Any], record: Mapping[str, Any], runs: Path
) -> None:
    """Put the record's figures and its cell's cost into the summary and close the tracker's run."""
    if not isinstance(logger, Logger):
        return
    cost = recorded(cost_folder(runs, request["cost"]) / "cost.json") or {}
    summary = dict(flatten({key: record[key] for key in record if key not in ("curves", "decay")}))
    summary |= dict(flatten({"cost": {key: cost[key] for key in COST_KEYS if key in cost}}))
    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(summary)
        wandb.finish()
    else:
        logger.log_metrics({k: v for k, v in summary.items() if isinstance(v, int | float)})
        logger.finalize("success")


COST_KEYS = ("train_step", "inference", "peak_memory", "peak_rss_bytes")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings as ("test/nll", value)."""
    leaves = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves += flatten(value, f"{name}/") if isinstance(value, Mapping) else [(name, value)]
    return leaves


def wandb_logger(folder: Path, request: Mapping[str, Any], *, project: str) -> Logger:
    """One W&B run per run of ours: id = our identity, group = sweep, job type = task, tags = axes.

    Offline unless W&B's own environment says otherwise (WANDB_MODE=online).
    """
    os.environ.setdefault("WANDB_MODE", "offline")
    axes = {"tying": request["tying"], "dropout": request["dropout"], "weight_decay": request["weight_decay"]}
    tags = [
        request["task"],
        request["data"],
        *(f"{k}={v}" for k, v in axes.items()),
        f"seed={request['seed']}",
    ]
    return WandbLogger(
        project=project,
        id=request["id"],
        name=f"{request['task']} {request['tying']} seed {request['seed']}",
        group=request["sweep"],
        job_type=request["task"],
        tags=[tag[:64] for tag in tags],  # W&B refuses longer ones
        save_dir=str(folder),
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )


def csv_logger(folder: Path, request: Mapping[str, Any]) -> Logger:
    return CSVLogger(str(folder), name="csv", version="")


def no_logger(folder: Path, request: Mapping[str, Any]) -> bool:
    return False
