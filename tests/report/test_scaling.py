from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
import record_maker as made

from bench.analysis.groups import Section, sections
from bench.analysis.runs import read_sweep
from bench.analysis.scaling import Curve, curves, split
from bench.report.plots.scaling import doses as picture
from bench.report.plots.style import draw
from bench.report.scaling import FLIPS, MAYBE, ONE_SIGN, curve_lines, curve_table
from bench.runs.tying_spec import METHODS

SEEDS = (1, 2, 3)
DEPTH = 6


def written(folder: Path, cases: list[tuple], **given) -> list[Section]:
    """A case: what a manifest line has, what its config has over the usual, the metric, and more of the record."""
    lines, records = [], []
    for line, config, value, *more in cases:
        line = made.entry(**given, **line)
        line["cell"] += repr(sorted(config.items()))
        line["id"] = f"run{len(lines)}"
        config = {"model": {"depth": DEPTH}, "data": {}, "trainer": {}} | config
        lines.append(line)
        records.append(made.record(line, value, config=config, **(more[0] if more else {})))
    made.write_sweep(folder, lines, records)
    return sections(read_sweep(folder, "quick")[0])


def noise(seed: int) -> float:
    return (0.0, 0.1, -0.1, 0.05)[seed]


def over_labels(values: dict[str, float], seeds=SEEDS) -> list[tuple]:
    """A little seed noise that is not the same for any two tyings."""
    return [
        (
            {"tying": tying, "seed": seed},
            {},
            value + noise(seed) * (1 + 0.1 * at),
            {"spread": {"depth": 1 / (at + 1)}},
        )
        for (at, (tying, value)), seed in product(enumerate(values.items()), seeds)
    ]


K = {"none": 100.0, "cross_layer": 110.0, "top_k(k=3)": 98.0, "top_k(k=2)": 97.0, "top_k(k=4)": 104.0}
STRENGTH = {"none": 100.0, "cross_layer": 110.0}
STRENGTH |= {f"soft(strength={s})": v for s, v in (("1e-05", 100.2), ("0.01", 103.0), ("1", 109.0))}
STRENGTH |= {f"soft(strength={s}, decoupled)": v for s, v in (("0.01", 105.0), ("1", 110.0))}


def over_axis(values: dict[tuple, float], **given) -> list[tuple]:
    """(tying, dropout, the axis's settings as (section, key, value) triples) -> metric."""
    cases = []
    for (tying, dropout, *settings), value in values.items():
        config: dict = {"model": {"depth": DEPTH}, "data": {}, "trainer": {}}
        for section, key, setting in settings:
            config[section] = config[section] | {key: setting}
        cases += [
            (
                {"tying": tying, "dropout": dropout, "seed": seed},
                config,
                value + noise(seed) * len(tying) / 10,
                given,
            )
            for seed in SEEDS
        ]
    return cases


def points(curve: Curve, line: str) -> list[tuple[float, float]]:
    return [(x, round(value.mean, 1)) for x, value in curve.lines[line]]


def test_over_k_none_is_one_block_and_cross_layer_is_all(tmp_path):
    (curve,) = curves(written(tmp_path, over_labels(K)))
    assert points(curve, "top_k") == [(1, 100), (2, 97), (3, 98), (4, 104), (DEPTH, 110)]
    assert (curve.name, curve.log, list(curve.marks)) == ("k", False, ["none", "cross_layer"])
    assert [x for x, _ in curve.differences["top_k"]] == [2, 3, 4, DEPTH]


def test_over_groups_cross_layer_is_one_and_none_is_a_group_for_each_block(tmp_path):
    values = {"none": 100.0, "cross_layer": 110.0}
    values |= {"cycle(groups=2)": 105.0, "cycle(groups=3)": 103.0, "sequence(groups=3)": 104.0}
    (curve,) = curves(written(tmp_path, over_labels(values)))
    assert points(curve, "cycle") == [(1, 110), (2, 105), (3, 103), (DEPTH, 100)]
    assert points(curve, "sequence") == [(1, 110), (3, 104), (DEPTH, 100)]
    assert (curve.name, curve.log, list(curve.marks)) == ("groups", False, ["none", "cross_layer"])
    assert [x for x, _ in curve.differences["cycle"]] == [1, 2, 3]


def test_over_strength_the_forms_are_lines_and_the_ends_are_marks(tmp_path):
    (curve,) = curves(written(tmp_path, over_labels(STRENGTH)))
    assert points(curve, "soft") == [(1e-5, 100.2), (0.01, 103), (1, 109)]
    assert points(curve, "soft_decoupled") == [(0.01, 105), (1, 110)]
    assert curve.log and {tying: round(mark.mean) for tying, mark in curve.marks.items()} == {
        "none": 100, "cross_layer": 110,
    }  # fmt: skip
    assert [round(value.mean, 3) for _, value in curve.spread["soft"]] == [round(1 / n, 3) for n in (3, 4, 5)]


@pytest.mark.parametrize(
    ("tying", "name", "found"),
    [
        ("top_k(k=3)", "k", ("top_k", 3)),
        ("embedding+top_k(k=12)", "k", ("embedding+top_k", 12)),
        ("top_k(k=3, scope=all)", "k", ("top_k(scope=all)", 3)),
        ("top_k(fraction=0.5)", "k", None),
        ("soft(strength=1e-05)", "strength", ("soft", 1e-5)),
        ("soft(strength=0.1, decoupled)", "strength", ("soft_decoupled", 0.1)),
        ("soft(strength=0.1, decoupled, init=shared)", "strength", ("soft_decoupled(init=shared)", 0.1)),
        ("soft_embedding(strength=0.1)", "strength", ("soft_embedding", 0.1)),
        ("soft(strength=0)", "strength", None),
        ("soft(strength=inf)", "strength", None),
        ("cross_layer", "strength", None),
    ],
)
def test_labels_are_a_line_and_a_dose(tying, name, found):
    line = split(made.spec_of(tying), name)
    assert (line and (line[0].label, line[1])) == found


def test_what_is_on_top_of_another_tying_starts_from_it(tmp_path):
    values = {"none": 100.0, "embedding": 95.0, "embedding+cross_layer": 108.0}
    values |= {f"embedding+top_k(k={k})": 90.0 + k for k in (2, 3)}
    (curve,) = curves(written(tmp_path, over_labels(values)))
    assert points(curve, "embedding+top_k") == [(1, 95), (2, 92), (3, 93), (DEPTH, 108)]


@pytest.mark.parametrize("values", [{"none": 1.0, "cross_layer": 2.0}, {"none": 1.0, "top_k(k=2)": 2.0}])
def test_one_dose_is_no_curve(tmp_path, values):
    found = written(tmp_path, over_labels(values))
    assert curves(found) == [] and picture(found) is None


def test_the_least_regularised_cells_are_compared(tmp_path):
    cases = over_labels(K)
    cases += [({**line, "dropout": 0.5}, config, 500.0, more) for line, config, _, more in over_labels(K)]
    (curve,) = curves(written(tmp_path, cases))
    assert max(mean for _, mean in points(curve, "top_k")) == 110


def data_size(limit: int | None, epochs: int) -> tuple:
    return ("data", "train_limit", limit), ("trainer", "max_epochs", epochs)


def test_data_size_wins_over_the_epochs_that_move_with_it_and_none_is_the_whole_split(tmp_path):
    meta = {"data_meta": {"fingerprint": "f", "sizes": {"train": 5400}}}
    values = {
        (tying, dropout, *data_size(limit, epochs)): 100 + gain * (1 if limit else -1) + 10 * dropout
        for tying, gain in (("none", 0), ("embedding", -4))
        for dropout in (0.0, 0.5)
        for limit, epochs in ((54, 10), (540, 3), (None, 1))
    }
    (curve,) = curves(written(tmp_path, over_axis(values, **meta)))
    assert (curve.name, curve.axis, curve.log) == ("data", "training tokens", True)
    assert points(curve, "embedding, dropout 0") == [(54, 96), (540, 96), (5400, 104)]
    assert points(curve, "none, dropout 0.5") == [(54, 105), (540, 105), (5400, 105)]
    gaps = [round(gap.mean) for _, gap in curve.differences["embedding, dropout 0.5"]]
    assert gaps == [-4, -4, 4] and set(curve.differences) == {
        "embedding, dropout 0",
        "embedding, dropout 0.5",
    }


def test_epochs_crossed_with_data_size_are_curves_of_their_own(tmp_path):
    values = {
        (tying, 0.0, *data_size(limit, epochs)): 100.0 + epochs + len(tying)
        for tying, limit, epochs in product(("none", "embedding"), (54, 540), (1, 2, 4))
    }
    found = curves(written(tmp_path, over_axis(values)))
    assert [curve.name for curve in found] == ["data"] * 3 + ["budget"] * 2
    assert len({curve.title for curve in found if curve.name == "data"}) == 3
    assert [x for x, _ in found[-1].lines["none"]] == [1, 2, 4]


def test_a_budget_is_in_steps_where_records_have_them(tmp_path):
    cases = []
    for epochs in (1, 8):
        cases += over_axis({("none", 0.0, ("trainer", "max_epochs", epochs)): 100.0}, steps=440 * epochs)
    (curve,) = curves(written(tmp_path, cases))
    assert (curve.axis, [x for x, _ in curve.lines["none"]]) == ("training steps", [440, 3520])


def test_where_nothing_is_tied_the_least_dropout_is_the_baseline_and_controls_are_no_lines(tmp_path):
    values = {
        ("none", dropout, ("model", "width", width)): 100.0 + dropout * width
        for dropout, width in product((0.0, 0.5), (4, 8))
    }
    values |= {("none, control=params", 0.0, ("model", "width", width)): 500.0 for width in (4, 8)}
    (curve,) = curves(written(tmp_path, over_axis(values)))
    assert (curve.name, curve.baseline) == ("width", "none, dropout 0")
    assert list(curve.lines) == ["none, dropout 0", "none, dropout 0.5"]
    assert [(x, round(gap.mean, 2)) for x, gap in curve.differences["none, dropout 0.5"]] == [(4, 2), (8, 4)]


@pytest.mark.parametrize(
    ("gaps", "seeds", "said"),
    [
        ((-5, 5), SEEDS, FLIPS),
        ((-5, -3), SEEDS, ONE_SIGN),
        ((-5, 0.01), SEEDS, MAYBE),
        ((-5, 5), (1,), MAYBE),
    ],
)
def test_a_sign_changes_only_where_both_sides_are_shown(tmp_path, gaps, seeds, said):
    cases = [
        (
            {"tying": tying, "seed": seed},
            {"model": {"width": width}},
            100 + sign * gap + noise(seed) * (1 + sign),
        )
        for width, gap in zip((4, 8), gaps, strict=True)
        for tying, sign in (("none", 0), ("embedding", 1))
        for seed in seeds
    ]
    (curve,) = curves(written(tmp_path, cases))
    table = curve_table(curve)
    assert {row[-1] for row in table.rows if row[0] == "embedding"} == {said}
    assert {row[-1] for row in table.rows if row[0] == "none"} == {"—"}


def test_the_words_say_which_side_is_better(tmp_path):
    for task, side in (("text_gru", "better at 4, worse at 8"), ("image_cnn", "better at 8, worse at 4")):
        cases = [
            (
                {"tying": tying, "seed": seed},
                {"model": {"width": width}},
                0.5 + gap / 10 + noise(seed) / (50 + gap),
            )
            for tying, width, gap in (
                ("none", 4, 0),
                ("none", 8, 0),
                ("embedding", 4, -1),
                ("embedding", 8, 1),
            )
            for seed in SEEDS
        ]
        (curve,) = curves(written(tmp_path / task, cases, task=task))
        assert side in curve_lines(curve)[0]


def test_one_seed_has_no_interval_in_the_table(tmp_path):
    (curve,) = curves(written(tmp_path, over_labels(K, seeds=(1,))))
    table = curve_table(curve)
    assert not any("[" in text for row in table.rows for text in row)


def test_a_share_is_in_percent(tmp_path):
    values = {tying: value / 200 for tying, value in K.items()}
    cases = [(line, config, values[line["tying"]], more) for line, config, _, more in over_labels(K)]
    (curve,) = curves(written(tmp_path, cases, task="image_cnn"))
    assert points(curve, "top_k")[:2] == [(1, 50), (2, 48.5)]
    assert curve.differences["top_k"][0][1].mean == pytest.approx(-1.5)


def test_the_picture_is_the_same_bytes_again_and_shows_each_point_on_hover(tmp_path):
    found = written(tmp_path, over_labels(STRENGTH))
    first, second = draw(picture, found), draw(picture, found)
    assert first == second
    assert ElementTree.fromstring(first[".svg"]).tag.endswith("svg")
    assert first[".svg"].count(b"<title>") == 2 * 5


def test_the_picture_has_the_hard_limit_as_a_line_and_spread_on_an_axis_of_its_own(tmp_path):
    figure = picture(written(tmp_path, over_labels(STRENGTH)))
    metric, difference, spread = figure.axes
    levels = [
        line.get_color()
        for line in metric.lines
        if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert levels == [METHODS["none"].colour, METHODS["cross_layer"].colour]
    assert "spread" in spread.get_ylabel() and "spread" not in metric.get_ylabel() + difference.get_ylabel()


def test_where_copies_have_no_spread_their_panel_says_so_instead_of_empty_axes(tmp_path):
    figure = picture(written(tmp_path, over_labels(K | STRENGTH)))
    spreads = figure.axes[2::3]
    assert [axes.axison for axes in spreads] == [False, True]
    assert [text.get_text() for text in spreads[0].texts] == ["shown over the strength of a soft tie alone"]
