"""What a sweep consists of, written down before it runs: the rows of its tables. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.run_config import RunConfig
from bench.runs.store import SCHEMA, manifest_path, write_json
from bench.sweep.state import PHASES

KEYS = ("id", "task", "data", "tying", "spec", "dropout", "weight_decay", "seed", "cell", "cost", "metric")
"""What of a run's header its line holds."""


def path(cell: RunConfig) -> Path:
    """Return the manifest of the sweep that the cell belongs to."""
    return manifest_path(cell.runs, cell.options["sweep"]["name"])


def write(
    cells: Sequence[RunConfig], before: Mapping[str, Sequence[RunConfig]], earlier: Mapping[str, Any]
) -> None:
    """Write down what the sweep of `cells` consists of: its tables show all of it, holes included.

    Args:
        before: The runs that come before those, by phase.
        earlier: The manifest to which all this is added, {} for a new one.
    """
    sweep = cells[0].options["sweep"]
    content = {"schema": SCHEMA, "name": sweep["name"], "note": sweep["note"]}
    for part, members in {"runs": cells, **{part: before.get(part, ()) for part in PHASES}}.items():
        entries = {entry["id"]: entry for entry in earlier.get(part, ())}
        for header in (cell.header() for cell in members):
            entries[header["id"]] = {key: header[key] for key in KEYS}
        rows = {row["id"] for row in content.get("runs", ())}
        content[part] = [entry for key, entry in entries.items() if key not in rows]
    write_json(path(cells[0]), content)
