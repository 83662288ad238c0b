import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import record_maker as made
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bench.heat_map import HOLE, heat_maps
from bench.plots import COLOURS, curve, curves, draw, pareto, styles
from bench.report.cells import Section
from bench.report.grouping import sections
from bench.report.rows import read_sweep

TASK = {"text_gru": "pydocs"}


@pytest.fixture
def grid(tmp_path: Path) -> list[Section]:
    lines, records, costs = made.grid(TASK)
    return written(tmp_path, lines, records, costs)


def written(folder: Path, lines, records, costs=()) -> list[Section]:
    made.write_sweep(folder / "runs", lines, records, costs)
    return sections(read_sweep(folder / "runs", "quick")[0])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("picture", [pareto, curves, heat_maps])
def test_pictures_are_valid_and_the_same_bytes_again(grid, picture):
    first, second = draw(picture, grid), draw(picture, grid)
    assert first == second and first[".png"].startswith(b"\x89PNG")
    assert ElementTree.fromstring(first[".svg"]).tag.endswith("svg")
    assert b"<dc:date>" not in first[".svg"]


@pytest.mark.parametrize("picture", [pareto, curves, heat_maps])
def test_one_run_is_enough_for_a_picture(tmp_path, picture):
    line = made.entry()
    assert draw(picture, written(tmp_path, [line], [made.record(line)]))[".png"]


@pytest.mark.parametrize("picture", [pareto, curves, heat_maps])
def test_a_record_without_curves_or_counts_draws_what_there_is(tmp_path, picture):
    line = made.entry()
    bare = made.record(line, curves=None, num_params=None, num_params_untied=None)
    assert draw(picture, written(tmp_path, [line], [bare]))[".png"]


def test_a_tying_has_its_colour_and_shares_no_marker_within_its_family(tmp_path):
    lines = [
        made.entry(tying) for tying in ("none", "top_k(k=2)", "top_k(k=3)", "soft", "embedding+top_k(k=2)")
    ]
    found = styles(written(tmp_path, lines, [made.record(line) for line in lines]))
    assert found["top_k(k=2)"][0] == found["top_k(k=3)"][0] == COLOURS["top_k"]
    assert found["top_k(k=2)"][1:] != found["top_k(k=3)"][1:]
    assert len({colour for colour, _, _ in found.values()}) == 4


def test_every_tying_stands_in_the_legend_once_and_the_untied_count_is_marked(grid):
    figure = pareto(grid)
    assert legend(figure) == list(made.TYINGS)
    assert "untied" in texts(figure)
    # none and soft have equal counts: drawn apart, and the axis says so.
    assert "side by side" in figure.axes[0].get_xlabel()


def test_equal_counts_do_not_overlap(grid):
    figure = pareto(grid)
    chosen = [bars.lines[0].get_xdata()[0] for bars in figure.axes[0].containers]
    assert len(set(chosen)) == len(made.TYINGS)


def test_a_curve_is_the_mean_over_seeds_of_the_epochs_all_have(tmp_path):
    lines = [made.entry(seed=seed) for seed in (1, 2)]
    losses = ([5.0, 3.0, 2.0], [7.0, math.nan])
    records = [
        made.record(line, curves={"epoch": list(range(len(loss))), "val_nll": loss})
        for line, loss in zip(lines, losses, strict=True)
    ]
    (section,) = written(tmp_path, lines, records)
    assert curve(section.cells[0]) == {0: (6.0, math.sqrt(2), 2)}


def test_curves_have_a_band_only_where_there_are_seeds(tmp_path):
    lines = [made.entry(seed=1), made.entry(seed=2), made.entry("cross_layer", seed=1)]
    figure = curves(written(tmp_path, lines, [made.record(line, 90.0 + line["seed"]) for line in lines]))
    (band,) = figure.axes[0].collections
    assert to_hex(band.get_facecolor()[0]) == COLOURS["none"]


def test_heat_maps_show_every_number_and_name_what_they_leave_out(tmp_path):
    lines, records, costs = made.grid({"image_cnn": "digits"}, seeds=(1,), dropouts=(0.0, 0.5), decays=(0.0,))
    records = [record for record in records if not (record["tying"] == "none" and record["dropout"] == 0.5)]
    figure = heat_maps(written(tmp_path, lines, records, costs))
    said = texts(figure)
    assert "97.10" not in said and said.count(HOLE) == 1
    assert f"{100 * (0.97 - 0.1 * 0.01):.2f}" in said
    assert any("Not shown: embedding: n/a: no input embedding" in text for text in said)
    titles = [tying for tying in made.TYINGS if tying in said]
    assert titles == [tying for tying in made.TYINGS if tying != "embedding"]
