"""Hydra's sweeper for grids without its own composing of each cell, which the launcher does before any starts."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from bench.errors import BadInput


class GridSweeper(BasicSweeper):
    """Every combination of comma-separated values, handed to the launcher at once. Writes no file of its own.

    Hydra's composes each cell to see whether it can be, which takes 57 ms and is what the launcher does next, and
    leaves multirun.yaml in the runs folder, which two sweeps at once would write over.
    """

    def sweep(self, arguments: Sequence[str]) -> Any:
        given = [*(f"{key}={values}" for key, values in self.params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (cells,) = self.split_arguments(parser.parse_overrides(given), max_batch_size=None)
        if not cells:
            empty = [word for word in given if "range(" in word]
            raise BadInput(
                f"{' '.join(empty)}: there is nothing to run in an empty range; give one with a value in it"
            )
        return self.launcher.launch(cells, initial_job_idx=0)


# In the place of Hydra's default: a choice in conf/config.yaml would win over a search's own.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="basic",
    node={"_target_": f"{__name__}.GridSweeper", "max_batch_size": None, "params": None},
)
