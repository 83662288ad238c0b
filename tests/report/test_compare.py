import re
import shutil
import subprocess

import numpy as np
import pytest
import record_maker as made

from bench.analysis import archive
from bench.report.compare import main, read, side
from bench.report.tables import build
from bench.runs.store import run_folder
from bench.tying.errors import BadInput

TASKS = {"image_cnn": "digits", "text_gru": "pydocs"}


def results(folder, lines, records, costs=(), name="quick"):
    made.write_sweep(folder / "runs", lines, records, costs, name=name)
    build(folder / "runs", folder / "results", out=lambda text: None)
    return folder / "results"


def values(folder, ours, theirs=(100.0, 101.0, 102.0, 103.0, 104.0), **given):
    """A sweep of two cells, the tied one as given."""
    lines, records = made.pair(*theirs)
    more = made.pair(*ours, tying="cross_layer", **given)
    return results(folder, lines + more[0], records + more[1])


def said(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def line_of(text, tying):
    return next(line for line in text.splitlines() if line.startswith(tying))


def test_nothing_changed_between_a_folder_and_itself(tmp_path, capsys):
    folder = results(tmp_path, *made.grid(TASKS))
    out = said(capsys, folder, folder).out
    rows = [line for line in out.splitlines() if line.startswith(("none ", "cross_layer ", "soft("))]
    assert len(rows) == 2 * 3 * 4 and all("the same" in row for row in rows)
    assert "Made alike." in out


def test_a_change_is_paired_by_seed_and_turns_round_with_the_sides(tmp_path, capsys):
    before = values(tmp_path / "a", (90.0, 91.0, 92.0, 93.0, 94.0))
    after = values(tmp_path / "b", (92.0, 93.0, 94.0, 95.0, 96.1))
    there, back = said(capsys, before, after).out, said(capsys, after, before).out
    # +2, +2, +2, +2 and +2.1, of about 92, where 1 % is the margin: the geometric mean of 92 / 90 to 96.1 / 94
    assert "+2.20 [+2.15, +2.24]" in line_of(there, "cross_layer") and "worse" in line_of(
        there, "cross_layer"
    )
    assert "−2.15 [−2.19, −2.11]" in line_of(back, "cross_layer") and "better" in line_of(back, "cross_layer")
    assert "the same" in line_of(there, "none")
    said(capsys, before, after, "--fail-if-worse", code=1)
    said(capsys, after, before, "--fail-if-worse")


def test_perplexities_near_overflow_are_compared_by_their_logarithm(tmp_path, capsys):
    huge = [1.7e308 * (1 - 0.01 * seed) for seed in range(5)]
    sides = []
    for name, share in (("a", 1.0), ("b", 0.25)):
        lines, records = made.pair(*(share ** (1 + 1e-6 * at) * value for at, value in enumerate(huge)))
        made.write_sweep(tmp_path / name, lines, records)
        folder = tmp_path / f"results_{name}" / "quick"
        folder.mkdir(parents=True)
        (folder / archive.FILE).write_bytes(archive.content(archive.load(tmp_path / name, None, "quick")))
        sides.append(folder)
    row = line_of(said(capsys, *sides).out, "none")
    assert "−75.00 [−75" in row and "better" in row and "inf" not in row and "nan" not in row
    assert "worse" in line_of(said(capsys, *sides[::-1]).out, "none")


def test_folders_of_runs_are_compared_over_test_examples_too(tmp_path, capsys):
    rng, sides = np.random.Generator(np.random.PCG64(3)), []
    for name, shift in (("a", 0.0), ("b", 0.1)):
        lines, records = made.pair(100.0, 101.0 + shift, 103.0 - shift)
        made.write_sweep(tmp_path / name, lines, records)
        for line in lines:
            scores = {"nll": 4.6 + shift + 0.1 * rng.standard_normal(500), "cluster": np.arange(500) // 5}
            np.savez(run_folder(tmp_path / name, line["id"]) / "examples.npz", **scores)
        sides.append(tmp_path / name)
    out = said(capsys, *sides).out
    assert "over test examples [95 %]" in out
    # Three seeds' mean of 0.1 nats is 10.5 %.
    assert re.search(r"\+(9|10|11)\.\d\d \[\+(8|9|10)\.\d\d, \+1[0-2]\.\d\d\]", line_of(out, "none"))
    (run_folder(tmp_path / "a", lines[0]["id"]) / "examples.npz").write_bytes(b"torn")
    assert "examples.npz is damaged" in said(capsys, *sides, code=2).err
    for line in lines:
        (run_folder(tmp_path / "a", line["id"]) / "examples.npz").unlink()
    assert "over test examples" not in said(capsys, *sides).out


def test_what_only_one_side_has_is_named(tmp_path, capsys):
    before = results(tmp_path / "a", *made.pair(100.0, 101.0))
    after = values(tmp_path / "b", (90.0, 91.0), theirs=(100.0, 101.0))
    assert "only after" in line_of(said(capsys, before, after).out, "cross_layer")
    assert "only before" in line_of(said(capsys, after, before).out, "cross_layer")


def test_a_failed_run_is_said_and_not_averaged_away(tmp_path, capsys):
    before = values(tmp_path / "a", (90.0, 91.0, 92.0))
    lines, records = made.pair(90.0, 91.0, tying="cross_layer")
    lost = made.entry("cross_layer", seed=3)
    none = made.pair(100.0, 101.0, 102.0, 103.0, 104.0)
    after = results(
        tmp_path / "b",
        none[0] + [*lines, lost],
        none[1] + [*records, made.unfinished(lost, "failed", "boom")],
    )
    row = line_of(said(capsys, before, after).out, "cross_layer")
    assert "(n=3)" in row and "(n=2)" in row and "worse: 1 more failed" in row and "after: 1 failed" in row
    said(capsys, before, after, "--fail-if-worse", code=1)
    row = line_of(said(capsys, after, before, "--fail-if-worse").out, "cross_layer")
    assert "; 1 fewer failed" in row and "before: 1 failed" in row


def test_other_data_are_not_compared(tmp_path, capsys):
    before = results(tmp_path / "a", *made.pair(100.0, 101.0))
    lines, records = made.pair(50.0, 51.0)
    for record in records:
        record["data_meta"] = record["data_meta"] | {"fingerprint": "ffff"}
    after = results(tmp_path / "b", lines, records)
    out = said(capsys, before, after).out
    assert (
        "The data are not the same: nothing is compared." in out
        and "fingerprint: f1a2b3c4d5e6 -> ffff" in out
    )
    assert "better" not in out


def test_a_setting_that_changed_everywhere_matches_and_is_told(tmp_path, capsys):
    before = results(tmp_path / "a", *made.pair(100.0, 101.0))
    lines, records = made.pair(100.0, 101.0)
    for record in records:
        record["config"] = record["config"] | {"model": {"depth": 6}}
    after = results(tmp_path / "b", lines, records)
    out = said(capsys, before, after).out
    assert "model.depth: 4 -> 6" in out and "the same" in line_of(out, "none")


def test_commits_are_compared_as_folders_are(tmp_path, capsys, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    for at, shift in enumerate((0.0, 5.0)):
        made_here = values(tmp_path / f"made{at}", tuple(90 + shift + seed for seed in range(5)))
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        shutil.copytree(made_here, tmp_path / "results")
        git("add", "results")
        git("commit", "-qm", f"results {at}")
    monkeypatch.chdir(tmp_path)
    by_commit = said(capsys, "HEAD~1", "HEAD").out
    assert by_commit == said(capsys, "HEAD~1", "results").out
    assert "+5.44 [+5.32, +5.55]" in line_of(by_commit, "cross_layer")


@pytest.mark.parametrize("given", ["nowhere", "-x", "HEAD~99999"])
def test_what_is_neither_folder_nor_commit_is_one_line(given, tmp_path, capsys):
    folder = results(tmp_path, *made.pair(100.0))
    assert main(["--", given, str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {given}") and error.count("\n") == 1


def test_folders_without_records_damaged_ones_and_no_sweep_in_common(tmp_path, capsys):
    folder = results(tmp_path, *made.pair(100.0))
    other = results(tmp_path / "other", *made.pair(100.0), name="main")
    shutil.copytree(other / "main", other / "second")
    assert "no records.jsonl.gz there" in said(capsys, tmp_path, folder, code=2).err
    assert "no sweep is in both" in said(capsys, folder, other, code=2).err
    (folder / "quick" / "records.jsonl.gz").write_text("a,b\n1,2\n")
    assert "quick/records.jsonl.gz" in said(capsys, folder, folder, code=2).err
    empty = results(tmp_path / "empty", [], [])
    with pytest.raises(BadInput, match="is empty"):
        read(side(str(empty)), "quick")
