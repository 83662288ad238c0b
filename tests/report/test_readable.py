"""What a reader of a picture relies on: one scale in a row, round ticks, whole sentences, no empty axes."""

import re
from pathlib import Path

import pytest
import record_maker as made
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.analysis.groups import Section, sections
from bench.analysis.prediction import DECAY, TOKENS
from bench.analysis.runs import read_sweep
from bench.analysis.statistics import Interval
from bench.report.plots.curves import curves
from bench.report.plots.forest import forest
from bench.report.plots.interactions import interactions
from bench.report.plots.map import MARGINS, SIZE, _label
from bench.report.plots.pareto import MEASURES, Point, _barred, pareto
from bench.report.plots.pictures import pictures
from bench.report.plots.scaling import doses
from bench.report.plots.style import STYLE, left_out, panels

TASK = {"text_gru": "pydocs"}
SUFFIXES = {"k": 1e3, "M": 1e6}


def written(folder: Path, lines, records, costs=()) -> list[Section]:
    made.write_sweep(folder / "runs", lines, records, costs)
    return sections(read_sweep(folder / "runs", "quick")[0])


def inches(axes: Axes) -> tuple[float, float]:
    """The lower and the upper end of a plot."""
    box, height = axes.get_position(), axes.figure.get_size_inches()[1]
    return box.y0 * height, box.y1 * height


def number(label: str) -> float:
    text = label.replace("−", "-").replace(",", "")
    return float(text.rstrip("kM")) * SUFFIXES.get(text[-1], 1)


@pytest.mark.parametrize("picture", [pareto, curves, forest])
def test_ticks_are_round_and_say_where_they_stand(tmp_path, picture):
    figure = picture(written(tmp_path, *made.grid(TASK, seeds=(1, 2, 3))))
    FigureCanvasAgg(figure).draw()
    every = [
        axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if len(axis.get_majorticklocs())
    ]
    assert len(every) >= len(figure.axes)
    for axis in every:
        places, labels = axis.get_majorticklocs(), [label.get_text() for label in axis.get_ticklabels()]
        assert [number(label) for label in filter(None, labels)] in ([], pytest.approx(places, abs=1e-9))
        assert re.match(r"[125]\.000e", f"{places[1] - places[0]:.3e}")


def test_no_text_of_an_svg_has_spaces_that_a_browser_makes_one(tmp_path):
    drawn = pictures(written(tmp_path, *made.grid(TASK)))
    assert {"pareto", "forest", "curves", "interactions"} <= drawn.keys()
    for files in drawn.values():
        texts = re.findall(r"<t(?:ext|span)\b[^>]*>([^<]+)<", files[".svg"].decode())
        assert len(texts) > 5 and not [text for text in texts if "  " in text.strip("\n")]


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 9), st.floats(0.2, 9))
def test_the_ticks_of_a_map_are_round_on_the_scale_that_people_read(low, span):
    axes = Figure().add_subplot(xlim=(-0.05, low + span), ylim=(low, low + span))
    _label(axes, (DECAY, DECAY))
    FigureCanvasAgg(axes.figure).draw()
    for axis in (axes.xaxis, axes.yaxis):
        read = [DECAY.shown(place) for place in axis.get_majorticklocs()]
        assert len(read) > 1
        assert [number(label.get_text()) for label in axis.get_ticklabels()] == pytest.approx(read, abs=0.02)
        assert re.match(r"[125]\.0", f"{read[1] - read[0]:.1e}")


def test_the_name_and_the_ticks_of_an_axis_of_a_map_lie_within_the_picture():
    with rc_context(STYLE):
        figure, (axes,) = panels(["a map"], None, (), 1, SIZE, MARGINS)
        axes.set(xlim=(4, 5.7), ylim=(4, 5.7))  # 10,000 to 500,000
        _label(axes, (TOKENS, TOKENS))
        FigureCanvasAgg(figure).draw()
    box = axes.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0


def test_the_panels_of_a_row_have_one_scale_although_few_tyings_have_a_cost(tmp_path):
    lines, records, costs = made.grid(TASK, dropouts=(0.0,), decays=(0.0,))
    figure = pareto(written(tmp_path, lines, records, costs[:2]))
    assert len(figure.axes) == len(MEASURES)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    marks = [
        {line.get_gid().split(",")[0]: line.get_ydata()[0] for line in axes.get_lines() if line.get_gid()}
        for axes in figure.axes
    ]
    assert marks[1] == marks[2] and 0 < len(marks[1]) < len(marks[0])
    assert marks[1].items() <= marks[0].items()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=8))
def test_an_interval_is_left_out_only_under_one_that_it_overlaps(given_points):
    points = [
        Point(str(at), None, 100.0 * cost, Interval(value, value - half, value + half, 3), None)
        for at, (cost, value, half) in enumerate(given_points)
    ]
    drawn = _barred(points, "min")

    def overlap(one: Point, other: Point) -> bool:
        shared = max(one.value.low, other.value.low) <= min(one.value.high, other.value.high)
        return one.cost == other.cost and shared

    assert all(any(overlap(point, other) for other in drawn) for point in points)
    assert not any(overlap(one, other) for one in drawn for other in drawn if one is not other)


def test_rows_of_panels_have_each_their_height_and_do_not_meet():
    figure, all_axes = panels(
        ["a", "b " * 80, "c"], None, ("note",), 1, (4.0, 9.9), (1.0, 0.2, 0.7, 0.4), [2.5, 4.0, 3.0]
    )
    ends = [inches(axes) for axes in all_axes]
    heights = [high - low for low, high in ends]
    assert heights == pytest.approx([1.4, 2.9, 1.9])  # however long their titles
    assert all(upper[0] - lower[1] >= 1.1 - 1e-9 for upper, lower in zip(ends, ends[1:], strict=False))
    FigureCanvasAgg(figure).draw()
    tops = [axes.get_tightbbox().y1 / figure.dpi for axes in all_axes]
    assert all(top <= above[0] for top, above in zip(tops[1:], ends, strict=False))
    assert tops[0] <= figure.get_size_inches()[1]


def test_a_number_and_its_percent_sign_stay_on_one_line():
    for width in range(30, 80):
        text = "changes by +20.1 % of it " * 4
        figure, (axes,) = panels([text], None, (text,), 1, (width / 10, 3.0))
        texts = [axes.get_title(loc="left"), *(line.get_text() for line in figure.texts)]
        assert len(texts) > 1 and not any(re.search(r"(^|\n)%", text) for text in texts)


def test_a_difference_that_nobody_can_take_has_no_axes(tmp_path):
    lines, records = [], []
    for width in (8, 16):
        line = made.entry("cross_layer")
        line |= {"id": f"{line['id']}-{width}", "cell": f"{line['cell']}-{width}"}
        lines.append(line)
        records.append(made.record(line, 90.0 + width, config={"model": {"width": width}}))
    metric, difference = doses(written(tmp_path, lines, records)).axes
    assert metric.axison and not difference.axison
    assert [text.get_text() for text in difference.texts] == ["no seed in common with none"]


def test_tyings_that_are_left_out_for_one_reason_share_it(tmp_path):
    tyings = ("none", "embedding", "embedding, control=params", "cross_layer")
    lines = [made.entry(tying) for tying in tyings]
    records = [
        made.record(line) if line["tying"] == "none" else made.unfinished(line, "failed", line["tying"][:5])
        for line in lines
    ]
    assert left_out(written(tmp_path, lines, records)) == (
        "Not shown: embedding and embedding, control=params: failed: embed; cross_layer: failed: cross."
    )


def test_the_axis_of_a_loss_has_nothing_below_0(tmp_path):
    lines = [made.entry(seed=seed) for seed in (1, 2)]
    losses = ([0.5, 0.1, 0.02], [0.9, 0.3, 0.01])
    records = [
        made.record(line, curves={"epoch": [1, 2, 3], "val_nll": loss})
        for line, loss in zip(lines, losses, strict=True)
    ]
    (axes,) = curves(written(tmp_path, lines, records)).axes
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 0.7


def test_an_interval_beyond_every_share_stretches_no_axis(tmp_path):
    lines, records = made.pair(0.999, 0.7, task="image_cnn")
    tied, others = made.pair(0.6, 0.62, tying="cross_layer", task="image_cnn")
    (axes,) = pareto(written(tmp_path, lines + tied, records + others)).axes
    low, high = axes.get_ylim()
    assert 85 < high < 110 and -10 < low < 60


def test_lines_of_an_interaction_stand_apart_and_near_their_level(tmp_path):
    figure: Figure = interactions(written(tmp_path, *made.grid(TASK, decays=(0.0,))))
    starts = sorted(
        line.get_xdata()[0]
        for line in figure.axes[0].get_lines()
        if (line.get_gid() or "").startswith("tips:")
    )
    assert len(set(starts)) == len(starts) == len(made.TYINGS)
    assert starts[0] == pytest.approx(-starts[-1]) and starts[-1] < 0.15
