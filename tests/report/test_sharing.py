"""results/sharing.md: what is shared over what, over all sweeps that ask it."""

from pathlib import Path

import pytest
import record_maker as made

from bench.report import sharing
from bench.report.tables import build

RESULTS = Path(__file__).parents[2] / "results"
NONE = made.pair(100.0, 101.0, 102.0, 101.0, 100.0)
TIED = made.pair(90.1, 91.0, 92.0, 90.9, 90.0, tying="cross_layer")
SIZED = made.pair(80.1, 81.0, 82.0, 80.9, 80.0, tying="cross_layer, control=params")


def built(folder: Path, *cells, name: str) -> Path:
    lines, records = ([item for cell in cells for item in cell[at]] for at in (0, 1))
    made.write_sweep(folder / "runs", lines, records, name=name)
    build(folder / "runs", folder / "results", [name], out=lambda text: None)
    return folder / "results" / sharing.PAGE


def test_the_committed_page_is_that_of_the_committed_records():
    ties = sharing.ties_of(RESULTS)
    assert (RESULTS / sharing.PAGE).read_text() == sharing.page(ties)
    assert {row.sweep for row in ties} >= {"shared_over", "shared_over_rows"}


def test_a_tie_stands_beside_none_and_beside_a_network_of_its_size(tmp_path):
    cells = map(made.searched, (NONE, TIED, SIZED))
    text = built(tmp_path, *cells, name="shared_over_mine").read_text()
    assert "Of 1 ties 1 are better (depth in text_gru), 0 worse, 0 not told from the untied network" in text
    assert "0 are better, 1 worse (depth in text_gru), 0 not told from it" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| depth")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == ["cross_layer", "[text_gru on pydocs](shared_over_mine/summary.md)", "40"]
    assert cells[4].startswith("−9.9 %") and cells[6].startswith(
        "+12.4 %"
    )  # ln(90.8 / 100.8), ln(90.8 / 80.8)


def test_at_a_rate_that_was_given_no_tie_counts_as_better_or_worse(tmp_path):
    text = built(tmp_path, NONE, TIED, SIZED, name="shared_over_mine").read_text()
    assert (
        "Of 1 ties 0 are better, 0 worse, 1 not told from" in text and "better at this rate, a hint" in text
    )


def test_a_tie_without_a_network_of_its_size_has_a_dash(tmp_path):
    text = built(tmp_path, NONE, TIED, name="shared_over_mine").read_text()
    assert "| — | — |" in text and "Of 0 beside" in text


def test_random_groups_are_a_control_and_no_row(tmp_path):
    random = made.pair(80.0, 81.0, 82.0, 81.0, 80.0, tying="learned(groups=2, shuffle=1)")
    spec = {
        "parts": [{"method": "learned", "keys": {"groups": 2, "shuffle": 1}}],
        "control": None,
        "start": None,
    }
    for item in (*random[0], *random[1]):
        item["spec"] = spec
    text = built(tmp_path, NONE, TIED, random, name="shared_over_mine").read_text()
    assert "Of 1 ties" in text and "random" not in text.split("|", 1)[1].rsplit("|", 1)[0]


def test_a_sweep_that_asks_something_else_makes_no_page(tmp_path):
    assert not built(tmp_path, NONE, TIED, name="quick").exists()


@pytest.mark.parametrize("name", ["shared_over", "shared_over_rows", "shared_over_experts"])
def test_the_sweeps_that_ask_it_are_told_by_their_name(name):
    assert sharing.asks(name) and not sharing.asks("quick")
