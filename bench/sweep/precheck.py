"""Ask a process that has torch whether what cells are made of can be built, before anything is run or written."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.config.run_config import RunConfig
from bench.runs.process import Runner, preload
from bench.runs.store import recorded, write_json
from bench.sweep import prerequisites
from bench.sweep.run_or_load import imports_of

MODULE = "bench.training.precheck"

BUILT_OF = ("task", "data", "model", "tying", "control", "dropout", "trainer")
"""What of a config says how a network is built: cells that differ in the rest alone are asked about once."""


def refusal(cells: Sequence[RunConfig]) -> str | None:
    """Return the first reason for which a data set, network, control or tying of these cells is bad input, or None.

    A tying that has yet to be learned is looked at as the run that it is learned from.
    """
    asked = [prerequisites.source(cell) or cell for cell in cells]
    configs = {
        json.dumps({key: cell.config.get(key) for key in BUILT_OF}, sort_keys=True): cell.config
        for cell in asked
    }
    if not configs:
        return None
    preload(imports_of(cells))
    runner = Runner()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        write_json(folder / "configs.json", {"configs": list(configs.values())})
        try:
            runner.run(MODULE, folder, threads=1)
        except BaseException:  # Ctrl-C: there is nothing to save
            runner.kill_all()
            raise
        # Without an answer the process died, as the runs then will, whose logs say why.
        answer = recorded(folder / "refusals.json") or {"refusals": []}
    return next(filter(None, answer["refusals"]), None)
