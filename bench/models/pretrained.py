"""Read trained weights of `transformers`, and embed sentences as networks that were trained for it do."""

import pickle
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from bench.models.transformer import TextClassifier
from bench.tying.errors import BadInput

SAFETENSORS, PICKLE = "*.safetensors", "pytorch_model*.bin"


def class_of(config: PretrainedConfig) -> Any:
    """Return the class of transformers that the config names first; AutoModel where that is somebody's own."""
    return getattr(transformers, (config.architectures or [""])[0], transformers.AutoModel)


def load(
    place: Path | str, config: PretrainedConfig, kind: Any = None, local: bool = True
) -> PreTrainedModel:
    """Load a folder of transformers, or what the hub has under a name, in the precision of its weights.

    No code comes with them, and of a pickle nothing is read but tensors.

    Args:
        kind: Class that is made; None: the one that the config names.
        local: Whether the hub is not to be asked.

    Raises:
        BadInput: Weights that are not there, that hold more than tensors, or that do not fit the config.
    """
    quiet = transformers.utils.logging
    quiet.disable_progress_bar()
    quiet.set_verbosity_error()  # its report of unused weights is many lines
    kind = kind or class_of(config)
    try:
        model, report = kind.from_pretrained(
            place,
            config=config,
            dtype="auto",
            use_safetensors=not _holds_pickles_alone(Path(place)),
            weights_only=True,
            local_files_only=local,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"the weights of {place} cannot be loaded: {_reason(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise BadInput(
            f"the weights of {place} do not fit its config.json: {len(missing)} tensors are not there, such as "
            f"{missing[0]}; restore both with model.save_pretrained({place})"
        )
    return model


def _holds_pickles_alone(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.glob(SAFETENSORS)) and any(folder.glob(PICKLE))


def load_tensors(path: Path) -> dict[str, Any]:
    """Return what torch.save wrote, where it is tensors in dicts. BadInput for a file that holds anything else."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"{path} cannot be loaded: {_reason(error)}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds a {type(found).__name__}, not tensors by name")
    return found


def _reason(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return (
            "it is a pickle of more than tensors, which may run any code and is not read; "
            "load it where you trust it and write model.save_pretrained(FOLDER)"
        )
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


class SentenceEncoder(TextClassifier):
    """Tokens [B, T] long, T <= window, rows filled up with 0 -> vectors [B, width] of length one.

    The mean of a row's last hidden states, as `TextClassifier` takes it, without the layer that classifies.

    Source: Reimers and Gurevych 2019 (Sentence-BERT), section 3.
    """

    def made_classifier(self, width: int, num_classes: int) -> nn.Module:
        return nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(super().forward(tokens), dim=-1)
