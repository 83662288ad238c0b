"""Where tying and models meet: the network as the config asks for it, and the plan that was applied to it."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from torch import nn

from bench import machine
from bench.errors import BadInput
from bench.fitting import Training
from bench.tying import NotApplicable, TyingPlan, strategies
from bench.tying.similarity import cosine
from bench.worker import DoesNotApply


def data_module(config: Mapping[str, Any]) -> L.LightningDataModule:
    data = config["data"]
    make = instantiate(data["module"])
    return make(
        folder=data["folder"],
        seed=config["seed"],
        **config["task"]["batches"],
    )


def network(config: Mapping[str, Any], shapes: Mapping[str, int], dropout: float) -> nn.Module:
    """The plain network. Its initial weights depend on the seed alone, whatever will be tied."""
    torch.manual_seed(config["seed"])
    try:
        return instantiate(dict(config["model"]), **shapes, dropout=dropout)
    except Exception as error:
        # Hydra wraps what a constructor raises; the user's mistake is inside.
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from error
        if isinstance(cause, TypeError) and "unexpected keyword" in str(cause):
            raise BadInput(f"unknown key of model: {cause}; conf/model/*.yaml has the keys") from error
        raise


def plan_for(config: Mapping[str, Any], model: nn.Module) -> TyingPlan:
    """The union of the plans of the chosen strategies. DoesNotApply with the reason where one cannot."""
    try:
        return strategies.compose(model, parts=list(instantiate(config["tying"]["parts"]).values()))
    except NotApplicable as reason:
        raise DoesNotApply(str(reason)) from reason


def tie(config: Mapping[str, Any], model: nn.Module, plan: TyingPlan) -> int:
    """Apply the plan in place, check that it gave what it predicted; returns the untied number of parameters."""
    untied = sum(p.numel() for p in model.parameters())
    predicted = plan.num_params(model)
    start = config.get("start")
    # Without a start namesakes were not trained: they have no mean worth the name.
    merge = start["merge"] if start else "first"
    plan.apply(model, init=config["tying"]["init"] or "own", merge=merge)
    plan.verify(model)
    actual = sum(p.numel() for p in model.parameters())
    if actual != predicted:
        raise RuntimeError(f"the plan predicted {predicted} parameters, the tied model has {actual}")
    return untied


def training(
    config: Mapping[str, Any], model: nn.Module, plan: TyingPlan, meta: Mapping[str, Any]
) -> Training:
    """The task's training module around the tied model."""
    return instantiate(config["task"]["module"])(
        model,
        plan,
        optimizer=config["optimizer"],
        weight_decay=config["weight_decay"],
        form=config["tying"]["form"],
        output_precision=config["trainer"]["output_precision"],
        meta=meta,
    )


def compile_in_place(model: nn.Module, mode: str | None) -> None:
    """What training and scoring call of the model goes through torch.compile in that mode; None leaves it as it is.

    Nothing is compiled yet: the first call with a batch of a new shape does that.
    """
    if mode is not None:
        name = "hidden" if hasattr(model, "hidden") else "forward"
        setattr(model, name, torch.compile(getattr(model, name), mode=mode))


def measured_ties(model: nn.Module) -> dict[str, TyingPlan]:
    """The ties whose spread every record holds, tied or not: namesakes along depth, and the embedding pair."""
    found = {}
    for name, strategy in (("depth", strategies.cross_layer), ("embedding", strategies.embedding)):
        try:
            found[name] = strategy(model)
        except NotApplicable:
            found[name] = TyingPlan()
    return found


def similarity(model: nn.Module) -> list[list[float | None]] | None:
    """`bench.tying.similarity.cosine` of its blocks; None where it has no stack of them."""
    try:
        return cosine(model)
    except NotApplicable:
        return None


def device(config: Mapping[str, Any]) -> torch.device:
    """The kind of device that the config asks for on this machine."""
    accelerator = config["trainer"]["accelerator"]
    gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


def device_name(device: torch.device) -> str:
    """The model of what the numbers were measured on."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {machine.processor()}"
