import functools
from types import SimpleNamespace

import pytest
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from bench.tying.errors import BadInput

ARGUMENTS = ["task=a,b", "x=1", "tying=none,[embedding,top_k]", "seed=range(1,3)", "name='p, q'", "x=2"]


@pytest.fixture
def sweepers():
    """Ours and Hydra's, of the modules as Hydra's first look for plugins loads them anew."""
    Plugins.instance()
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from hydra_plugins.bench_sweeper import GridSweeper

    return GridSweeper, functools.partial(BasicSweeper, max_batch_size=None)


def asked(kind, folder, arguments):
    """The overrides of the cells that a sweeper hands to its launcher."""
    given = []
    sweeper = kind(params={"seed": "7,8", "y": "1,2"})
    sweeper.hydra_context = SimpleNamespace(config_loader=SimpleNamespace(load_sweep_config=lambda **_: None))
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    sweeper.launcher = SimpleNamespace(launch=lambda cells, initial_job_idx: given.extend(cells) or [])
    sweeper.sweep(arguments)
    return [list(cell) for cell in given]


@pytest.mark.parametrize("arguments", [[], ARGUMENTS])
def test_the_cells_are_those_of_hydras_own(sweepers, tmp_path, arguments):
    ours, hydras = sweepers
    cells = asked(ours, tmp_path / "a", arguments)
    assert cells == asked(hydras, tmp_path / "b", arguments) and len(cells) == (16 if arguments else 4)


def test_an_interval_is_refused(sweepers, tmp_path):
    with pytest.raises(BadInput, match=r"x=interval\(1,2\).*choice"):
        asked(sweepers[0], tmp_path, ["x=interval(1,2)"])


def test_an_empty_range_is_refused(sweepers, tmp_path):
    with pytest.raises(BadInput, match=r"^x=range\(2,1\): there is nothing to run"):
        asked(sweepers[0], tmp_path, ["y=1,2", "x=range(2,1)"])


def test_it_composes_nothing_and_writes_nothing(sweepers, tmp_path):
    asked(sweepers[0], tmp_path / "runs", ARGUMENTS)
    assert not (tmp_path / "runs").exists()
