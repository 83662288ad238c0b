"""Hydra's composition of the cells of a grid, once for all cells that differ in plain values alone."""

import pickle
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """Composes the cells of one sweep as Hydra does, without the `hydra` node: the same configs, the same errors.

    Hydra reads the files for each cell anew. Of a grid most cells differ in values only, and those it sets last:
    here they are set on a copy of what was composed without them. Whatever is not plainly of this kind, and
    whatever fails, goes Hydra's own way.
    """

    def __init__(self, config_loader: ConfigLoader, master_config: DictConfig) -> None:
        self.loader, self.master = config_loader, master_config
        self._parsed: dict[str, Override] = {}
        self._groups: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], bytes] = {}

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        try:
            parsed = [self._parse(text) for text in overrides]
            plain = [override for override in parsed if self._is_plain(override)]
            others = [override for override in parsed if not self._is_plain(override)]
            if all(self._stands_apart(override, plain) for override in others):
                cfg = self._copy(tuple(override.input_line for override in others))
                for override in plain:
                    OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
                return cfg
        except (HydraException, OmegaConfBaseException):
            pass  # Hydra says itself what is wrong
        return self._hydras_own(overrides)

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = OverridesParser.create().parse_overrides([text])[0]
        return self._parsed[text]

    def _is_plain(self, override: Override) -> bool:
        """Tell whether it is `key=value` where no group has that name: Hydra sets it after all files are merged."""
        return (
            override.type == OverrideType.CHANGE
            and override.value_type == ValueType.ELEMENT
            and override.package is None
            and not override.is_hydra_override()
            and not self._is_group(override.key_or_group)
        )

    def _stands_apart(self, override: Override, plain: Sequence[Override]) -> bool:
        """Whether `override` can be composed before all of `plain`, whatever the order in which they were given."""
        if override.is_hydra_override() or override.value_type != ValueType.ELEMENT:
            return False
        if override.type == OverrideType.CHANGE and self._is_group(override.key_or_group):
            return isinstance(override.value(), str | list)
        return not any(_overlap(override.key_or_group, other.key_or_group) for other in plain)

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            job = self.master.hydra.job
            outer = OmegaConf.to_container(self.master.hydra.overrides.hydra)
            options = self.loader.get_group_options(
                key, results_filter=None, config_name=job.config_name, overrides=outer
            )
            self._groups[key] = bool(options)
        return self._groups[key]

    def _copy(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._composed:
            self._composed[choices] = pickle.dumps(self._hydras_own(choices))
        return pickle.loads(self._composed[choices])

    def _hydras_own(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self.loader.load_sweep_config(self.master, list(overrides))
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg


def _overlap(one: str, other: str) -> bool:
    """Tell whether one key is the other or lies inside it."""
    a, b = (key.replace("/", ".").replace("[", ".").split(".") for key in (one, other))
    return all(x == y for x, y in zip(a, b, strict=False))
