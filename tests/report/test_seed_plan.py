"""Seeds for a margin from a pilot: numbers done by hand, what is bad input, and one command by two names."""

import json
import subprocess
import sys

import pytest
import record_maker as made

from bench.analysis.power import seeds_needed, smallest_difference
from bench.report.plan import main

DIGITS = {"task": "image_cnn", "data": "digits"}
NONE, TIED = (0.80, 0.82, 0.84, 0.86), (0.81, 0.84, 0.85, 0.88)
"""Differences of 1, 2, 1 and 2 points: a standard deviation of 0.577 points."""


def pilot(folder, *pairs, **given):
    lines, records = [line for pair in pairs for line in pair[0]], [r for pair in pairs for r in pair[1]]
    made.write_sweep(folder / "runs", lines, [record | given for record in records])
    return ["--sweep=quick", f"--runs={folder / 'runs'}", f"--results={folder / 'results'}"]


def rows_of(capsys, arguments):
    assert main([*arguments, "--json"]) == 0
    return {row["tying"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


def test_the_numbers_are_those_of_the_pilot_s_spread(tmp_path, capsys):
    given = pilot(tmp_path, made.pair(*NONE, **DIGITS), made.pair(*TIED, tying="cross_layer", **DIGITS))
    rows = rows_of(capsys, given)
    row = rows["cross_layer"]
    sd = 0.01 * (1 / 3) ** 0.5
    assert row["sd"] == pytest.approx(sd) and (row["margin"], row["seeds_now"]) == (0.005, 4)
    assert row["seeds"] == seeds_needed(sd, 0.005) == 13
    assert row["smallest_now"] == pytest.approx(smallest_difference(sd, 4))
    # chi-square of 3 degrees of freedom: 20 % lie below 1.005
    assert row["seeds_cautious"] == seeds_needed(sd * (3 / 1.005) ** 0.5, 0.005) > row["seeds"]
    # 21.3 s on one thread; nine seeds are missing, of none too
    assert row["core_minutes_per_run"] == pytest.approx(21.3 / 60)
    assert row["more_core_minutes"] == rows["none"]["more_core_minutes"] == pytest.approx(9 * 21.3 / 60)
    wider = rows_of(capsys, [*given, "--margin=0.02"])["cross_layer"]
    assert wider["seeds"] == seeds_needed(sd, 0.02) < 5 and wider["more_core_minutes"] == 0
    many = rows_of(capsys, [*given, "--comparisons=10", "--power=0.9"])["cross_layer"]
    assert many["seeds"] == seeds_needed(sd, 0.005, 0.005, 0.9) > 20


def test_perplexities_are_planned_in_nats_and_settings_are_pooled(tmp_path, capsys):
    pairs = [made.pair(100.0, 102.0, dropout=d) for d in (0.0, 0.2)]
    pairs += [made.pair(90.0, 99.0, tying="soft"), made.pair(95.0, 96.9, tying="soft", dropout=0.2)]
    row = rows_of(capsys, pilot(tmp_path, *pairs))["soft"]
    # Logarithms of 0.9 and 0.9706, of 0.95 and 0.95: variances 0.002851 and 0.
    assert row["unit"] == "nll" and row["sd"] == pytest.approx((0.002851 / 2) ** 0.5, rel=1e-3)
    assert row["margin"] == pytest.approx(0.00995, rel=1e-3) and row["settings"] == 2


def test_text_names_the_columns_and_what_is_not_known(tmp_path, capsys):
    tied = made.pair(*TIED, tying="cross_layer", **DIGITS)
    lost = made.unfinished(tied[0][3], "diverged", "nan")
    given = pilot(
        tmp_path,
        made.pair(*NONE, **DIGITS),
        (tied[0], [*tied[1][:3], lost]),
        made.pair(0.9, tying="soft", **DIGITS),
    )
    assert main(given) == 0
    out = capsys.readouterr().out
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert (
        "runs without a number: 1" in lines["cross_layer"] and "it takes 2 seeds with none" in lines["soft"]
    )
    assert "image_cnn on digits" in out and "not known of 1 rows" in " ".join(out.split())


@pytest.mark.parametrize(
    "more, said",
    [
        (["--margin=0"], "--margin 0 is not allowed"),
        (["--margin=1.5"], "--margin 1.5 is not allowed"),
        (["--margin=x"], "invalid float value"),
        (["--power=1"], "--power 1 is not allowed"),
        (["--comparisons=0"], "--comparisons 0 is not allowed"),
        (["--sweep=other"], "no sweep other in"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, capsys, more, said):
    given = pilot(tmp_path, made.pair(*NONE, **DIGITS), made.pair(*TIED, tying="cross_layer", **DIGITS))
    assert main([*given, *more]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_pilot_without_none_is_refused(tmp_path, capsys):
    assert main(pilot(tmp_path, made.pair(*TIED, tying="cross_layer", **DIGITS))) == 2
    assert "no tying with `none` beside it" in capsys.readouterr().err


def test_both_names_of_the_command_print_the_same(tmp_path):
    given = pilot(tmp_path, made.pair(*NONE, **DIGITS), made.pair(*TIED, tying="cross_layer", **DIGITS))
    code = "import sys, bench; sys.exit(bench.command())"
    module = subprocess.run([sys.executable, "-m", "bench.plan", *given], capture_output=True, text=True)
    script = subprocess.run([sys.executable, "-c", code, "plan", *given], capture_output=True, text=True)
    assert module.returncode == script.returncode == 0
    assert module.stdout == script.stdout and "cross_layer" in module.stdout
    refused = subprocess.run([sys.executable, "-c", code, "plan"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
