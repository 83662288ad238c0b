"""What a model reads while its blocks are watched: a run's own validation split, a text, or a function's batches."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BadInput
from bench.similarity.outputs import POSITIONS

Forwards = Callable[[nn.Module], None]
"""Runs a model over the sample."""
WINDOW, ROWS = 128, 4
"""Tokens of a window of text, and windows of a batch."""
ALLOWED = "a text file, or package.module:function that returns batches"


def validation(config: Mapping[str, Any]) -> Forwards:
    """Of a run's validation split, as `bench.likeness.sample` says."""
    from bench import assembly  # Lightning and the data modules: seconds that other subjects need not pay
    from bench.likeness import sample

    return sample(config, assembly.data_module(config))


def asked_for(sample: str, tokenizer: Callable[[], Any] | None) -> Forwards:
    """Of `--sample`. Raises BadInput where there is no such file or function, and where text finds no tokenizer."""
    if Path(sample).is_file():
        return _text(Path(sample), tokenizer)
    if ":" not in sample:
        raise BadInput(f"there is no sample {sample}; allowed are {ALLOWED}")
    module, _, function = sample.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"cannot import the sample {sample}: {error}; allowed are {ALLOWED}") from error
    try:
        batches = make()
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BadInput(f"{sample}() raised {reason}; it takes no arguments and returns batches") from error
    if (
        not isinstance(batches, list)
        or not batches
        or not all(isinstance(one, (dict, tuple)) for one in batches)
    ):
        raise BadInput(
            f"the sample {sample} must return a list of batches, each a dict of keyword arguments or a tuple of "
            "positional ones"
        )

    def forwards(model: nn.Module) -> None:
        for batch in batches:
            if isinstance(batch, dict):
                model(**batch)
            else:
                model(*batch)

    return forwards


def _text(path: Path, tokenizer: Callable[[], Any] | None) -> Forwards:
    """As many of its first tokens as positions are kept, in windows without special tokens."""
    if tokenizer is None:
        raise BadInput(
            f"the sample {path} is text, and this model has no tokenizer: give package.module:function"
        )
    try:
        text = path.read_text(encoding="utf-8")
        tokens = tokenizer()(text, add_special_tokens=False, verbose=False)["input_ids"]
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"the sample {path} cannot be tokenised: {reason}; give package.module:function"
        ) from error

    def forwards(model: nn.Module) -> None:
        longest = getattr(model.config, "max_position_embeddings", None) or WINDOW
        for batch in _windows(tokens, min(WINDOW, longest, len(tokens))).split(ROWS):
            model(batch)

    if len(tokens) < 2:
        raise BadInput(f"the sample {path} has {len(tokens)} tokens; give a text of some thousand")
    return forwards


def _windows(tokens: list[int], length: int) -> Tensor:
    count = min(len(tokens), max(POSITIONS, length)) // length
    return torch.tensor(tokens[: count * length]).view(count, length)
