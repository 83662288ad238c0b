"""`make perf`: its parts run, all ways of training agree, the page says what was measured. No time is tested."""

import dataclasses
import math

import pytest
import torch

from bench.perf import __main__ as command
from bench.perf import growth, output, steps, timing
from bench.perf.loops import Watched, ours, plain_loss, same_loss
from bench.perf.page import growth_picture, page
from bench.perf.subjects import subject_of
from bench.perf.timing import QUICK
from bench.runs import machine
from bench.runs.store import read_json, write_json
from bench.tying import methods
from bench.tying.errors import BadInput

TASKS = ("image_cnn", "text_gru", "text_transformer")
LANGUAGE = TASKS[1:]


@pytest.fixture
def made(cell):
    """(task, *overrides) -> the subject of its cell at a test's sizes."""
    return lambda task, *overrides: subject_of(cell(task, "none", *overrides), task)


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


# --- all ways to train are the same training


@pytest.mark.parametrize("task", TASKS)
def test_every_loop_takes_the_same_steps(made, task):
    one = made(task)
    start, reached = weights(one.model), weights(steps.trained(one, ours, 5))
    assert not torch.equal(start, reached)
    for name, way in steps.ways(one, same_loss, logs=False).items():
        other = weights(steps.trained(one, way, 5))
        if name == steps.BY_HAND:
            assert torch.equal(reached, other)
        else:
            torch.testing.assert_close(other, reached, rtol=1e-5, atol=1e-6)
    assert torch.equal(weights(one.model), start)


def test_only_language_models_are_trained_by_transformers(made):
    assert steps.HUGGING_FACE not in steps.ways(made("image_cnn"), same_loss, logs=False)
    assert steps.HUGGING_FACE in steps.ways(made("text_gru"), same_loss, logs=False)


@pytest.mark.parametrize("task", LANGUAGE)
def test_the_two_losses_are_one_in_full_precision_and_near_in_bfloat16(made, task):
    for asked, off in (("null", 1e-6), ("bf16", 1e-2)):
        one = made(task, f"trainer.output_precision={asked}")
        for batch in one.batches(1):
            ours_, theirs = (losses(one, one.model)(batch).item() for losses in (same_loss, plain_loss))
        assert ours_ == pytest.approx(theirs, rel=off)


def test_batches_go_on_from_the_first_where_an_epoch_ends(made):
    one = made("image_cnn")
    epoch = len(one.data.train_dataloader())
    batches = one.batches(epoch + 1)
    assert len(batches) == epoch + 1 and torch.equal(batches[0][0], batches[-1][0])


# --- what is timed


def test_seconds_of_a_step_are_those_between_askings_but_for_the_first():
    watched = Watched(["a", "b", "c", "d", "e"])
    assert list(watched) == ["a", "b", "c", "d", "e"] and len(watched.taken_at) == len(watched) == 5
    watched.taken_at = [0.0, 7.0, 9.0, 10.0, 12.0]
    assert watched.seconds() == 1.5


def test_calls_side_by_side_take_turns_forwards_and_backwards(monkeypatch):
    now, made = 0.0, []

    def call(name, seconds):
        def advance():
            nonlocal now
            now += seconds
            made.append(name)

        return advance

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    found = timing.medians({"a": call("a", 1.0), "b": call("b", 3.0)}, rounds=3)
    assert found == {"a": 1.0, "b": 3.0}
    assert "".join(made) == "aabb" + "ab" + "ba" + "ab"


def test_an_exponent_is_the_slope_of_logarithms_with_its_standard_error():
    slope, error = growth.exponent([1, 2, 4], [3, 12, 48])
    assert slope == pytest.approx(2) and error == pytest.approx(0, abs=1e-9)
    # y = 0, 1, 1 over x = 0, 1, 2: residuals -1/6, 1/3, -1/6, so the error is sqrt(1/6 / 1 / 2).
    slope, error = growth.exponent([1, 2, 4], [1, 2, 2])
    assert slope == pytest.approx(0.5) and error == pytest.approx(math.sqrt(1 / 12))
    assert growth.exponent([1, 2], [1, 2]) == (pytest.approx(1), None)


# --- the parts


def test_the_floor_counts_operations_and_bytes(made, monkeypatch):
    monkeypatch.setattr(steps, "matmul_rate", lambda dtype, device: 4e9 if dtype == torch.bfloat16 else 1e9)
    monkeypatch.setattr(steps, "copy_rate", lambda device: 1e9)
    one = made("text_gru")
    (row,) = steps.floor([one], QUICK)["rows"]
    vocabulary, width = one.model.output_layer.weight.shape
    tokens = 16 * 8
    assert row["output_flops"] == 3 * 2 * tokens * width * vocabulary
    assert row["bytes"] == 10 * 4 * sum(p.numel() for p in one.model.parameters())
    assert row["floor_s"] == pytest.approx(
        row["body_flops"] / 1e9 + row["output_flops"] / 4e9 + row["bytes"] / 1e9
    )
    assert row["body_flops"] > 0 and row["step_s"] > 0


def test_our_defaults_and_theirs_reach_the_same_loss_in_less_memory(made):
    (first, second) = steps.defaults([made("text_gru")], QUICK)["rows"]
    assert [first["way"], second["way"]] == [steps.HUGGING_FACE, steps.LIGHTNING]
    assert first["nll_of_way"] == pytest.approx(second["nll_of_way"], rel=1e-5)
    assert first["nll"] == pytest.approx(first["nll_of_way"], rel=1e-2)
    assert first["peak_bytes"] < first["peak_bytes_of_way"]
    assert first["pair"]["turns"] == 1 and first["pair"]["ratio"] > 0 and first["steps"] == QUICK.steps


def test_every_task_is_stepped_in_each_precision_that_it_can_be_given():
    rows = steps.precision(QUICK)["rows"]
    asked = [(row["subject"], row["output_precision"], row["precision"]) for row in rows]
    assert asked == [
        ("image_cnn", None, "bf16-mixed"),
        *(
            (task, "bf16", below)
            for task in ("text_gru", "text_transformer")
            for below in ("32-true", "bf16-mixed")
        ),
    ]
    assert all(row["pair"]["ratio"] > 0 for row in rows)


def test_every_form_of_the_output_layer_gives_one_loss():
    losses = {
        name: output.Output(output.TINY[0], form)().item() for name, form in output.forms().items() if form
    }
    plain = losses.pop(output.PLAIN)
    assert len(losses) >= 2 and all(loss == pytest.approx(plain, rel=1e-2) for loss in losses.values())


def test_a_form_that_this_torch_lacks_is_a_row_with_the_reason(monkeypatch):
    monkeypatch.delattr(output.F, "linear_cross_entropy", raising=False)
    rows = {row["form"]: row for row in output.measure(QUICK)["rows"]}
    assert "has it not" in rows[output.CHUNKED]["reason"] and "pair" in rows[output.PLAIN]


def test_without_a_compiler_the_row_says_so(made, monkeypatch):
    def refuse(mode):
        raise BadInput("no compiler")

    monkeypatch.setattr(machine, "check_compiler", refuse)
    (row,) = steps.compiled([made("text_gru")], QUICK)["rows"]
    assert row == {"subject": "text_gru", "mode": "default", "reason": "no compiler"}


def test_a_compiled_step_is_timed_against_the_plain_one(made, monkeypatch):
    def same(model, mode):  # compiling takes a minute, and is torch's
        modes.append(mode)

    modes = []
    monkeypatch.setattr(machine, "check_compiler", lambda mode: None)
    monkeypatch.setattr(steps.build, "compile_in_place", same)
    (row,) = steps.compiled([made("text_gru")], QUICK)["rows"]
    assert modes == ["default", None] and row["first_s"] > 0 and row["pair"]["turns"] == 1


def test_what_a_gpu_would_do_runs_anywhere():
    tiny = dataclasses.replace(
        growth.NETWORKS_OF_GPU[1],
        make=lambda: growth.GRULanguageModel(40, 2, 8),
        vocabulary=40,
        batch=2,
        window=4,
    )
    (row,) = growth.on_gpu(QUICK, torch.device("cpu"), [tiny])["rows"]
    assert row["tokens"] == 8 and row["num_params"] < row["num_params_untied"]
    assert row["peak_per_s"] is None and row["flops"] > 0


def test_gpt2_small_has_the_published_number_of_parameters():
    model = growth.NETWORKS_OF_GPU[0].make()
    assert methods.embedding(model).num_params(model) == 124_439_808


# --- the page


PAIR = {
    "tied": {"median_s": 0.010, "p90_s": 0.011, "p99_s": None, "n": 10},
    "untied": {"median_s": 0.020, "p90_s": 0.022, "p99_s": None, "n": 10},
    "ratio": 0.5,
    "low": 0.45,
    "high": 0.55,
    "turns": 10,
}
PROVENANCE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "cores": 2,
    "python": "3.11",
    "versions": {"torch": "2.13.0"},
    "device": "cpu of a test",
    "threads": 1,
}
COMPARED = {"subject": "text_gru", "way": "a loop", "steps": 20, "pair": PAIR, "suspect": None}


def line_of(text, start):
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return found


def test_the_page_has_ratios_with_intervals_and_what_we_take_more():
    figures = {"overhead": {"rows": [COMPARED], "provenance": PROVENANCE}}
    text = page(figures, "performance")
    assert (
        line_of(text, "| text_gru | a loop")
        == "| text_gru | a loop | 10.00 | 20.00 | 0.500 [0.450, 0.550] | −10.00 [−11.00, −9.00] | 10 x 20 |"
    )
    assert "A step of ours takes 0.50 to 0.50 times as long" in text and "Each as it comes" not in text
    assert "Measured at commit 0123456789 on cpu of a test, 2 cores, 1 thread(s) of torch" in text
    assert text.startswith(
        "<!-- made by `make perf`; do not edit -->\n# How fast is training here, and against what else?\n"
    )


def test_a_part_that_was_not_measured_is_a_hole_with_the_command_that_fills_it():
    text = page({}, "performance")
    for part in command.SECTIONS:
        assert f"Not measured: `python -m bench.perf --only {part}`." in text


def test_a_suspect_figure_is_marked_and_its_reason_told():
    row = {**COMPARED, "suspect": "another process had the processor for 20% of the time"}
    text = page({"overhead": {"rows": [row, COMPARED], "provenance": PROVENANCE}}, "performance")
    assert "10.00? | 20.00? | 0.500 [0.450, 0.550]? |" in text
    assert "`?` in 1 of 2 rows, for instance: another process had the processor for 20% of the time." in text


def test_figures_of_two_machines_are_told_apart():
    elsewhere = {**PROVENANCE, "device": "another"}
    figures = {
        "overhead": {"rows": [COMPARED], "provenance": PROVENANCE},
        "gpu": {**growth.holes("no GPU here"), "provenance": elsewhere},
    }
    text = page(figures, "performance")
    assert "Of: overhead." in text and "Of: gpu." in text
    assert "| GPT-2 small | embedding | no GPU here | — |" in text


def test_the_page_tells_rates_speed_and_exponents():
    figures = {
        "floor": {
            "rates": {"float32": 1e11, "bfloat16": 4e11, "copy": 1e10},
            "passes": 10,
            "rounds": 20,
            "rows": [
                {
                    "subject": "text_gru",
                    "body_flops": 10**9,
                    "output_flops": 4 * 10**9,
                    "output_precision": "bfloat16",
                    "bytes": 10**7,
                    "floor_s": 0.021,
                    "step_s": 0.042,
                }
            ],
        },
        "growth": {
            "base": {"depth": 4, "width": 64, "vocabulary": 2000, "batch": 8, "tied": 1},
            "window": 32,
            "rounds": 20,
            "rows": [
                {
                    "network": "GRU",
                    "axis": "depth",
                    "at": [2, 4, 8],
                    "step_s": [0.01, 0.02, 0.04],
                    "peak_bytes": [2**20, 2**21, 2**22],
                    "exponents": {"step_s": [1.0, 0.02], "peak_bytes": [1.0, None]},
                }
            ],
        },
        "defaults": {
            "quality_steps": 100,
            "rows": [
                {
                    **COMPARED,
                    "nll": 5.0,
                    "nll_of_way": 5.01,
                    "peak_bytes": 2**20,
                    "peak_bytes_of_way": 2**22,
                }
            ],
        },
    }
    text = page({part: {**found, "provenance": PROVENANCE} for part, found in figures.items()}, "performance")
    assert "products 1e+11 FLOP/s in float32 and 4e+11 in bfloat16, copies 1e+10 bytes/s" in text
    assert "| text_gru | 5.00 | 4.00 in bfloat16 | 10.0 | 21.00 | 42.00 | 2.00 |" in text
    assert "| GRU | depth | 2, 4, 8 | 10.0, 20.0, 40.0 | 1.00 ± 0.02 | 1.0, 2.0, 4.0 | 1.00 |" in text
    assert "| 0.500 [0.450, 0.550] | 2.00 | 5.0000 | 5.0100 | 1.0 | 4.0 | 0.25 | 10 x 20 |" in text
    assert "![cost against size](performance/growth.png)" in text
    picture = growth_picture(figures["growth"]["rows"])
    assert "exponents b of cost = a × size^b" in picture.get_suptitle()
    assert [axes.get_legend().get_texts()[0].get_text() for axes in picture.axes] == ["GRU: 1.00"] * 2


# --- the command


@pytest.fixture
def perf(tmp_path):
    def call(*arguments):
        return command.main(["--quick", "--out", str(tmp_path), *arguments])

    return call


def test_parts_are_added_to_the_page_that_is_there(perf, tmp_path, capsys):
    assert perf("--only", "output") == 0
    assert "F.linear + F.cross_entropy" in capsys.readouterr().out
    assert perf("--only", "growth") == 0
    figures = read_json(tmp_path / "performance" / "figures.json")
    assert set(figures) == {"output", "growth"}
    text = (tmp_path / "performance.md").read_text()
    assert text == page(figures, "performance")
    names = {path.name for path in (tmp_path / "performance").iterdir()}
    assert names == {"figures.json", "growth.png", "growth.svg"}


def test_without_a_gpu_its_part_is_refused_in_one_line(perf, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "gpus", list)
    assert perf("--only", "gpu") == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: --only gpu: there is no GPU here") and told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_gpu_figures_from_elsewhere_outlive_a_machine_without_one(perf, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "gpus", list)
    monkeypatch.setattr(command, "SECTIONS", {"gpu": command.SECTIONS["gpu"]})
    monkeypatch.setattr(command.sweeps, "report", lambda scratch: None)
    figures = tmp_path / "performance" / "figures.json"
    assert perf() == 0
    assert {row["reason"] for row in read_json(figures)["gpu"]["rows"]} == {"no GPU here"}
    elsewhere = {"gpu": {"rows": [], "provenance": {**PROVENANCE, "device": "a GPU"}}}
    write_json(figures, elsewhere)
    assert perf() == 0 and read_json(figures) == elsewhere
