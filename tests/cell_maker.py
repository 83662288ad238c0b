"""Configs composed as the command line does, and the cells they make, without preparing any data."""

from pathlib import Path
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from bench.config import run_config
from bench.config.run_config import RunConfig
from bench.data.prepare import Prepared

CONF = Path(__file__).parents[1] / "conf"


def composed(*overrides: str) -> DictConfig:
    """What `python -m bench *overrides` hands to the controller."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def made(*overrides: str, fingerprint: str = "f1f2") -> RunConfig:
    """The cell of `overrides`, its data as if prepared with this fingerprint."""
    data = Prepared(Path("/prepared"), fingerprint, {"name": "digits", "fingerprint": fingerprint})
    with patch.object(run_config, "_prepared", lambda *_: data):
        return run_config.from_hydra(composed(*overrides), overrides)
