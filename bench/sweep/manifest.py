"""What a sweep consists of, written down before it runs: the rows of its tables. Imports no torch."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis import archive
from bench.config.run_config import RATES_REACHED, RunConfig
from bench.runs.identity import RESULTS_VERSION
from bench.runs.store import (
    ENDED,
    SCHEMA,
    Status,
    cost_folder,
    manifest_path,
    recorded,
    run_folder,
    write_json,
)
from bench.sweep.state import COST, PHASES, RECORD, count

KEYS = ("id", "task", "data", "tying", "spec", "dropout", "weight_decay", "seed", "cell", "cost", "metric")
"""What of a run's header its line holds."""

ABOUT = ("question", "picture", "note")
"""What a sweep says of itself."""

UNSETTLED = "unsettled"
"""Key of a line whose run will have another identity."""


def path(cell: RunConfig) -> Path:
    """Return the manifest of the sweep that the cell belongs to."""
    return manifest_path(cell.runs, _name(cell))


def earlier(cell: RunConfig) -> tuple[dict[str, Any], list[str]]:
    """Return what earlier commands of the cell's sweep asked for, and what of it is not kept, in words.

    A manifest in `runs` counts, else the archive in `results`. Not kept are runs that another version of the results
    was made by, as their numbers do not compare with new ones, and those whose groups or learning rate were never
    settled, as no run has their identity.

    Returns:
        A manifest, {} where there is neither, and a line for each reason why runs are dropped.

    Raises:
        BadInput: For a manifest or an archive of a newer schema, and a damaged archive.
    """
    name = _name(cell)
    manifest, records = recorded(path(cell)), {}
    archived = archive.path_of(Path(cell.options["results"]), name)
    if manifest is None and archived.exists():
        sweep = archive.read(archived)
        manifest, records = (
            {**{key: getattr(sweep, key) for key in ABOUT}, "runs": list(sweep.entries.values())},
            sweep.records,
        )
    kept, old, unsettled = [], 0, 0
    for entry in (manifest or {}).get("runs", ()):
        record = recorded(run_folder(cell.runs, entry["id"]) / RECORD) or records.get(entry["id"]) or {}
        if entry.get(UNSETTLED):
            unsettled += 1
        elif record.get("results_version", RESULTS_VERSION) != RESULTS_VERSION:
            old += 1
        else:
            kept.append(entry)
    gone = f"no longer in the tables of sweep {name}"
    lines = [f"{gone}: {count(old, 'run')} that another version of the results made"] if old else []
    if unsettled:
        lines.append(f"{gone}: {count(unsettled, 'run')} whose groups or learning rate were never settled")
    return {**manifest, "runs": kept} if manifest else {}, lines


def without_earlier_choices(
    cells: Sequence[RunConfig], search: Sequence[RunConfig], earlier: Mapping[str, Any]
) -> tuple[Mapping[str, Any], str]:
    """Drop the runs at learning rates that an earlier search chose where the sweep of `cells` has chosen again.

    A run at a rate that was given, and not searched, stays.

    Args:
        cells: At their chosen rates.
        search: The runs that these were chosen from.
        earlier: The manifest of earlier commands.

    Returns:
        The manifest with the other runs, and how many are dropped, in words; empty for none.
    """
    asked = {cell.id for cell in cells}
    choices = {
        entry["id"]: entry["lr_search"]
        for entry in earlier.get("runs", ())
        if "lr_search" in entry and entry["id"] not in asked
    }
    if not choices:
        return earlier, ""
    rates = {float(rate) for reached in choices.values() for rate in reached}  # to six digits
    rates |= {run.config["optimizer"]["lr"] for run in search}
    again = [cell for cell in cells if RATES_REACHED in cell.options]
    dropped = choices.keys() & {cell.completed(optimizer={"lr": rate}).id for cell in again for rate in rates}
    if not dropped:
        return earlier, ""
    line = (
        f"no longer in the tables of sweep {_name(cells[0])}: {count(len(dropped), 'run')} at learning rates that an "
        "earlier search chose"
    )
    return {**earlier, "runs": [entry for entry in earlier["runs"] if entry["id"] not in dropped]}, line


def archived(cells: Sequence[RunConfig]) -> dict[Path, dict[str, Any]]:
    """Return the records in `results` that `reuse=true` takes for runs and costs of `cells` that `runs` lacks.

    A failure of another machine does not count.

    Returns:
        Record by the file in `runs` where it belongs; none without `reuse=true`.

    Raises:
        BadInput: For an archive of a newer schema or a damaged one.
    """
    if not cells[0].options["reuse"]:
        return {}
    file = archive.path_of(Path(cells[0].options["results"]), _name(cells[0]))
    if not file.exists():
        return {}
    sweep = archive.read(file)
    ended = {cell.folder / RECORD: sweep.records.get(cell.id) for cell in cells}
    ended |= {cost_folder(cell.runs, cell.cost) / COST: sweep.costs.get(cell.cost) for cell in cells}
    return {
        path: record
        for path, record in ended.items()
        if record and record["status"] in ENDED and record["status"] != Status.FAILED and not path.exists()
    }


def kept(cells: Sequence[RunConfig], earlier: Mapping[str, Any]) -> str:
    """Say how many runs that were asked for before the sweep of `cells` has besides them; empty for none."""
    others = {entry["id"] for entry in earlier.get("runs", ())} - {cell.id for cell in cells}
    if not others:
        return ""
    name = _name(cells[0])
    archived = archive.path_of(Path(cells[0].options["results"]), name)
    return (
        f"the tables of sweep {name} keep {count(len(others), 'run')} asked for before; to begin it anew, delete "
        f"{path(cells[0])} and {archived}"
    )


def _name(cell: RunConfig) -> str:
    return cell.options["sweep"]["name"]


def write(
    cells: Sequence[RunConfig],
    before: Mapping[str, Sequence[RunConfig]],
    earlier: Mapping[str, Any],
    unsettled: Container[str] = (),
    stopped: Mapping[str, str] | None = None,
) -> None:
    """Write down what the sweep of `cells` consists of: its tables show all of it, holes included.

    Args:
        before: The runs that come before those, by phase.
        earlier: The manifest to which all this is added, {} for a new one.
        unsettled: Identities of cells that will have another one, when their groups and learning rates are known.
        stopped: How cells were decided before they had all their seeds, a sentence by their group.
    """
    sweep = cells[0].options["sweep"]
    about = {key: sweep[key] if sweep[key] is not None else earlier.get(key) for key in ABOUT}
    content = {"schema": SCHEMA, "name": sweep["name"], **about}
    groups = {cell.group for cell in cells}
    before_now = {group: text for group, text in earlier.get("stopped", {}).items() if group not in groups}
    if all_stopped := before_now | dict(stopped or {}):
        content["stopped"] = all_stopped
    for part, members in {"runs": cells, **{part: before.get(part, ()) for part in PHASES}}.items():
        entries = {entry["id"]: entry for entry in earlier.get(part, ())}
        for cell in members:
            header = cell.header()
            entries[cell.id] = {key: header[key] for key in KEYS}
            if reached := cell.options.get(RATES_REACHED):
                entries[cell.id]["lr_search"] = reached
            if part == "runs" and cell.id in unsettled:
                entries[cell.id][UNSETTLED] = True
        rows = {row["id"] for row in content.get("runs", ())}
        content[part] = [entry for key, entry in entries.items() if key not in rows]
    write_json(path(cells[0]), content)
