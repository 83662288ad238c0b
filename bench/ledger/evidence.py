"""The records that claims are tested on: those in runs/, and what is not there from the archive of the sweep."""

from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.errors import BadInput
from bench.records import manifest_path
from bench.report import archive
from bench.report.frame import frame
from bench.report.rows import read_sweep

if TYPE_CHECKING:
    from pandas import DataFrame

PRESETS = machine.REPOSITORY / "conf" / "sweep"


class Evidence:
    """Frames of records by sweep, read once: from `runs`, and what is not there from `results`/<sweep>/.

    A fresh clone so knows what was committed, and where the records are changes no number.
    """

    def __init__(self, runs: Path, results: Path) -> None:
        self.runs, self.results = runs, results
        self.frames: dict[str, DataFrame | None] = {}

    def frame(self, sweeps: tuple[str, ...]) -> "DataFrame | None":
        """Rows of all of them, each run once, with a column `sweep`; None where none has records.

        BadInput for a sweep of which there is neither a record nor a preset.
        """
        from pandas import concat

        found = [frame for name in sweeps if (frame := self._of(name)) is not None]
        if not found:
            return None
        return concat(found, ignore_index=True).drop_duplicates("id", ignore_index=True)

    def _of(self, name: str) -> "DataFrame | None":
        if name not in self.frames:
            known = manifest_path(self.runs, name).exists() or archive.path_of(self.results, name).exists()
            if not known and not (PRESETS / f"{name}.yaml").exists():
                raise BadInput(f"no sweep {name}: neither recorded nor in conf/sweep")
            runs = read_sweep(self.runs, name, self.results)[0] if known else []
            self.frames[name] = frame(runs).assign(sweep=name) if runs else None
        return self.frames[name]
