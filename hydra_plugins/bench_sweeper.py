"""Hydra's sweeper for grids without its own composing of each cell, which the launcher does before any starts."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_method
from omegaconf import DictConfig

from bench.tying.errors import BadInput


class GridSweeper(Sweeper):
    """Every combination of comma-separated values, handed to the launcher at once. Writes no file of its own.

    Hydra's composes each cell to see whether it can be, which takes 57 ms and is what the launcher does next, and
    leaves multirun.yaml in the runs folder, which two sweeps at once would write over.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: Sequence[str]) -> Any:
        named = self._named([*(f"{key}={values}" for key, values in self.params.items()), *arguments])
        return self.launcher.launch(list(itertools.product(*named)), initial_job_idx=0)

    def _named(self, arguments: Sequence[str]) -> list[list[str]]:
        """Return for each key the overrides that it goes through; one that is given twice takes the later values."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        choices = {
            override.get_key_element(): _values(override)
            for override in parser.parse_overrides(list(arguments))
        }
        return [[f"{key}={value}" for value in values] for key, values in choices.items()]


class DesignSweeper(GridSweeper):
    """The runs that a function names, which need not be a grid: a designed experiment.

    What the command line gives, a list with commas too, stands in each run in the place of the design's own.

    Args:
        design: Dotted path of the function: the composed config -> the overrides of each run, key by key.
    """

    def __init__(self, design: str) -> None:
        super().__init__()
        self.design = design

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.runs = get_method(self.design)(config)

    def sweep(self, arguments: Sequence[str]) -> Any:
        given = self._named(arguments)
        keys = {values[0].partition("=")[0] for values in given}
        jobs = []
        for run in self.runs:
            own = [f"{key}={value}" for key, value in run.items() if key not in keys]
            jobs += [(*job, *own) for job in itertools.product(*given)]
        return self.launcher.launch(jobs, initial_job_idx=0)


def _values(override: Override) -> list[str]:
    """Return the values that an override goes through, as written. BadInput for none, and for no end of them."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise BadInput(
            f"{override.input_line}: a grid needs a list of values; give them with commas, choice(...) or range(...)"
        )
    values = list(override.sweep_string_iterator())
    if not values:
        raise BadInput(
            f"{override.input_line}: there is nothing to run in an empty range; give one with a value in it"
        )
    return values


# In the place of Hydra's default: a choice in conf/config.yaml would win over a search's own.
ConfigStore.instance().store(
    group="hydra/sweeper", name="basic", node={"_target_": f"{__name__}.GridSweeper", "params": None}
)
ConfigStore.instance().store(
    group="hydra/sweeper", name="design", node={"_target_": f"{__name__}.DesignSweeper", "design": "???"}
)
