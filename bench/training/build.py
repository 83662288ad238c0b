"""Build what a run trains: data, network, plan, training module, and networks of equal size as controls."""

import bisect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from torch import nn

from bench.models.own import taken
from bench.runs import machine
from bench.runs.worker import DoesNotApply
from bench.training.module import Training
from bench.tying import NotApplicable, TyingPlan, methods
from bench.tying.errors import BadInput
from bench.tying.growl import first_matrix
from bench.tying.recurrent import layers_apart
from bench.tying.similarity import align_to_first, cosine, joined_pairs
from bench.tying.structure import parts_of

Config = Mapping[str, Any]

FEED_FORWARD_RANGE = (0.5, 2.0)
"""The least and the most that a control may get of its own feed-forward width at its new width."""


def data_module(config: Config, **changes: Any) -> L.LightningDataModule:
    """Build what serves the data, with some of its settings changed."""
    data = config["data"]
    return instantiate(data["module"])(
        folder=data["folder"], seed=config["seed"], **config["task"]["batches"], **changes
    )


def network(config: Config, shapes: Mapping[str, int], dropout: float) -> nn.Module:
    """Build the plain network. Its initial weights depend on the seed alone, whatever will be tied.

    Raises:
        BadInput: A key that its class does not take, or one that its class must take and does not.
    """
    torch.manual_seed(config["seed"])
    try:
        model = instantiate(dict(config["model"]), **shapes, dropout=dropout)
    except Exception as error:
        # Hydra wraps what a constructor raises; the user's mistake is inside.
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from error
        if isinstance(cause, TypeError) and "unexpected keyword" in str(cause):
            if any(f"'{name}'" in str(cause) for name in (*shapes, "dropout")):
                must = ", ".join((*shapes, "dropout"))
                raise BadInput(f"a model of this task must take {must}: {cause}") from error
            raise BadInput(f"unknown key of model: {cause}; conf/model/*.yaml has the keys") from error
        raise
    return taken(layers_apart(model), shapes)


def plan_for(config: Config, model: nn.Module) -> TyingPlan:
    """Return the union of the plans of the chosen methods. DoesNotApply where one of them cannot be applied."""
    try:
        return methods.compose(model, parts=list(instantiate(config["tying"]["parts"]).values()))
    except NotApplicable as reason:
        raise DoesNotApply(str(reason)) from reason


def tie(config: Config, model: nn.Module, plan: TyingPlan, data: L.LightningDataModule | None = None) -> int:
    """Apply the plan in place and check its predictions. Returns the number of parameters before.

    data: proves the ties on the first example of its validation split (`TyingPlan.apply`), which no random number of
    the run depends on.
    """
    before = sum(p.numel() for p in model.parameters())
    predicted = plan.num_params(model)
    start = config.get("start")
    # Without a start namesakes were not trained: they have no mean worth the name.
    merge = config["tying"].get("merge") or (start.get("merge", "mean") if start else "first")
    if merge == "aligned":
        align_to_first(model, joined_pairs(plan))
        merge = "mean"
    example = None if data is None else next(iter(data.val_dataloader()))[0][:1]
    plan.apply(model, init=config["tying"]["init"] or "own", merge=merge, example=example)
    plan.verify(model)
    actual = sum(p.numel() for p in model.parameters())
    if actual != predicted:
        raise RuntimeError(f"the plan predicted {predicted} parameters, the tied model has {actual}")
    return before


def training(config: Config, model: nn.Module, plan: TyingPlan, meta: Mapping[str, Any]) -> Training:
    """Build the task's training module around the tied model. DoesNotApply where its penalty on rows has no rows."""
    module = instantiate(config["task"]["module"])(
        model,
        plan,
        optimizer=config["optimizer"],
        weight_decay=config["weight_decay"],
        form=config["tying"]["form"],
        output_precision=config["trainer"]["output_precision"],
        meta=meta,
    )
    if config["optimizer"].get("group_owl"):
        try:
            module.penalised = first_matrix(model)
        except NotApplicable as reason:
            raise DoesNotApply(str(reason)) from reason
        if plan != TyingPlan():
            raise DoesNotApply(
                "optimizer.group_owl finds rows that are alike in a network that nothing ties yet"
            )
    return module


def compile_in_place(model: nn.Module, mode: str | None) -> None:
    """Let torch.compile in this mode stand before what training and scoring call; None leaves the model as it is.

    Nothing is compiled yet: the first call with a batch of a new shape does that.
    """
    if mode is not None:
        name = "hidden" if hasattr(model, "hidden") else "forward"
        setattr(model, name, torch.compile(getattr(model, name), mode=mode))


def measured_ties(model: nn.Module) -> dict[str, TyingPlan]:
    """Return the ties whose spread every record holds, tied or not: all namesakes along depth, and the embeddings."""
    plans = {"depth": methods.cross_layer, "embedding": methods.embedding}
    return {name: _or_else(TyingPlan(), method, model) for name, method in plans.items()}


def similarity(model: nn.Module) -> list[list[float | None]] | None:
    """Return `bench.tying.similarity.cosine` of the model's blocks; None where it has no stack of them."""
    return _or_else(None, cosine, model)


def _or_else(otherwise: Any, call: Callable[[nn.Module], Any], model: nn.Module) -> Any:
    try:
        return call(model)
    except NotApplicable:
        return otherwise


def device(config: Config) -> torch.device:
    """Return the kind of device that the config asks for on this machine."""
    accelerator = config["trainer"]["accelerator"]
    gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


def device_name(device: torch.device) -> str:
    """Return the model of the processor or GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {machine.processor()}"


def controlled(config: Config, shapes: Mapping[str, int]) -> tuple[Config, dict[str, Any] | None]:
    """Return the config of the network that its `control` stands for, and that network's size as records have it.

    params: the untied network with about as many parameters as the tied one. respend: the tied network with about
    as many as the untied one. First the nearest width at the network's own ratio of feed-forward width to width,
    then the nearest feed-forward width. delete: the network without the blocks that the tying makes copies of others.
    Nothing is built but shapes.

    Returns:
        The config itself and None without a control. Else the config at its new size, and the size: kind, blocks
        (numbers of those that are left; None where none is left out), depth, width, feed_forward (None where the
        network has no such width to set), target_params, num_params, ratio (num_params / target_params) and
        untied_params, those of the untied network at its own size.

    Raises:
        DoesNotApply: The tying cannot be applied, saves nothing, or leaves no block out that can be left out.
        BadInput: The network's size does not change with its width.
    """
    kind = config.get("control")
    if kind is None:
        return config, None
    if lacks := [f"model.{key}" for key in ("depth", "width") if key not in config["model"]]:
        raise BadInput(
            f"control={kind} changes model.depth or model.width: this model has no {' and '.join(lacks)}"
        )
    plain, tied, blocks = untied(config), {**config, "control": None}, None
    untied_params, tied_params = num_params(plain, shapes), num_params(tied, shapes)
    if tied_params == untied_params:
        raise DoesNotApply("this tying shares no tensor, so its control is `none` itself")
    if kind == "delete":
        sized, blocks = _shortened(tied, shapes)
        target = tied_params
    else:
        base, target = (plain, tied_params) if kind == "params" else (tied, untied_params)
        sized = _sized(base, shapes, target)
    sized_params = num_params(sized, shapes)
    return sized, {
        "kind": kind,
        "blocks": blocks,
        "depth": sized["model"]["depth"],
        "width": sized["model"]["width"],
        "feed_forward": _feed_forward(sized, shapes),
        "target_params": target,
        "num_params": sized_params,
        "ratio": sized_params / target,
        "untied_params": untied_params,
    }


def untied(config: Config) -> Config:
    """Return the config of the same network without any tie or control."""
    return _with_parts({**config, "control": None}, {})


def _with_parts(config: Config, parts: Mapping[str, Any]) -> Config:
    return {**config, "tying": {**config["tying"], "parts": parts}}


def num_params(config: Config, shapes: Mapping[str, int]) -> int:
    """Count the elements of the distinct parameters of the network that the config asks for, once it is tied."""
    model = _on_meta(config, shapes)
    return plan_for(config, model).num_params(model)


def names_of_blocks(config: Config, shapes: Mapping[str, int]) -> tuple[str, ...]:
    """Return the module names of the blocks of the network that the config asks for, input first."""
    return parts_of(_on_meta(config, shapes)).stack


def _shortened(tied: Config, shapes: Mapping[str, int]) -> tuple[Config, list[int]]:
    """Return the config at the depth of the blocks that are left once every copy of another is out, and their numbers.

    A block is a copy where each of its matrices is one tensor with a matrix of a block before it. Methods that tie
    blocks are left out too; others, such as that of the embedding, stay.
    """
    model = _on_meta(tied, shapes)
    stack = parts_of(model).stack
    block_of = {
        name: index
        for index, block in enumerate(stack)
        for name, _ in model.get_submodule(block).named_parameters(block)
    }
    first = {
        name: min(block_of.get(member, len(stack)) for member in tie.names)
        for tie in plan_for(tied, model).ties
        if tie.is_hard and not tie.rank
        for name in tie.names
    }
    own = {
        index
        for name, index in block_of.items()
        if model.get_parameter(name).ndim >= 2 and first.get(name, index) >= index
    }
    if len(own) == len(stack):
        raise DoesNotApply("this tying makes no block a copy of another, so there is none to leave out")
    stages = tied["model"].get("stages", 1)
    per_stage = len(stack) // stages
    left = {sum(index // per_stage == stage for index in own) for stage in range(stages)}
    if len(left) > 1:
        raise DoesNotApply(
            f"stages would keep {' or '.join(map(str, sorted(left)))} blocks, and all stages have the same number"
        )
    parts = {
        name: part
        for name, part in tied["tying"]["parts"].items()
        if not any(
            member in block_of
            for tie in plan_for(_with_parts(tied, {name: part}), model).ties
            for member in tie.names
        )
    }
    return _with_parts({**tied, "model": {**tied["model"], "depth": len(own)}}, parts), sorted(own)


def _sized(base: Config, shapes: Mapping[str, int], target: int) -> Config:
    @cache
    def count(width: int, feed_forward: int | None = None) -> int:
        return num_params(_with(base, width, feed_forward), shapes)

    width, step = base["model"]["width"], getattr(_on_meta(base, shapes), "width_step", 1)
    if count(width) == count(width + step):
        raise BadInput(
            "control changes model.width, which changes no size here: leave sizes out of model.config, or control=null"
        )
    widest = width
    while count(widest) < target:
        widest += width
    width = nearest(range(step, max(step, widest) + 1, step), target, count)
    own = _feed_forward(_with(base, width), shapes)
    if own is None:
        return _with(base, width)
    of_feed_forward = getattr(_on_meta(base, shapes), "feed_forward_step", 1)
    least, most = (round(share * own / of_feed_forward) for share in FEED_FORWARD_RANGE)
    widths = range(max(1, least) * of_feed_forward, most * of_feed_forward + 1, of_feed_forward)
    return _with(base, width, nearest(widths, target, lambda feed_forward: count(width, feed_forward)))


def nearest(numbers: range, target: int, count: Callable[[int], int]) -> int:
    """Return the number whose count is nearest to `target`, the lower of two as near. Counts rise with the numbers."""
    above = bisect.bisect_left(numbers, target, key=count)
    around = numbers[max(0, above - 1) : above + 1]
    return min(around, key=lambda number: abs(count(number) - target))


def _with(config: Config, width: int, feed_forward: int | None = None) -> Config:
    """Return the config at this width. A feed-forward width that it sets keeps its ratio, unless one is given."""
    model = {**config["model"], "width": width}
    if feed_forward is None and model.get("feed_forward") is not None:
        feed_forward = max(1, round(model["feed_forward"] * width / config["model"]["width"]))
    if feed_forward is not None:
        model["feed_forward"] = feed_forward
    return {**config, "model": model}


def _feed_forward(config: Config, shapes: Mapping[str, int]) -> int | None:
    return getattr(_on_meta(config, shapes), "feed_forward", None)


def _on_meta(config: Config, shapes: Mapping[str, int]) -> nn.Module:
    """Build the network without its numbers, which takes no memory."""
    with torch.device("meta"):
        return network(config, shapes, dropout=0.0)
