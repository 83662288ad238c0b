"""Begin a run from the weights of a trained model of `transformers`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from bench.data.zoo import folder_of
from bench.models.pretrained import load
from bench.training.init_from_run import left_in
from bench.tying.errors import BadInput
from bench.tying.methods import blocks_of

CLOSE = 1e-4
"""How far two hidden states may lie apart, relative to the larger, that one function computes in another order."""


def init_from_pretrained(model: nn.Module, name: str, blocks: Sequence[int] | None = None) -> dict[str, Any]:
    """Load a trained model into the network of transformers inside `model`, in place; the rest of it stays.

    Args:
        name: A folder of transformers, a name of the hub, or zoo:NAME.
        blocks: Numbers of the trained blocks that the network has; None: all.

    Returns:
        {"model": what was asked for}.

    Raises:
        BadInput: There is no such model, its weights do not fit, or the network computes something else with them.
    """
    inner = next((child for child in model.children() if isinstance(child, PreTrainedModel)), None)
    if inner is None:
        raise BadInput(
            f"start.model={name} needs a network of transformers, as that of task=sentence_embedding; "
            f"{type(model).__name__} is none"
        )
    folder = folder_of(name)
    trained = load(folder, AutoConfig.from_pretrained(folder, local_files_only=True), type(inner)).float()
    weights = trained.state_dict()
    if blocks is not None:
        stack = blocks_of(trained)
        weights = left_in(weights, stack, stack[: len(blocks)], blocks)
    own = inner.state_dict()
    for key, value in own.items():
        if key not in weights or weights[key].shape != value.shape:
            theirs = tuple(weights[key].shape) if key in weights else "nothing"
            raise BadInput(
                f"the weights of {name} do not fit the network: it has {key} {tuple(value.shape)}, and they have "
                f"{theirs}: leave model.depth, width, heads and config as start=pretrained sets them"
            )
    inner.load_state_dict({key: weights[key] for key in own})
    if blocks is None:
        _check_same(inner, trained, name)
    return {"model": name}


@torch.no_grad()
def _check_same(inner: PreTrainedModel, trained: PreTrainedModel, name: str) -> None:
    """Raise BadInput where the network does not compute what the trained model does: a key of its config is missing."""
    was_training = inner.training
    tokens = torch.arange(2, 10)[None] % inner.config.vocab_size
    outputs = [side.eval()(input_ids=tokens)[0] for side in (inner, trained)]
    inner.train(was_training)
    apart, size = (outputs[0] - outputs[1]).abs().max(), outputs[1].abs().max()
    if not apart <= CLOSE * size:
        raise BadInput(
            f"a {inner.config.model_type} of these sizes does not compute what {name} does: give what its config.json "
            "says of the network as 'model.config={KEY: VALUE, ...}'"
        )
