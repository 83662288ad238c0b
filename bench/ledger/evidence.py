"""The records that claims are tested on: those in runs/, else the committed tables of the sweep."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.errors import BadInput
from bench.records import manifest_path
from bench.report.frame import records_csv
from bench.report.rows import read_sweep

if TYPE_CHECKING:
    from pandas import DataFrame

TEXTS = (
    "id",
    "fingerprint",
    "cell",
    "cost",
    "status",
    "reason",
    "commit",
    "python",
    "config.data.fingerprint",
)
"""Columns of letters and digits that could pass for numbers."""
PRESETS = machine.REPOSITORY / "conf" / "sweep"


class Evidence:
    """Frames of records by sweep, read once.

    A sweep that is recorded in `runs` is read there, and any other from `results`/<sweep>/records.csv, so that a
    fresh clone knows what was committed. Both come through the same text: where the records are changes no number.
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
            text = self._text(name)
            if text is None and not (PRESETS / f"{name}.yaml").exists():
                raise BadInput(f"no sweep {name}: neither recorded nor in conf/sweep")
            self.frames[name] = _read(name, text) if text and text.strip() else None
        return self.frames[name]

    def _text(self, name: str) -> str | None:
        if manifest_path(self.runs, name).exists():
            return records_csv(read_sweep(self.runs, name)[0])
        table = self.results / name / "records.csv"
        return table.read_text() if table.exists() else None


def _read(name: str, text: str) -> "DataFrame":
    from pandas import read_csv
    from pandas.errors import ParserError

    try:
        frame = read_csv(io.StringIO(text), dtype=dict.fromkeys(TEXTS, str), low_memory=False)
    except (ParserError, ValueError) as error:
        raise BadInput(f"the table of sweep {name} is damaged: {' '.join(str(error).split())}") from error
    if missing := {"id", "task", "data", "status", "seed", "metric"} - set(frame.columns):
        raise BadInput(f"the table of sweep {name} has no column {', '.join(sorted(missing))}")
    return frame.copy().assign(sweep=name)  # copied: read_csv leaves it in pieces
