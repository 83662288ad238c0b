import itertools
import math
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import record_maker as made
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.analysis.groups import Section, sections
from bench.analysis.runs import read_sweep
from bench.analysis.statistics import Interval
from bench.report.plots.curves import BANDS, curve, curves
from bench.report.plots.forest import forest
from bench.report.plots.heat import HOLE, heat_maps
from bench.report.plots.labels import MARK, Label, annotate, coinciding
from bench.report.plots.pareto import Point, front, pareto
from bench.report.plots.pictures import PICTURES, pictures
from bench.report.plots.similarity import cosines, similarity
from bench.report.plots.style import (
    MARGINS,
    MOST,
    draw,
    lightness,
    looks_of,
    panels,
    readable,
    styles,
    tip,
    tips,
)
from bench.runs.tying_spec import METHODS, OTHER, SPARE, Part, TyingSpec, colours

TASK = {"text_gru": "pydocs"}
OWN = {"pareto": pareto, "forest": forest, "curves": curves, "heat": heat_maps, "similarity": similarity}
MANY = (
    *("none", "embedding", "cross_layer", "cross_layer, control=params", "cross_layer, control=respend"),
    *(f"top_k(k={k})" for k in (2, 3, 4, 5)),
    *(
        f"{form}(strength={strength})"
        for form in ("soft", "soft_decoupled")
        for strength in ("1e-05", "0.01")
    ),
    "embedding+top_k(k=2)",
)


def grid_of(folder: Path, **axes) -> list[Section]:
    lines, records, costs = made.grid(axes.pop("tasks", TASK), **axes)
    for record in records:
        record["similarity"] = [[1.0, 0.5, None], [0.5, 1.0, -0.25], [None, -0.25, 1.0]]
    return written(folder, lines, records, costs)


def written(folder: Path, lines, records, costs=()) -> list[Section]:
    made.write_sweep(folder / "runs", lines, records, costs)
    return sections(read_sweep(folder / "runs", "quick")[0])


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> list[Section]:
    return grid_of(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> list[Section]:
    return grid_of(tmp_path_factory.mktemp("many"), tyings=MANY, dropouts=(0.0,))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def titles(svg: bytes) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def notes(figure: Figure) -> str:
    """What stands below a picture, on one line, with plain spaces."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def overlapping(boxes) -> list[tuple]:
    """Pairs of boxes that share a part."""
    boxes = [(box.x0, box.y0, box.x1, box.y1) for box in boxes]
    pairs = [(one, other) for at, one in enumerate(boxes) for other in boxes[:at]]
    return [
        (one, other)
        for one, other in pairs
        if max(one[0], other[0]) < min(one[2], other[2]) and max(one[1], other[1]) < min(one[3], other[3])
    ]


@pytest.mark.parametrize("name", OWN)
def test_a_picture_is_valid_says_its_numbers_and_has_the_same_bytes_again(grid, name):
    first, second = draw(OWN[name], grid), draw(OWN[name], grid)
    assert first == second and first[".png"].startswith(b"\x89PNG")
    assert titles(first[".svg"]) and b"<dc:date>" not in first[".svg"]
    assert b"tip:" not in first[".svg"] and b"tips:" not in first[".svg"]


def test_all_pictures_of_a_sweep_have_both_formats_and_the_names_of_the_page(grid):
    found = pictures(grid)
    assert list(found) == [name for name in PICTURES if name in found]
    assert all(files.keys() == {".png", ".svg"} for files in found.values())
    assert {"pareto", "forest", "curves", "dropout_x_weight_decay", "similarity"} <= found.keys()


def test_one_run_has_a_curve_and_nothing_to_compare(tmp_path):
    line = made.entry()
    (section,) = written(tmp_path, [line], [made.record(line)])
    assert set(pictures([section])) == {"curves"}


def test_no_finished_run_draws_nothing(tmp_path):
    line = made.entry()
    assert pictures(written(tmp_path, [line], [made.unfinished(line, "failed", "boom")])) == {}


def test_a_record_without_curves_or_counts_draws_what_there_is(tmp_path):
    lines = [made.entry(tying) for tying in ("none", "cross_layer")]
    bare = [made.record(line, curves=None, num_params=None, num_params_untied=None) for line in lines]
    assert set(pictures(written(tmp_path, lines, bare))) == {"forest"}
    assert set(pictures(written(tmp_path, lines, bare, map(made.cost, lines)))) == {"forest", "pareto"}


def test_holes_failed_runs_and_single_seeds_draw_without_a_warning(tmp_path):
    lines, records, costs = made.grid(TASK, seeds=(1, 2))
    line_of = {line["id"]: line for line in lines}
    for at in range(0, len(records), 3):
        records[at] = made.unfinished(line_of[records[at]["id"]], "failed", """a <b> & "c" 'd'""")
    found = written(tmp_path, lines, [record for at, record in enumerate(records) if at % 7], costs)
    files = pictures(found)
    assert {"pareto", "forest", "curves", "dropout_x_weight_decay"} <= files.keys()
    assert any("""a <b> & "c" 'd'""" in title for title in titles(files["forest"][".svg"]))


def test_a_tying_has_its_colour_and_shares_no_marker_within_its_family(tmp_path):
    lines = [
        made.entry(tying) for tying in ("none", "top_k(k=2)", "top_k(k=3)", "soft", "embedding+top_k(k=2)")
    ]
    found = styles(written(tmp_path, lines, [made.record(line) for line in lines]))
    assert found["top_k(k=2)"][0] == METHODS["top_k"].colour
    assert all(one != other for one, other in zip(found["top_k(k=2)"], found["top_k(k=3)"], strict=True))
    assert len({colour for colour, _, _ in found.values()}) == len(lines)


@pytest.mark.parametrize("family", [name for name in METHODS if name != "none"])
def test_a_family_goes_from_its_colour_to_lighter_shades_that_are_seen_on_white(family):
    specs = {str(at): TyingSpec((Part(family),)) for at in range(5)}
    shades = [lightness(colour) for colour, _, _ in looks_of(specs).values()]
    assert looks_of(specs)["0"][0] == colours(specs.values())[family] != OTHER
    assert shades == sorted(shades) and max(shades) < max(0.8, shades[0] + 0.01)
    assert len(set(shades)) == 5 or shades[0] > 0.7
    assert all(lightness(readable(colour)) < 0.5 for colour, _, _ in looks_of(specs).values())


def test_methods_without_a_colour_of_their_own_are_told_apart_in_a_picture():
    names = [name for name, method in METHODS.items() if method.colour == OTHER][: len(SPARE)]
    looks = looks_of({name: made.spec_of(name) for name in names})
    assert len({colour for colour, _, _ in looks.values()}) == len(names) and len(names) > 4


@pytest.mark.parametrize("picture", [pareto, forest, curves])
def test_a_tying_has_the_same_colour_in_every_picture(many, picture):
    seen = {}
    for axes in picture(many).axes:
        for line in axes.get_lines():
            if line.get_gid():
                named = re.match(r"tips?:(.*?), dropout", line.get_gid())[1]
                seen.setdefault(named, set()).add(to_hex(line.get_color()).upper())
    assert seen.keys() == set(MANY) - ({"none"} if picture is forest else set())
    looks = styles(many)
    # Grey is what has no name in a crowded picture.
    assert all(inks <= {looks[tying][0], OTHER} for tying, inks in seen.items())
    assert picture is not forest or OTHER not in set().union(*seen.values())


# Hover.

TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)


@settings(max_examples=6, deadline=None)
@given(st.lists(TEXT | st.sampled_from(["a\nb", "<&\"'>", "]]>", "</title>"]), min_size=3, max_size=3))
def test_a_hover_text_is_read_as_it_was_written(said):
    def figure() -> Figure:
        made = Figure(figsize=(2, 1))
        axes = made.add_axes((0.1, 0.1, 0.8, 0.8))
        tip(axes.plot([0, 1], [0, 1])[0], said[0])
        tips(axes.plot([0.2, 0.8], [0.5, 0.5], "o")[0], said[1:])
        return made

    svg = draw(figure)[".svg"]
    assert titles(svg) == said
    assert b'<g id="' not in svg


def test_every_square_of_a_scatter_says_its_own():
    for count in (2, 30):

        def figure(count=count) -> Figure:
            made = Figure(figsize=(4, 1))
            axes = made.add_axes((0, 0, 1, 1), xlim=(-1, count))
            faces = [(at / count, 0, 0, 1) for at in range(count)]
            tips(axes.scatter(range(count), [0] * count, c=faces, marker="s"), map(str, range(count)))
            return made

        assert titles(draw(figure)[".svg"]) == [str(at) for at in range(count)]


# Pareto.


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(MANY)), min_size=1, max_size=14))
def test_labels_never_overlap_and_stay_in_the_panel(points):
    figure = Figure(figsize=(5, 6.5))
    axes = figure.add_axes((0.15, 0.1, 0.8, 0.85), xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
    bars = [(x, y - 0.1, x, y + 0.1) for x, y, _ in points]
    labels = [Label(x, y, text.replace("(", "\n("), "#000000") for x, y, text in points]
    made = annotate(axes, labels, bars)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in made]
    assert overlapping(boxes) == []
    panel = axes.bbox
    assert all(box.x0 >= panel.x0 - 1 and box.x1 <= panel.x1 + 1 for box in boxes)
    assert all(box.y0 >= panel.y0 - 1 and box.y1 <= panel.y1 + 1 for box in boxes)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_points_whose_marks_lie_on_each_other_are_one_group(points):
    axes = Figure(figsize=(1, 1), dpi=100).add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1))
    groups = coinciding(axes, points)
    assert sorted(at for group in groups for at in group) == list(range(len(points)))
    for one, other in itertools.combinations(range(len(points)), 2):
        apart = 100 * math.dist(points[one], points[other])
        are_one = any({one, other} <= set(group) for group in groups)
        assert not (are_one and apart > 2 * MARK + 1e-6)
        assert are_one or apart > 0


def test_tyings_at_one_point_have_one_label(tmp_path):
    alike = ("none", *(f"soft(strength={value})" for value in (1e-6, 1e-5, 1e-4)))
    lines, records = [], []
    for tying, value in [(tying, 100.0) for tying in alike] + [("cross_layer", 120.0)]:
        line = made.entry(tying)
        lines.append(line)
        records.append(made.record(line, value))
    (axes,) = pareto(written(tmp_path, lines, records)).axes
    labels = [text.get_text() for text in axes.texts]
    assert len(labels) == 2 and "cross_layer" in labels
    assert set("\n".join(labels).split("\n")) == {*alike, "cross_layer"}


FEW = MANY[:5] + MANY[-3:]


@pytest.mark.parametrize("dpi", [100, 110])
def test_every_tying_is_labelled_in_every_panel_and_no_two_labels_overlap(tmp_path, dpi):
    figure = pareto(grid_of(tmp_path, tyings=FEW, dropouts=(0.0,)))
    figure.set_dpi(dpi)
    renderer = FigureCanvasAgg(figure).get_renderer()
    assert len(figure.axes) == 3 and not figure.legends
    for axes in figure.axes:
        written = "\n".join(text.get_text() for text in axes.texts)
        whole = re.sub(r"\n(?=[(\[+])", "", written.replace(",\n", ", "))  # names that stand on two lines
        assert Counter(whole.split("\n")) == Counter(FEW)
        assert overlapping(text.get_window_extent(renderer) for text in axes.texts) == []


def test_of_more_tyings_the_front_the_best_the_worst_and_none_are_named(many):
    figure = pareto(many)
    (section,), (axes, *_) = many, figure.axes
    values = {tying: section.chosen(tying).interval().mean for tying in MANY if section.chosen(tying)}
    best, worst = min(values, key=values.get), max(values, key=values.get)
    named = {text.replace("\n", "").replace(",", ", ").replace(",  ", ", ") for text in texts(figure)}
    assert {"none", best, worst} <= named < set(MANY) and not figure.legends
    assert "Grey: the other tyings" in notes(figure) and best in axes.get_title(loc="left")


@pytest.mark.parametrize(("alike", "said"), [(1, ""), (2, " and 1 other"), (3, " and 2 others")])
def test_of_tyings_with_as_few_parameters_the_best_is_named_and_the_others_are_counted(tmp_path, alike, said):
    lines = [made.entry(tying) for tying in ("none", *(f"top_k(k={k})" for k in range(2, 2 + alike)))]
    counts = [made.UNTIED] + [made.UNTIED // 2] * alike
    records = [
        made.record(line, value=100.0 + k, num_params=count)
        for k, (line, count) in enumerate(zip(lines, counts, strict=True))
    ]
    (axes,) = pareto(written(tmp_path, lines, records)).axes
    title = " ".join(axes.get_title(loc="left").split())
    assert f"fewest parameters: top_k(k=2){said} (50 % of untied); best perplexity: none" in title


def test_times_of_a_busy_machine_are_marked(tmp_path, grid):
    lines, records, costs = made.grid(TASK, seeds=(1,))
    costs[0]["suspect"] = ["another process had the processor for 40% of the time"]
    busy, quiet = pareto(written(tmp_path, lines, records, costs)), pareto(grid)
    assert [axes.get_xlabel().endswith("(?)") for axes in busy.axes] == [False, False, True]
    assert "other processes" in notes(busy) and "(?)" not in notes(quiet) + quiet.axes[2].get_xlabel()


def test_times_of_too_few_turns_are_marked(tmp_path):
    lines, records, costs = made.grid(TASK, seeds=(1,))
    costs[0]["latency"]["batch"] |= {"low": None, "high": None, "turns": 1}
    figure = pareto(written(tmp_path, lines, records, costs))
    assert [axes.get_xlabel().endswith("(?)") for axes in figure.axes] == [False, False, True]
    assert "too few turns" in notes(figure)


def test_what_is_not_measured_has_no_panel(tmp_path):
    lines, records, costs = made.grid(TASK, seeds=(1,))
    assert len(pareto(written(tmp_path / "a", lines, records)).axes) == 1
    assert (
        len(pareto(written(tmp_path / "b", lines, records, [c | {"latency": {}} for c in costs])).axes) == 2
    )
    assert len(pareto(written(tmp_path / "c", lines, records, costs)).axes) == 3


def test_a_point_stands_at_its_own_cost_and_of_equal_costs_the_best_has_its_interval(grid):
    (section,), (axes, *_) = grid, pareto(grid).axes
    marks = [line for line in axes.get_lines() if (line.get_gid() or "").startswith("tip:")]
    said = {mark.get_gid()[4:].split(",")[0]: mark for mark in marks}
    (intervals,) = [c for c in axes.collections if c.get_linewidths() == [2]]
    bars = [bar for bar in intervals.get_segments() if bar[0][0] == bar[1][0]]
    at_cost = {}
    for tying in made.TYINGS:
        cell = section.chosen(tying)
        value, cost = cell.interval(), cell.count("num_params")
        assert said[tying].get_ydata()[0] == value.mean and said[tying].get_xdata()[0] == cost
        at_cost.setdefault(cost, []).append(value)
    assert len(at_cost) < len(made.TYINGS) and len(bars) == len(at_cost)
    for cost, values in at_cost.items():
        best = min(values, key=lambda value: value.mean)
        assert any(np.allclose(bar, [(cost, best.low), (cost, best.high)]) for bar in bars)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=9),
    st.sampled_from(["min", "max"]),
)
def test_the_front_beats_all_others_and_none_of_itself(given_points, mode):
    points = [
        Point(str(at), SimpleNamespace(), x, Interval(y, None, None, 1), None)
        for at, (x, y) in enumerate(given_points)
    ]
    sign = 1 if mode == "min" else -1

    def beats(one: Point, other: Point) -> bool:
        ours, theirs = (one.cost, sign * one.value.mean), (other.cost, sign * other.value.mean)
        return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]

    best = front(points, mode)
    assert not any(beats(one, other) for one in points for other in best)
    for point in points:
        alike = any((o.cost, o.value.mean) == (point.cost, point.value.mean) for o in best)
        assert alike or any(beats(one, point) for one in best)


def test_more_sections_than_a_picture_holds_are_said_to_be_left_out(tmp_path):
    lines, records = [], []
    for width in range(MOST + 2):
        for tying in ("none", "cross_layer"):
            line = made.entry(tying)
            line |= {"id": f"{line['id']}-{width}", "cell": f"{line['cell']}-{width}"}
            lines.append(line)
            records.append(made.record(line, config={"model": {"width": width}}))
    found = written(tmp_path, lines, records)
    for picture in (pareto, curves, forest):
        figure = picture(found)
        assert len(figure.axes) == MOST
        assert f"The first {MOST} of {MOST + 2} settings" in notes(figure)


# Learning curves.


def test_every_line_is_named_once_at_its_end_and_no_two_names_overlap(grid):
    figure = curves(grid)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert sorted(text.get_text().replace("\n", "") for text in axes.texts) == sorted(made.TYINGS)
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines that lead there
    assert overlapping(boxes) == [] and not figure.legends
    assert all(box.x0 > axes.bbox.x1 and box.x1 < figure.bbox.x1 for box in boxes)


def test_a_curve_is_the_mean_over_seeds_of_the_epochs_all_have(tmp_path):
    lines = [made.entry(seed=seed) for seed in (1, 2)]
    losses = ([5.0, 3.0, 2.0], [7.0, math.nan])
    records = [
        made.record(line, curves={"epoch": list(range(len(loss))), "val_nll": loss})
        for line, loss in zip(lines, losses, strict=True)
    ]
    (section,) = written(tmp_path, lines, records)
    found = curve(section.cells[0])
    # Of 5 and 7 the mean is 6 +- 12.706 / sqrt(2) * sd, and sd is sqrt(2).
    assert found.keys() == {0} and found[0].mean == 6
    assert found[0].high == pytest.approx(18.706, abs=1e-3)


def test_curves_have_a_band_only_where_there_are_seeds_and_say_what_it_is(tmp_path):
    lines = [made.entry(seed=1), made.entry(seed=2), made.entry("cross_layer", seed=1)]
    figure = curves(
        written(tmp_path / "two", lines, [made.record(line, 90.0 + line["seed"]) for line in lines])
    )
    (band,) = figure.axes[0].collections
    assert to_hex(band.get_facecolor()[0]) == METHODS["none"].colour
    assert "95 % interval" in notes(figure)
    figure = curves(written(tmp_path / "one", lines[:1], [made.record(lines[0])]))
    assert not figure.axes[0].collections and "interval" not in notes(figure)


def test_bands_that_would_hide_the_lines_are_left_out(tmp_path):
    tyings = ["none", *(f"top_k(k={k})" for k in range(2, 10))]
    for drawn, bands in ((tyings[:BANDS], BANDS), (tyings[: BANDS + 1], 0)):
        lines = [made.entry(tying, seed=seed) for tying in drawn for seed in (1, 2)]
        records = [made.record(line, 90.0 + line["seed"]) for line in lines]
        figure = curves(written(tmp_path / str(bands), lines, records))
        shaded = [area for area in figure.axes[0].collections if isinstance(area, PolyCollection)]
        bars = [area for area in figure.axes[0].collections if isinstance(area, LineCollection)]
        assert len(shaded) == bands and len(bars) == (0 if bands else BANDS + 1)
        assert ("are left out" in notes(figure)) == (bands == 0)
        places = [bar.get_segments()[0] for bar in bars]
        assert len({place[0][0] for place in places}) == len(bars)
        ends = [line.get_xdata()[-1] for line in figure.axes[0].get_lines()]
        assert all(place[0][0] == place[1][0] > max(ends) for place in places)
        assert all(place[0][1] < place[1][1] for place in places)


# Forest.


def test_a_forest_has_a_row_per_cell_with_its_paired_difference_and_verdict(tmp_path):
    lines, records = made.pair(0.80, 0.81, 0.82, 0.83, 0.84, task="image_cnn")
    worse, fewer = made.pair(0.70, 0.71, 0.72, 0.73, 0.745, tying="cross_layer", task="image_cnn")
    figure = forest(written(tmp_path, lines + worse, records + fewer))
    (dots,) = [line for line in figure.axes[0].get_lines() if (line.get_gid() or "").startswith("tips:")]
    # -10 four times and -9.5 once, in percent.
    assert dots.get_xdata() == pytest.approx([-9.9])
    assert texts(figure) == ["cross_layer", "worse at this rate, a hint"]
    assert "◀ worse" in figure.axes[0].get_xlabel() and "% minus that of none" in figure.axes[0].get_xlabel()


def test_one_seed_is_hollow_and_has_no_bar_and_a_hole_says_why(tmp_path):
    lines = [made.entry(tying, dropout) for tying in ("none", "cross_layer") for dropout in (0.0, 0.2)]
    records = [made.record(line, 90.0 + at) for at, line in enumerate(lines)]
    records[3] = made.unfinished(lines[3], "diverged", "loss is nan")
    figure = forest(written(tmp_path, lines, records))
    (dots,) = [line for line in figure.axes[0].get_lines() if (line.get_gid() or "").startswith("tips:")]
    assert (
        list(dots.get_xdata()) == pytest.approx([100 * (92 / 90 - 1)])
        and dots.get_markerfacecolor() == "white"
    )
    assert not any(c.get_paths() and len(c.get_paths()[0]) == 2 for c in figure.axes[0].collections)
    assert {"too few seeds", "1 diverged"} <= set(texts(figure))
    assert "Hollow: one seed" in notes(figure)


def test_the_title_of_a_forest_counts_rows_without_a_number_by_why(tmp_path):
    """A row's own text says how many of its runs lack a number; among rows that count would be read as another."""
    lines = [made.entry(tying, 0.0) for tying in ("none", "cross_layer")]
    lost = [made.entry("cross_layer", 0.2, seed=seed) for seed in (1, 2, 3)]
    gone = [made.unfinished(line, "diverged", "loss is nan") for line in lost]
    figure = forest(written(tmp_path, lines + lost, [*map(made.record, lines), *gone]))
    assert "3 diverged" in texts(figure)
    assert "1 too few seeds, 1 diverged" in " ".join(figure.axes[0].get_title(loc="left").split())


def test_a_bar_that_runs_on_ends_in_an_arrowhead(tmp_path):
    lines, records = made.pair(100.0, 100.0)
    more, wide = made.pair(100.0, 102.0, tying="cross_layer")
    figure = forest(written(tmp_path, lines + more, records + wide))
    assert {line.get_marker() for line in figure.axes[0].get_lines()} >= {"<", ">"}


# Maps.


def test_heat_maps_show_every_number_and_name_what_they_leave_out(tmp_path):
    lines, records, costs = made.grid({"image_cnn": "digits"}, seeds=(1,), dropouts=(0.0, 0.5), decays=(0.0,))
    records = [record for record in records if not (record["tying"] == "none" and record["dropout"] == 0.5)]
    figure = heat_maps(written(tmp_path, lines, records, costs))
    said = texts(figure)
    assert said.count(HOLE) == 1
    assert f"{100 * (0.97 - 0.1 * 0.01):.2f}" in said
    assert any("Not shown: embedding: n/a: no input embedding" in text for text in said)
    assert [tying for tying in made.TYINGS if tying in said] == [t for t in made.TYINGS if t != "embedding"]


def test_a_grid_of_one_cell_is_no_heat_map(tmp_path):
    assert heat_maps(grid_of(tmp_path, dropouts=(0.2,), decays=(0.5,))) is None


def test_similarity_is_the_mean_over_seeds_of_what_all_have_on_one_scale(tmp_path):
    lines = [made.entry(seed=seed) for seed in (1, 2)]
    matrices = ([[1.0, 0.25], [0.25, 1.0]], [[1.0, 0.75], [None, 1.0]])
    records = [made.record(line, similarity=each) for line, each in zip(lines, matrices, strict=True)]
    found = written(tmp_path, lines, records)
    mean, n = cosines(found[0].cells[0])
    assert n == 2 and mean[0].tolist() == [1.0, 0.5] and math.isnan(mean[1, 0])
    figure = similarity(found)
    assert {"1.00", "0.50"} <= set(texts(figure))
    assert figure.axes[1].get_ylim() == (-1, 1)


def test_seeds_of_unlike_depth_have_no_similarity(tmp_path):
    lines = [made.entry(seed=seed) for seed in (1, 2)]
    matrices = ([[1.0]], [[1.0, 0.5], [0.5, 1.0]])
    records = [made.record(line, similarity=each) for line, each in zip(lines, matrices, strict=True)]
    assert similarity(written(tmp_path, lines, records)) is None


# The package.


def test_naming_the_pictures_loads_no_matplotlib_and_every_name_is_there():
    code = "import sys, bench.report.plots.pictures; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
    for place in PICTURES.values():
        module, function = place.split(":")
        assert callable(getattr(import_module(module), function))


def test_a_title_of_many_lines_leaves_room_for_the_plot():
    figure, (axes,) = panels(["model.key=value, " * 60], None, (), 2, (5.0, 1.2), MARGINS)
    assert axes.get_title(loc="left").count("\n") > 10
    assert axes.get_position().height * figure.get_size_inches()[1] >= 1
