"""`make gpu`: its parts are kept apart, cut off in time and said where they fail; without a GPU all are holes."""

import sys

import pytest

from bench.perf import gpu
from bench.perf.gpu import PARTS, Flags, Part, main
from bench.runs import machine
from bench.runs.store import read_json


def test_the_parts_fit_into_nine_minutes():
    assert sum(part.seconds for part in PARTS.values()) <= 540


@pytest.mark.parametrize(
    ("code", "reason", "printed"),
    [
        ("print('figures')", None, "figures"),
        ("print('half'); raise SystemExit('no memory')", "exit code 1: no memory", "half"),
        ("import time; print('half', flush=True); time.sleep(60)", "cut off after 1 s", "half"),
    ],
)
def test_a_part_is_what_it_printed_or_why_it_did_not(tmp_path, code, reason, printed):
    part = Part("a title", "what it is", 1 if "sleep" in code else 60, lambda _: [sys.executable, "-c", code])
    figure = gpu._run(part, Flags(False, tmp_path, None, None))
    assert (figure.get("reason"), figure["printed"]) == (reason, printed)


def test_without_a_gpu_every_part_is_a_hole_and_what_was_measured_stays(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "gpus", list)
    assert main(["--out", str(tmp_path)]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.count("Not measured: no GPU here.") == len(PARTS) and all(
        p.title in page for p in PARTS.values()
    )
    (tmp_path / "gpu.md").write_text("measured")
    main(["--out", str(tmp_path)])
    assert (
        tmp_path / "gpu.md"
    ).read_text() == "measured" and "keeps what was measured" in capsys.readouterr().out
    assert main(["--text", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_loop_is_timed_tied_and_untied(tmp_path, capsys):
    main(["--dry", "--part", "loops", "--out", str(tmp_path)])
    rows = read_json(tmp_path / "loops.json")["rows"]
    assert [(row["tying"], row["loop"]) for row in rows] == [
        (tying, loop) for tying in ("none", "embedding") for loop in ("ours", "by hand", "as nanoGPT")
    ]
    assert all(row["step_s"] > 0 and row["flops"] > 0 and row["share_of_peak"] is None for row in rows)
    assert len({row["num_params"] for row in rows}) == 2 and "as nanoGPT" in capsys.readouterr().out
