import subprocess
import sys

import pytest
import record_maker as made

from bench.runs import lock, machine, owner
from bench.runs.store import cost_folder, manifest_path, read_json, run_folder, write_json
from bench.sweep import status
from bench.sweep.state import state_of
from bench.sweep.status import main, report
from bench.tying.errors import BadInput


def lines(count, tying="none", **given):
    return [made.entry(tying, seed=seed, **given) for seed in range(1, count + 1)]


def begin(runs, line, holder=None, step=None, checkpoint=False):
    folder = run_folder(runs, line["id"])
    write_json(folder / "attempts.json", {"attempts": [{"started": 1.0, "host": "alpha"}]})
    if step is not None:
        metric = line["metric"]["name"]
        write_json(folder / "status.json", {"step": step, "steps": 900, "metric": metric, "value": 121.23})
    if holder:
        write_json(folder / lock.LOCK_FILE, {"owner": holder, "host": "alpha"})
    if checkpoint:
        (folder / "last.ckpt").touch()


def finished(line, seconds):
    return made.record(line, seconds={"total": seconds})


@pytest.fixture
def mixed(tmp_path):
    """One of everything: 8 runs of a task, 2 of another."""
    gru = lines(7, "soft") + [made.entry("none")]
    image = lines(2, "embedding", task="image_cnn", data="digits")
    records = [
        finished(gru[0], 100),
        finished(gru[1], 140),
        made.unfinished(gru[2], "failed", "RuntimeError: 12 bytes"),
        made.unfinished(gru[3], "failed", "RuntimeError: 345 bytes"),
        made.unfinished(gru[4], "diverged", "the loss is nan at step 7"),
        *(made.unfinished(line, "not_applicable", "no embedding") for line in image),
    ]
    made.write_sweep(tmp_path, gru + image, records, [made.cost(line) for line in gru + image])
    begin(tmp_path, gru[5], owner.token(), step=340)
    begin(tmp_path, gru[6], step=450, checkpoint=True)
    return tmp_path


def test_one_of_everything(mixed):
    text = report(mixed)
    assert text.splitlines()[0] == (
        f"sweep quick in {mixed}/: 10 runs: 2 done, 1 running, 1 queued, 1 interrupted, 2 failed, 1 diverged, 2 n/a"
    )
    rows = {line[:24].strip(): line[24:].split() for line in text.splitlines()[4:9]}
    assert rows["image_cnn on digits"] == [*"------2", "2"]
    assert rows["text_gru on pydocs"] == [*"2111", "2", "1", "-", "8"]
    assert rows["none"] == [*"--1----", "1"] and rows["soft"] == [*"2", "1", "-", *"121-", "7"]
    assert "\nall" in text and "costs:" not in text
    assert (
        "text_gru soft dropout=0 wd=0 seed=6\n    step 340/900 perplexity 121.2, beat 0 s ago on alpha"
        in text
    )


def test_reasons_that_differ_in_figures_are_one(mixed):
    text = report(mixed)
    assert "failed x 2: RuntimeError: 12 bytes\n" in text
    folder = run_folder(mixed, made.entry("soft", seed=3)["id"])
    assert f"see {folder / 'log'}" in " ".join(text.split())
    assert "diverged x 1: the loss is nan at step 7" in text and "n/a x 2: no embedding" in text
    assert "interrupted x 1: stopped: it goes on from its last checkpoint" in text


def test_time_to_go_is_the_mean_of_what_finished_over_those_at_work(mixed):
    # Running: 560 of 900 steps of 120 s; interrupted: half of 120 s; queued `none`: the task's mean, 120 s.
    assert "time to go: about 4 min 15 s (1 running at once)" in report(mixed)


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (0, "time to go: unknown, no run of these tasks has finished"),
        (1, "time to go: about 1 min 30 s (none is running; 2 at once on this machine)"),
    ],
)
def test_time_to_go_where_nothing_runs(tmp_path, monkeypatch, done, said):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    asked = lines(4)
    made.write_sweep(tmp_path, asked, [finished(line, 60.0) for line in asked[:done]])
    write_json(run_folder(tmp_path, asked[-1]["id"]) / "request.json", {"provenance": {"threads": 4}})
    assert said in report(tmp_path)


def test_runs_of_a_task_of_which_none_has_finished_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 1)
    asked = [*lines(2), made.entry(task="image_cnn")]
    made.write_sweep(tmp_path, asked, [finished(asked[0], 10.0)])
    assert "about 20 s (none is running; 1 at once on this machine; 1 of tasks" in report(tmp_path)


def test_costs_that_are_missing_or_failed(tmp_path):
    asked = [made.entry(tying) for tying in ("none", "soft", "top_k")]
    made.write_sweep(tmp_path, asked, [], [made.cost(asked[0])])
    failed = {"schema": 1, "status": "failed", "reason": "killed by SIGKILL"}
    write_json(cost_folder(tmp_path, asked[1]["cost"]) / "cost.json", failed)
    text = report(tmp_path)
    assert "costs: 1 of 3 measured, 1 failed, 1 queued\n  killed by SIGKILL (log:" in text


@pytest.mark.parametrize(
    ("name", "statuses", "said"),
    [
        ("quick", ["done", None], ["to go on: make sweep SWEEP=quick ARGS=runs={}"]),
        ("quick", ["done", "failed"], ["to run failed ones again: make retry SWEEP=quick ARGS=runs={}"]),
        ("mine", ["failed", None], ["to go on: the command that", "again: the command that started it, with retry"]),
        ("quick", ["done", "diverged"], ["complete; its tables: python -m bench.tables --runs {} --sweep quick"]),
    ],
)  # fmt: skip
def test_how_it_goes_on(tmp_path, name, statuses, said):
    asked = lines(2)
    found = [made.unfinished(line, s, "why") for line, s in zip(asked, statuses, strict=True) if s]
    made.write_sweep(tmp_path, asked, found, name=name)
    for words in said:
        assert words.format(tmp_path) in report(tmp_path)


def test_of_the_default_folder_the_command_is_short(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made.write_sweep(tmp_path / "runs", lines(1), [])
    assert main([]) == 0
    assert capsys.readouterr().out.endswith("\nto go on: make sweep SWEEP=quick\n")


def test_without_a_makefile_commands_are_those_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "IS_CHECKOUT", False)
    with pytest.raises(BadInput, match="run `tying-bench -m sweep=quick`"):
        report(tmp_path)
    asked = lines(2)
    made.write_sweep(tmp_path, asked, [made.unfinished(asked[0], "failed", "why")])
    text = report(tmp_path)
    assert f"to go on: tying-bench -m sweep=quick runs={tmp_path}\n" in text
    assert f"again: tying-bench -m sweep=quick runs={tmp_path} retry=true" in text
    assert "make " not in text


def test_no_torch():
    code = "import sys, bench.status; print('torch' in sys.modules, 'hydra' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_usual_names_fit_the_width(tmp_path):
    ties = ("soft(strength=0.01)", "embedding+top_k(fraction=0.5)")
    asked = [made.entry(t, 0.2, 1.0, task="text_transformer", id="0123456789a" + t[0]) for t in ties]
    made.write_sweep(tmp_path / "runs", asked, [made.unfinished(asked[0], "failed", "word " * 79)])
    begin(tmp_path / "runs", asked[1], owner.token(), step=340)
    text = report(tmp_path / "runs").replace(f"{tmp_path}/", "")
    assert max(map(len, text.splitlines())) < 100


def test_many_running_ones_and_many_reasons_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "MOST", 2)
    asked = lines(8)
    found = [made.unfinished(x, "failed", f"reason {c}") for x, c in zip(asked[4:], "abcd", strict=True)]
    made.write_sweep(tmp_path, asked, found)
    for line in asked[:4]:
        begin(tmp_path, line, owner.token())
    text = report(tmp_path)
    assert text.count("starting, beat") == 2 and "running: 4" in text and "and 2 more" in text
    assert text.count("failed x 1") == 2 and "failed: and 2 other reasons" in text


def test_a_line_for_each_of_several_sweeps(tmp_path):
    first, second = made.pair(100.0), made.pair(90.0, data="wikitext2")
    made.write_sweep(tmp_path, first[0] + lines(3, "soft"), first[1], name="b")
    made.write_sweep(tmp_path, second[0], second[1], name="long_name")
    told = report(tmp_path).splitlines()
    assert told[:2] == ["b          4 runs: 1 done, 3 queued", "long_name  1 run: 1 done"]
    assert report(tmp_path, ["b"]).startswith("sweep b in")


def test_learning_rates_that_are_being_chosen_come_before_the_grid(tmp_path):
    asked, search = lines(2), [made.entry(seed=0, id=f"candidate{n}") for n in range(3)]
    made.write_sweep(tmp_path, asked, [made.record(search[0], seconds={"total": 10.0})])
    path = manifest_path(tmp_path, "quick")
    write_json(path, read_json(path) | {"search": search})
    begin(tmp_path, search[1], owner.token(), step=450)
    text = report(tmp_path)
    assert text.startswith(f"sweep quick in {tmp_path}/: 2 runs: 2 queued\n")
    assert "\nchoosing learning rates: 3 runs: 1 done, 1 running, 1 queued\n" in text
    assert "time to go: about 35 s (1 running at once)" in text  # half of a run and three whole ones
    for line in search[1:]:
        write_json(run_folder(tmp_path, line["id"]) / "record.json", made.record(line))
    assert "choosing" not in report(tmp_path)


@pytest.mark.parametrize("arguments", [["--sweep", "nothing"], ["--runs", "nowhere"]])
def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    made.write_sweep(tmp_path / "runs", lines(1), [], name="there")
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("error: no sweep ") and told.err.count("\n") == 1
    assert "there is there" in told.err or "make sweep" in told.err


TORN = ("{", '{"runs": 3}', '{"runs": [{"task": 1}]}', '{"runs": [3]}', '{"runs": [{"id": "x"}]}')


@pytest.mark.parametrize("content", TORN)
def test_a_damaged_manifest_is_bad_input(tmp_path, capsys, content):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "torn.json").write_text(content)
    assert main(["--runs", str(tmp_path)]) == 2
    assert "torn.json" in capsys.readouterr().err


def test_newer_records_are_refused(tmp_path, capsys):
    made.write_sweep(tmp_path, lines(1), [made.record(lines(1)[0], schema=99)])
    assert main(["--runs", str(tmp_path)]) == 2
    assert "schema 99" in capsys.readouterr().err


def test_nothing_is_written_and_the_same_records_give_the_same_words(mixed):
    def tree():
        return {path: path.stat().st_mtime_ns for path in mixed.rglob("*")}

    before = tree()
    first = report(mixed)
    assert tree() == before and first == report(mixed)


def test_each_run_is_looked_at_once(mixed, monkeypatch):
    """Ten thousand of them are shown at once."""
    seen = []
    monkeypatch.setattr(status, "state_of", lambda *given: seen.append(given) or state_of(*given))
    report(mixed)
    assert len(seen) == len(set(seen)) > 10


@pytest.mark.parametrize(("measured_by", "told"), [("process 7 (x)", True), (None, False)])
def test_who_is_waited_for_is_told_where_runs_wait(tmp_path, monkeypatch, measured_by, told):
    monkeypatch.setattr(machine, "measured_by", lambda: measured_by)
    made.write_sweep(tmp_path, lines(2), [])
    said = "runs wait on this machine for a measurement to end: process 7 (x)"
    assert (said in report(tmp_path)) == told


def test_where_no_run_waits_nobody_looks_who_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "measured_by", lambda: pytest.fail("it was asked"))
    done = lines(2)
    made.write_sweep(tmp_path, done, [made.record(line) for line in done])
    assert "2 done" in report(tmp_path)
