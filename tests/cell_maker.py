"""Configs composed as the command line does, and the cells they make, without preparing any data."""

import contextlib
import functools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from bench.config import run_config
from bench.config.compose import Composer
from bench.config.run_config import RunConfig
from bench.data import zoo
from bench.data.prepare import Prepared

CONF = Path(__file__).parents[1] / "conf"
MINILM = {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12}


def composed(*overrides: str) -> DictConfig:
    """What `python -m bench *overrides` hands to the controller, its values set by the bench's own composer."""
    return pickle.loads(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> bytes:
    """Hydra takes 0.06 s for a config, and many tests ask for the same one."""
    if any(override.startswith("hydra") for override in overrides):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return pickle.dumps(compose("config", overrides=list(overrides)))
    return pickle.dumps(_composer()(overrides))


def composer(*overrides: str) -> Composer:
    """What composes the cells of `python -m bench -m *overrides`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().hydra.config_loader
        master = loader.load_configuration("config", [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        return Composer(loader, master)


_composer = functools.cache(composer)
"""Reads files once for all configs that differ in plain values, as it does for the cells of a sweep."""


def made(*overrides: str, fingerprint: str = "f1f2") -> RunConfig:
    """The cell of `overrides`, its data as if prepared with this fingerprint."""
    data = Prepared(Path("/prepared"), fingerprint, {"name": "digits", "fingerprint": fingerprint})
    with patch.object(run_config, "_prepared", lambda *_: data):
        return run_config.from_hydra(composed(*overrides), overrides)


@contextlib.contextmanager
def trained_package(folder: Path) -> Iterator[None]:
    """Let every package of a trained model be `folder`, with a config.json and weights that nobody reads."""
    (folder / zoo.CONFIG).write_text(json.dumps(MINILM | {"intermediate_size": 1536, "vocab_size": 30522}))
    (folder / zoo.WEIGHTS[0]).write_bytes(b"")
    with patch.object(zoo.Package, "find", lambda _: folder):
        yield
    zoo.folder_of.cache_clear()
    zoo.fingerprint.cache_clear()
