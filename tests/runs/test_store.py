import os
from pathlib import Path

import pytest

from bench.runs.store import (
    SCHEMA,
    read_json,
    read_records,
    recorded,
    run_folder,
    write_bytes_atomic,
    write_json,
)
from bench.tying.errors import BadInput


def test_write_and_read(tmp_path):
    path = tmp_path / "deep" / "er" / "record.json"
    write_json(path, {"b": 1, "a": [0.1]})
    assert read_json(path) == {"a": [0.1], "b": 1}
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["record.json"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(BadInput, match="cannot write .*No space left on device; choose a folder"):
        write_bytes_atomic(path, b"new")
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["record.json"]


def test_unwritable_folder_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write .*choose a folder"):
        write_json(tmp_path / "file" / "record.json", {})


@pytest.mark.parametrize("torn", ["", "{", '{"a": 1', "[1]", "3", "\xff\xfe"])
def test_a_torn_record_is_bad_input_to_read_and_absent_to_a_sweep(tmp_path, torn):
    path = tmp_path / "record.json"
    path.write_bytes(torn.encode("latin1"))
    with pytest.raises(BadInput, match="damaged.*delete it") as error:
        read_json(path)
    assert "\n" not in str(error.value)
    assert recorded(path) is None


@pytest.mark.parametrize("content", [None, b"{"], ids=["absent", "torn"])
def test_what_is_written_anew_while_it_is_read_is_no_error(tmp_path, monkeypatch, content):
    """Locks are: the first look at this one finds none, or half of one, and any later look a whole one."""
    path, read = tmp_path / "lock", Path.read_bytes
    if content:
        path.write_bytes(content)

    def once(self: Path) -> bytes:
        monkeypatch.undo()
        try:
            return read(self)
        finally:
            write_json(self, {"owner": "other"})

    monkeypatch.setattr(Path, "read_bytes", once)
    assert recorded(path) is None
    assert recorded(path) == {"owner": "other"}


def test_recorded_of_nothing(tmp_path):
    assert recorded(tmp_path / "record.json") is None
    with pytest.raises(BadInput, match="cannot read"):
        read_json(tmp_path / "record.json")


def test_a_newer_schema_is_refused_and_never_overwritten_as_damaged(tmp_path):
    path = run_folder(tmp_path, "a") / "record.json"
    write_json(path, {"schema": SCHEMA + 1, "id": "a"})
    for read in (read_json, recorded, lambda _: read_records(tmp_path, ["a"])):
        with pytest.raises(BadInput, match="schema 2.*up to 1.*update"):
            read(path)


def test_read_in_bulk(tmp_path: Path):
    write_json(run_folder(tmp_path, "a") / "record.json", {"id": "a", "status": "done"})
    run_folder(tmp_path, "torn").mkdir()
    (run_folder(tmp_path, "torn") / "record.json").write_text('{"id"')
    records = read_records(tmp_path, ["a", "torn", "absent"])
    assert set(records) == {"a", "torn"}
    assert records["a"]["status"] == "done"
    assert records["torn"]["status"] == "failed" and "damaged" in records["torn"]["reason"]
