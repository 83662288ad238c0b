"""Read a sweep as it is recorded, from runs/ or from results/<sweep>/records.jsonl.gz, which holds it whole."""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.runs import machine
from bench.runs.store import SCHEMA as RECORD_SCHEMA
from bench.runs.store import Status, cost_folder, manifest_path, read_json, read_records, recorded
from bench.tying.errors import BadInput, offer

FILE = "records.jsonl.gz"
SCHEMA = 1
"""Layout of the file; a reader refuses a newer one.

Each line is a JSON object. The first is the sweep (`schema`, `name`, `note`, `lacks`; `question`, `picture` and
`untraced` where there is any; how many `runs` and `costs` follow). Then come the runs (`entry`, what was asked for;
`record`, null where there is none), then the cost records, each once.
"""


@dataclass(frozen=True)
class Recorded:
    """What a sweep asked for and what became of it.

    entries: run id -> its line of the manifest. records, costs: id -> the record, of those that there are.
    lacks: what records of an older form do not hold, as a sentence; None for records as runs write them.
    untraced: sources of records (`source_of`) that the project's history no longer holds.
    """

    name: str
    note: str | None
    entries: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, dict[str, Any]]
    costs: Mapping[str, dict[str, Any]]
    lacks: str | None = None
    left_out: tuple[str, ...] = field(default=())
    untraced: tuple[str, ...] = field(default=())
    question: str | None = None
    picture: str | None = None


def path_of(results: Path, name: str) -> Path:
    return results / name / FILE


def sweep_names(runs: Path) -> list[str]:
    """The sweeps that have a manifest in `runs`, sorted."""
    return sorted(path.stem for path in manifest_path(runs, "any").parent.glob("[!.]*.json"))


def archived_names(results: Path) -> list[str]:
    """The sweeps that have their records in `results`, sorted."""
    return sorted(path.parent.name for path in results.glob(f"*/{FILE}"))


def chosen_names(names: Sequence[str] | None, runs: Path, results: Path | None = None) -> list[str]:
    """Return the sweeps that are asked for, each once; None: all that are in either folder, sorted.

    Raises:
        BadInput: for a sweep that is in neither folder, and where there is none at all.
    """
    there = sorted({*sweep_names(runs), *(archived_names(results) if results else ())})
    folders = f"{runs} or {results}" if results else f"{runs}"
    if not there:
        sweep = machine.command("make sweep", "tying-bench -m sweep=quick")
        raise BadInput(f"no sweep is recorded in {folders}: run {sweep} first, or name another folder")
    for name in names or ():
        if name not in there:
            raise BadInput(f"no sweep {name} in {folders}: {offer(name, there, 'there is')}")
    return list(dict.fromkeys(names or there))


def load(runs: Path, results: Path | None, name: str) -> Recorded:
    """Read a sweep from `runs`, and what is not there from `results`.

    With a manifest in `runs` the sweep is what the manifest asks for, and a record there is the one that counts. A run
    or a cost that has no record there, or a damaged one, takes that of the archive. Runs that only the archive knows
    are named in `left_out`. Without a manifest the archive is the sweep.

    Raises:
        BadInput: for a torn manifest or archive, one of a newer schema, and a sweep that is in neither place.
    """
    file = path_of(results, name) if results else None
    archived = read(file) if file and file.exists() else None
    if archived and not manifest_path(runs, name).exists():
        return archived
    ours = _from_runs(runs, name)
    if not archived:
        return ours
    costs = {str(entry.get("cost")) for entry in ours.entries.values()}
    records = _filled(ours.records, archived.records, ours.entries)
    is_of_archive = any(records.get(run_id) == record for run_id, record in archived.records.items())
    return Recorded(
        name,
        ours.note,
        ours.entries,
        records,
        _filled(ours.costs, archived.costs, costs),
        archived.lacks if is_of_archive else None,
        tuple(run_id for run_id in archived.records if run_id not in ours.entries),
        archived.untraced,
        ours.question or archived.question,
        ours.picture or archived.picture,
    )


def _filled(
    ours: Mapping[str, dict], archived: Mapping[str, dict], wanted: Container[str]
) -> dict[str, dict]:
    """Return our records, and the archive's where ours is missing or damaged."""
    damaged = {
        key
        for key, record in ours.items()
        if record.get("status") == Status.FAILED and " is damaged" in str(record.get("reason"))
    }
    sound = {key: record for key, record in ours.items() if key not in archived or key not in damaged}
    return {key: record for key, record in archived.items() if key in wanted} | sound


def _from_runs(runs: Path, name: str) -> Recorded:
    path = manifest_path(runs, name)
    manifest = read_json(path)
    if not isinstance(manifest.get("runs"), list):
        raise BadInput(f"{path} has no list `runs`; delete it and run the sweep again")
    try:
        entries = {str(entry["id"]): entry for entry in manifest["runs"]}
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: a run lacks or has an odd {error}; delete it and run the sweep again"
        ) from error
    cost_ids = sorted({str(entry.get("cost") or "") for entry in entries.values()} - {""})
    costs = {cost_id: _cost(cost_folder(runs, cost_id) / "cost.json") for cost_id in cost_ids}
    return Recorded(
        name,
        _note(manifest),
        entries,
        {run_id: portable(record, runs) for run_id, record in read_records(runs, entries).items()},
        {cost_id: portable(record, runs) for cost_id, record in costs.items() if record},
        question=manifest.get("question"),
        picture=manifest.get("picture"),
    )


def _note(manifest: Mapping[str, Any]) -> str | None:
    """The note of the sweep, and which cells were decided before they had all their seeds."""
    note, stopped = manifest.get("note"), manifest.get("stopped")
    if not stopped:
        return note
    text = (
        "Stopped early by sweep.stop, by intervals that hold over all looks, where those of the tables hold for one "
        f"look alone: {'; '.join(stopped.values())}."
    )
    return f"{note}\n{text}" if note else text


def _cost(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    record = recorded(path) or {"status": Status.FAILED, "reason": "its record is damaged"}
    if record["status"] == Status.DONE and "memory" not in record:
        return {"status": Status.FAILED, "reason": "its record is of an older version"}
    return record


_FOLDER = re.compile(r"(?<![\w.])/(?:[^/,\[\]]+/)+(?=[^/,\[\]])")
"""The folders of a full path in an override, such as `data.files=[/a/b.txt,/c/d.txt]`."""
_NO_HOST = re.compile(r"[0-9a-f]{8}|.*\s.*")
"""What stands for the name of a host in a published record: its hash, or words."""


def portable(record: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    """Return the record without what tells one machine from another and moves no number, so that it can be published.

    A full path keeps its last part, the name of a host becomes its hash, and a reason loses the folder of the runs.
    A record that was published before stays as it is: `reuse=true` takes such records into `runs`.
    """
    kept = _without_folders(record)
    if overrides := kept.get("overrides"):
        kept["overrides"] = [_FOLDER.sub("/path/to/", text) for text in overrides]
    if reason := kept.get("reason"):
        kept["reason"] = " ".join(str(reason).replace(f"{runs}/", "").split())
    config, provenance = kept.get("config"), kept.get("provenance")
    if isinstance(config, dict) and isinstance(config.get("data"), dict):
        config["data"].pop("meta", None)  # it is `data_meta` again
    host = str(provenance.get("host") or "") if isinstance(provenance, dict) else ""
    if host and not _NO_HOST.fullmatch(host):
        provenance["host"] = hashlib.sha256(host.encode()).hexdigest()[:8]
    return kept


def _without_folders(value: Any) -> Any:
    """Copy a value without the folders of its full paths; a list that begins with a number holds no path."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list) and value and not isinstance(value[0], int | float):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and value.startswith("/"):
        return f"/path/to/{Path(value).name}"
    return value


def content(sweep: Recorded) -> bytes:
    """Pack a sweep as its file: the same records give the same bytes, in whatever order they came.

    Seeds of one cell stand together, as lines that are alike pack well where they are near.
    """
    keys = ("task", "data", "tying", "cell", "id")
    entries = sorted(sweep.entries.values(), key=lambda entry: [str(entry.get(key)) for key in keys])
    head = {"kind": "sweep", "schema": SCHEMA, "name": sweep.name, "note": sweep.note, "lacks": sweep.lacks}
    head |= {key: value for key in ("question", "picture") if (value := getattr(sweep, key))}
    if sweep.untraced:
        head["untraced"] = sorted(sweep.untraced)
    lines = [head | {"runs": len(entries), "costs": len(sweep.costs)}]
    lines += [
        {"kind": "run", "entry": entry, "record": sweep.records.get(str(entry["id"]))} for entry in entries
    ]
    lines += [{"kind": "cost", "id": key, "record": sweep.costs[key]} for key in sorted(sweep.costs)]
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def read(path: Path) -> Recorded:
    """Read the file of a sweep. BadInput as `parse` raises it, and where the file cannot be read."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def parse(packed: bytes, where: str) -> Recorded:
    """Read a sweep from the bytes of its file; `where` is what a refusal calls it.

    Raises:
        BadInput: for what is no such file, is torn or of a newer schema.
    """
    try:
        text = gzip.decompress(packed).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(
            f"{where} is damaged ({error}); take it from git again, or delete it and run the sweep"
        ) from error
    lines = _lines(text, where)
    _, head = next(lines, (1, {}))
    if head.get("kind") != "sweep" or not isinstance(head.get("schema"), int):
        raise BadInput(f"{where}, line 1: not the first line of a sweep's records")
    if head["schema"] > SCHEMA:
        raise BadInput(
            f"{where} has schema {head['schema']}, this version reads up to {SCHEMA}: update the bench"
        )
    entries, records, costs = {}, {}, {}
    for number, line in lines:
        kind, entry, record = line.get("kind"), line.get("entry"), line.get("record")
        if isinstance(record, dict) and record.get("schema", 0) > RECORD_SCHEMA:
            raise BadInput(f"{where}, line {number}: a record of schema {record['schema']}: update the bench")
        if kind == "run" and isinstance(entry, dict) and "id" in entry and isinstance(record, dict | None):
            entries[str(entry["id"])] = entry
            if record is not None:
                records[str(entry["id"])] = record
        elif kind == "cost" and isinstance(record, dict) and "id" in line:
            costs[str(line["id"])] = record
        else:
            raise BadInput(f"{where}, line {number}: neither a run nor a cost of a sweep's records")
    if (len(entries), len(costs)) != (head.get("runs"), head.get("costs")):
        raise BadInput(f"{where} is damaged: lines are missing; take it from git again")
    return Recorded(
        str(head.get("name")),
        head.get("note"),
        entries,
        records,
        costs,
        head.get("lacks"),
        untraced=tuple(head.get("untraced") or ()),
        question=head.get("question"),
        picture=head.get("picture"),
    )


def _lines(text: str, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{where}, line {number}: no JSON ({error})") from error
        if not isinstance(fields, dict):
            raise BadInput(f"{where}, line {number}: no JSON object")
        yield number, fields


# --- which code made the records ---


def source_of(record: Mapping[str, Any]) -> str | None:
    """Return what says which code made a record: its two tree hashes, else its commit.

    Returns:
        None for a record that no run made, such as that of a tying which does not apply.
    """
    provenance = record.get("provenance")
    if not provenance:
        return None
    if trees := provenance.get("trees"):
        return f"{trees['bench']} {trees['conf']}"
    return f"{provenance.get('commit') or 'not recorded'}{' with edits' if provenance.get('dirty') else ''}"


def is_traced(source: str, history: Collection[str]) -> bool:
    """Tell whether the history has a source. A commit of ten digits or more is known by its beginning."""
    return source in history or (
        len(source) >= 10 and " " not in source and any(known.startswith(source) for known in history)
    )


def stated(sweep: Recorded, history: Collection[str]) -> Recorded:
    """Return the sweep with `untraced` set to the sources of its records that the history does not hold."""
    sources = set(filter(None, map(source_of, [*sweep.records.values(), *sweep.costs.values()])))
    return replace(sweep, untraced=tuple(sorted(s for s in sources if not is_traced(s, history))))


def sentence(sweep: Recorded) -> str | None:
    """Return how many runs and costs are of code that the history no longer holds, as the file states.

    Returns:
        None where there is none.
    """
    kinds = {"runs": sweep.records.values(), "costs": sweep.costs.values()}
    untraced = {kind: [r for r in rs if source_of(r) in sweep.untraced] for kind, rs in kinds.items()}
    texts = [f"{len(records)} of {len(kinds[kind])} {kind}" for kind, records in untraced.items() if records]
    if not texts:
        return None
    known = sum(bool(record.get("code")) for records in untraced.values() for record in records)
    fingerprints = (
        f"; {known} of them hold a fingerprint of their code, which `make sweep` compares with today's"
        if known
        else ", and no fingerprint of it was recorded"
    )
    return (
        f"{' and '.join(texts)} were made at commits that are no longer in the history of this project, "
        f"which was rewritten: the code that made them cannot be looked up{fingerprints}."
    )
