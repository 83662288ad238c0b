"""What belongs to a sweep: what any command of its name asked for, and a word on what does not any longer."""

from dataclasses import replace

import pytest
from cell_maker import made

from bench.analysis import archive
from bench.config.run_config import RATES_REACHED
from bench.runs.identity import RESULTS_VERSION
from bench.runs.store import read_json, write_json
from bench.sweep import manifest
from bench.sweep.dry_run import Plan
from bench.sweep.launchers.local import Joblib
from bench.sweep.sweep import run_sweep
from bench.tying.errors import BadInput


def cells_of(folder, *seeds, given=()):
    cells = [made("sweep.name=mine", "measure.max_seconds=0", *given, f"seed={seed}") for seed in seeds]
    places = {"runs": str(folder / "runs"), "results": str(folder / "results"), "reuse": True}
    return [replace(cell, options={**cell.options, **places}) for cell in cells]


def without_reuse(cell):
    return replace(cell, options={**cell.options, "reuse": False})


def swept(cells, status="done", version=RESULTS_VERSION):
    """Run a sweep whose cells are recorded already."""
    for cell in cells:
        scores = {"accuracy": 0.5, "nll": 1.0}
        record = {**cell.header(), "status": status, "config": cell.config, "test": scores, "val": scores}
        write_json(cell.folder / "record.json", {**record, "reason": None, "results_version": version})
    run_sweep(cells, Joblib(n_jobs=1), sweep=True)


def asked(cells):
    return [row["id"] for row in read_json(manifest.path(cells[0]))["runs"]]


def test_a_second_command_adds_its_rows_and_says_what_is_there(tmp_path, capsys):
    first, second = cells_of(tmp_path, 1, 2), cells_of(tmp_path, 2, 3)
    swept(first)
    assert "asked for before" not in capsys.readouterr().err
    swept(second)
    assert asked(second) == [first[0].id, first[1].id, second[1].id]
    said = capsys.readouterr().err
    assert "the tables of sweep mine keep 1 run asked for before; to begin it anew, delete" in said
    swept(first)
    assert set(asked(first)) == {first[0].id, first[1].id, second[1].id}


def test_a_row_holds_the_rates_that_this_sweep_searched(tmp_path):
    cells = cells_of(tmp_path, 1)
    reached = {"0.1": 2.0, "0.2": 1.0}
    manifest.write([replace(cells[0], options={**cells[0].options, RATES_REACHED: reached})], {}, {})
    (row,) = read_json(manifest.path(cells[0]))["runs"]
    assert row["lr_search"] == reached
    manifest.write(cells, {}, {})
    assert "lr_search" not in read_json(manifest.path(cells[0]))["runs"][0]


@pytest.mark.parametrize("factor", [2, 2**0.5])
def test_a_row_has_the_rate_of_the_last_search_alone(tmp_path, factor):
    """A rate that was given stays, as do another seed and another row, at whatever rates."""

    def at(cell, rate, *tried):
        reached = {f"{lr:g}": lr for lr in tried}
        options = {**cell.options, RATES_REACHED: reached} if tried else cell.options
        return replace(cell.completed(optimizer={"lr": rate}), options=options)

    low, high = 0.1, 0.1 * factor
    cell, other_seed = cells_of(tmp_path, 1, 2)
    (other_row,) = cells_of(tmp_path, 1, given=["dropout=0.5"])
    first = [at(cell, low, 0.05, low), at(other_seed, low, 0.05, low), at(other_row, low, 0.05, low)]
    given = at(cell, 0.05)
    manifest.write([*first, given], {}, {})
    before, _ = manifest.earlier(cell)
    again = at(cell, high, low, high)
    search = [at(cell, low), at(cell, high)]
    left, line = manifest.without_earlier_choices([again], search, before)
    assert [entry["id"] for entry in left["runs"]] == [first[1].id, first[2].id, given.id]
    assert line.endswith("sweep mine: 1 run at learning rates that an earlier search chose")
    manifest.write([again], {}, left)
    before, _ = manifest.earlier(cell)
    assert manifest.without_earlier_choices([again], search, before) == (before, "")
    left, line = manifest.without_earlier_choices([first[0]], search, before)
    assert again.id not in {entry["id"] for entry in left["runs"]} and line


def test_deleting_what_it_names_begins_it_anew(tmp_path):
    first, second = cells_of(tmp_path, 1), cells_of(tmp_path, 2)
    swept(first)
    manifest.path(first[0]).unlink()
    swept(second)
    assert asked(second) == [second[0].id]


def test_a_fresh_clone_adds_to_what_is_archived(tmp_path):
    first, second = cells_of(tmp_path / "a", 1, 2), cells_of(tmp_path / "b", 3)
    swept(first)
    sweep = archive.load(first[0].runs, None, "mine")
    path = archive.path_of(tmp_path / "b" / "results", "mine")
    path.parent.mkdir(parents=True)
    path.write_bytes(archive.content(sweep))
    swept(second)
    loaded = archive.load(second[0].runs, tmp_path / "b" / "results", "mine")
    assert set(loaded.entries) == set(loaded.records) == {cell.id for cell in (*first, *second)}
    assert loaded.left_out == ()


def test_reuse_goes_on_from_what_another_machine_recorded(tmp_path, capsys):
    first, second = cells_of(tmp_path / "a", 1, 2), cells_of(tmp_path / "b", 1, 2)
    swept(first)
    sweep = archive.load(first[0].runs, None, "mine")
    path = archive.path_of(tmp_path / "b" / "results", "mine")
    path.parent.mkdir(parents=True)
    path.write_bytes(archive.content(sweep))
    assert len(Plan.of([without_reuse(cell) for cell in second]).grid.to_do) == 2
    assert not Plan.of(second).grid.to_do and not second[0].runs.exists()
    ran = run_sweep(second, Joblib(n_jobs=1), sweep=True)
    assert [record["test"] for record in ran.records] == [{"accuracy": 0.5, "nll": 1.0}] * 2
    assert "2 records of results/mine taken over" in capsys.readouterr().err
    assert archive.content(archive.load(second[0].runs, None, "mine")) == path.read_bytes()


def test_runs_of_another_version_of_the_results_go_with_a_word(tmp_path, capsys):
    first, second = cells_of(tmp_path, 1, 2), cells_of(tmp_path, 3)
    swept(first)
    record = first[0].folder / "record.json"
    write_json(record, read_json(record) | {"results_version": RESULTS_VERSION - 1})
    swept(second)
    assert asked(second) == [first[1].id, second[0].id]
    said = capsys.readouterr().err
    assert "no longer in the tables of sweep mine: 1 run that another version of the results made" in said


def test_what_never_had_its_learning_rate_leaves_no_hole(tmp_path, capsys):
    (cell,), (other,) = cells_of(tmp_path, 1), cells_of(tmp_path, 2)
    manifest.write([cell], {}, {}, unsettled={cell.id})
    swept([other])
    assert asked([other]) == [other.id]
    assert "whose groups or learning rate were never settled" in capsys.readouterr().err


def test_the_note_of_an_earlier_command_stays_where_a_later_one_has_none(tmp_path):
    swept(cells_of(tmp_path, 1, given=["sweep.note=first"]))
    swept(cells_of(tmp_path, 2))
    assert read_json(manifest.path(cells_of(tmp_path, 1)[0]))["note"] == "first"
    swept(cells_of(tmp_path, 3, given=["sweep.note=third"]))
    assert read_json(manifest.path(cells_of(tmp_path, 1)[0]))["note"] == "third"


def test_a_manifest_of_a_newer_version_is_refused_and_not_written_over(tmp_path):
    (cell,) = cells_of(tmp_path, 1)
    write_json(manifest.path(cell), {"schema": 99, "runs": []})
    before = manifest.path(cell).read_bytes()
    with pytest.raises(BadInput, match="schema"):
        swept([cell])
    assert manifest.path(cell).read_bytes() == before
