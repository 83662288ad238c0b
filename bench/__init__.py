"""The tying bench: which weights should share one tensor, how strongly, and what does it buy.

Commands keep short names wherever their file stands: `python -m bench.tables` runs bench/report/tables.py.
The library's first names are kept too: `from bench.saving import save` gives bench/tying/checkpoint.py.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

COMMANDS = {
    "bench.tables": "report/tables.py",
    "bench.compare": "report/compare.py",
    "bench.plan": "report/plan.py",
    "bench.mirror": "report/mirror.py",
    "bench.status": "sweep/status.py",
    "bench.measure": "sweep/measure.py",
    "bench.map": "report/map.py",
    "bench.site": "report/site.py",
    "bench.advise": "audit/advise.py",
    "bench.foretell": "audit/foretell.py",
}
LIBRARY = {
    "bench.errors": "bench.tying.errors",
    "bench.saving": "bench.tying.checkpoint",
    "bench.quantize": "bench.tying.int8",
}


class _ShortNames(MetaPathFinder, Loader):
    """Finds the modules of COMMANDS and LIBRARY."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname in COMMANDS:
            return spec_from_file_location(fullname, Path(__file__).parent / COMMANDS[fullname])
        return spec_from_loader(fullname, self) if fullname in LIBRARY else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module itself in the place of its other name, so that there is one of each class."""
        sys.modules[module.__name__] = import_module(LIBRARY[module.__name__])


sys.meta_path.append(_ShortNames())


def __getattr__(name: str) -> Any:
    """Import `bench.load_results` when it is asked for: commands do without pandas."""
    if name == "load_results":
        from bench.analysis.frame import load_results

        return load_results
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def command() -> int:
    """Run the command line: what `tying-bench` calls. `tying-bench plan ...` is `python -m bench.plan ...`.

    It stands here because the processes of runs import the file that the command was started from, and with it this
    module, which is light.
    """
    name = f"bench.{next(iter(sys.argv[1:]), '')}"
    if name in COMMANDS:
        del sys.argv[1]
        return import_module(name).main()
    from bench.__main__ import main

    return main()
