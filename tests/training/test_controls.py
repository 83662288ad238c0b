"""Controls: an untied network of a tied one's size, and a tied one of the untied one's size."""

import functools

import pytest
import record_maker as made
import torch
from cell_maker import made as composed
from grid import CELLS, ROWS, TASKS, applies
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.frame import rows
from bench.analysis.groups import CLOSE, control_note, place, sections
from bench.analysis.runs import read_sweep
from bench.config.run_config import _hashed
from bench.runs.identity import identity
from bench.runs.worker import DoesNotApply
from bench.sweep.dry_run import report
from bench.sweep.prerequisites import candidates
from bench.sweep.run_or_load import ensure_cost, ensure_run
from bench.training import build
from bench.training.build import controlled, nearest, num_params, untied
from bench.training.cost import build_side
from bench.tying.errors import BadInput

KINDS = ("params", "respend")
HARD = [pair for pair in CELLS if applies(*pair) and pair[1] != "none" and "soft" not in pair[1]] + ROWS
both = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def shapes(cell, task):
    return build.data_module(cell(task).config).shapes


@functools.cache
def counts(cell, task, tying):
    """(parameters of the tied network, of the untied one)"""
    config = cell(task, tying).config
    return num_params(config, shapes(cell, task)), num_params(untied(config), shapes(cell, task))


def sizes(cell, task, tying, kind, *more):
    """(the sized config, what records say of it)"""
    return controlled({**cell(task, tying, *more).config, "control": kind}, shapes(cell, task))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(-10, 600), st.integers(1, 5))
def test_the_nearest_is_the_nearest(rises, target, step):
    numbers = range(step, step * (len(rises) + 1), step)
    count = {number: sum(rises[: at + 1]) for at, number in enumerate(numbers)}.__getitem__
    number = nearest(numbers, target, count)
    assert number == min(numbers, key=lambda number: (abs(count(number) - target), number))


@both
@pytest.mark.parametrize(("task", "tying"), HARD)
def test_a_control_has_the_parameters_of_the_other_or_says_so(cell, task, tying, kind):
    config = cell(task, tying).config
    tied, plain = counts(cell, task, tying)
    sized, size = sizes(cell, task, tying, kind)
    model = build.network(sized, shapes(cell, task), 0.0)
    assert build.tie(sized, model, build.plan_for(sized, model)) >= size["num_params"]
    assert sum(p.numel() for p in model.parameters()) == size["num_params"]
    assert size["target_params"] == {"params": tied, "respend": plain}[kind]
    assert (size["ratio"], size["untied_params"]) == (size["num_params"] / size["target_params"], plain)
    assert sized["model"]["depth"] == config["model"]["depth"]
    assert sized["tying"]["parts"] == (config["tying"]["parts"] if kind == "respend" else {})
    smaller = size["width"] < config["model"]["width"]
    assert smaller == (kind == "params") or size["width"] == config["model"]["width"]
    note = control_note({"tying": tying, "control": size})
    assert f"{size['ratio']:.3f}x the parameters of" in note
    assert ("the nearest there is" in note) == (abs(size["ratio"] - 1) > CLOSE)


@both
@pytest.mark.parametrize("task", TASKS)
def test_no_other_width_is_nearer(cell, task, kind):
    """Of widths at the network's own ratio, then of feed-forward widths from half to twice its own."""
    sized, size = sizes(cell, task, "cross_layer", kind)

    def miss(width, feed_forward=None):
        other = build._with(
            {**cell(task, "cross_layer").config, "tying": sized["tying"]}, width, feed_forward
        )
        return abs(num_params(other, shapes(cell, task)) - size["target_params"])

    step = sized["model"].get("heads", 1)
    widths = range(step, 33, step)
    assert miss(size["width"]) == min(map(miss, widths))
    if size["feed_forward"] is None:
        assert "feed_forward" not in sized["model"]
        return
    own = build.network({**sized, "model": {**sized["model"], "feed_forward": None}}, shapes(cell, task), 0.0)
    low, high, width = -(-own.feed_forward // 2), 2 * own.feed_forward, size["feed_forward"]
    others = {low, high, *range(low, high, 5), *range(max(low, width - 2), min(high, width + 2) + 1)}
    assert low <= width <= high
    assert min(miss(size["width"], number) for number in others) == miss(size["width"], width)


@both
@pytest.mark.parametrize(
    ("tying", "more"), [("soft", ()), ("top_k", ("tying.k=1",)), ("soft_decoupled", ("tying.strength=0",))]
)
def test_where_nothing_is_shared_the_control_is_none_itself(cell, kind, tying, more):
    with pytest.raises(DoesNotApply, match="shares no tensor, so its control is `none` itself"):
        sizes(cell, "text_gru", tying, kind, *more)


def test_a_control_does_not_apply_where_its_tying_does_not(cell):
    with pytest.raises(DoesNotApply, match="no input embedding"):
        sizes(cell, "image_cnn", "embedding", "params")


@pytest.mark.parametrize(
    ("task", "tying", "more", "left"),
    [
        ("text_gru", "cross_layer", (), 1),
        ("text_transformer", "albert", (), 1),
        ("text_transformer", "top_k", ("tying.k=3",), 2),
        ("text_gru", "cycle", ("tying.groups=2",), 2),
        ("text_gru", "grouped", (), 2),
        ("image_cnn", "cross_layer", ("model.stages=1",), 1),
        ("image_cnn", "top_k", ("model.stages=1", "tying.k=3"), 4),
    ],
)
def test_delete_leaves_out_the_blocks_that_are_copies_of_others(cell, task, tying, more, left):
    config = cell(task, tying, *more).config
    sized, size = sizes(cell, task, tying, "delete", *more)
    assert (size["kind"], size["depth"], size["width"]) == ("delete", left, config["model"]["width"])
    assert sized["model"] == {**config["model"], "depth": left}
    assert list(sized["tying"]["parts"]) == (["embedding"] if tying == "albert" else [])
    model = build.network(sized, shapes(cell, task), 0.0)
    build.tie(sized, model, build.plan_for(sized, model))
    assert len(model.parts.stack) == left
    assert sum(p.numel() for p in model.parameters()) == size["num_params"] <= size["target_params"]
    assert size["target_params"] == num_params(config, shapes(cell, task))


@pytest.mark.parametrize(
    ("task", "tying", "more", "reason"),
    [
        ("text_gru", "embedding", (), "makes no block a copy of another"),
        ("text_gru", "cross_layer", ("tying.scope=recurrent",), "makes no block a copy of another"),
        ("text_gru", "relaxed", (), "makes no block a copy of another"),
        ("text_gru", "soft", (), "shares no tensor"),
        # Two stages of three: of the first one block is left, of the second the one that halves the image too.
        ("image_cnn", "cross_layer", (), "stages would keep 1 or 2 blocks"),
    ],
)
def test_where_no_block_can_be_left_out_delete_does_not_apply(cell, task, tying, more, reason):
    with pytest.raises(DoesNotApply, match=reason):
        sizes(cell, task, tying, "delete", *more)


def test_a_run_of_delete_is_the_shorter_untied_network(cell):
    tiny = ("trainer.max_steps=3", "trainer.limit_eval_batches=1", "measure.max_seconds=0")
    deleted = ensure_run(cell("text_gru", "cycle", *tiny, "control=delete"))
    shorter = ensure_run(cell("text_gru", "none", *tiny, "model.depth=2"))
    assert deleted["status"] == shorter["status"] == "done"
    assert deleted["tying"] == "cycle(groups=2), control=delete" and deleted["control"]["depth"] == 2
    assert (deleted["test"], deleted["curves"]) == (shorter["test"], shorter["curves"])
    ratio = deleted["num_params"] / deleted["control"]["target_params"]
    assert control_note(deleted) == f"depth 2: {ratio:.3f}x the parameters of cycle(groups=2)"


def test_a_width_that_the_architectures_own_keys_replace_is_refused(cell):
    own = ("+model.config.n_embd=16", "+model.config.n_inner=8")
    with pytest.raises(BadInput, match="which changes no size here"):
        sizes(cell, "text_transformer", "cross_layer", "params", *own)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "gpt_neox"])
def test_other_architectures_have_their_controls(cell, architecture):
    more = (f"model.architecture={architecture}", "trainer.output_precision=null")
    sized, size = sizes(cell, "text_transformer", "cross_layer", "params", *more)
    model = build.network(sized, shapes(cell, "text_transformer"), 0.0)  # reads two tokens, heads fit
    assert sum(p.numel() for p in model.parameters()) == size["num_params"]


def test_a_feed_forward_width_of_ones_own_keeps_its_ratio(cell):
    given_one = cell("text_transformer", "cross_layer", "+model.feed_forward=32").config
    assert build._with(given_one, 8)["model"]["feed_forward"] == 16
    with pytest.raises(BadInput, match="architecture bloom has no feed-forward width"):
        other = ("model.architecture=bloom", "+model.feed_forward=32")
        build.network(cell("text_transformer", "none", *other).config, shapes(cell, "text_transformer"), 0.0)


@both
def test_the_sides_of_its_cost_are_the_sized_network_and_the_untied_one(cell, kind):
    config = cell("image_cnn", "cross_layer", f"control={kind}").config
    data = build.data_module(config)
    sized, size = controlled(config, data.shapes)
    side, twin = (build_side(c, data, torch.device("cpu")) for c in (sized, untied(config)))
    assert (side.num_params, twin.num_params) == (size["num_params"], size["untied_params"])


def test_without_a_control_every_identity_is_what_it_was():
    none = composed("tying=cross_layer")
    assert none.config["control"] is None and "control" not in _hashed(none.config)
    before = {key: value for key, value in none.config.items() if key != "control"}
    assert identity(_hashed(before)) == none.id == composed("tying=cross_layer", "control=null").id


def test_a_control_is_a_run_and_a_cost_of_its_own():
    cells = [composed("tying=cross_layer", f"control={kind}") for kind in ("null", *KINDS)]
    for what in ("id", "group", "cost"):
        assert len({getattr(one, what) for one in cells}) == 3
    assert [one.label for one in cells] == [
        f"cross_layer{more}" for more in ("", *map(", control={}".format, KINDS))
    ]


@both
def test_the_control_of_none_is_none(kind):
    one = composed(f"control={kind}")
    assert one.id == composed().id and one.unused == ("control",) and one.label == "none"
    with pytest.raises(
        BadInput, match="control=foo is not allowed: it must be params, respend, delete or null"
    ):
        composed("control=foo")


@both
def test_the_search_for_a_rate_is_the_controls_own(kind):
    one = composed("tying=cross_layer", f"control={kind}", "lr_search.factors=[1,2]")
    assert {candidate.label for candidate in candidates(one)} == {one.label}


def test_a_dry_run_counts_the_controls_of_none_once():
    cells = [
        composed("sweep.name=mine", f"tying={t}", f"control={c}")
        for t in ("none", "cross_layer")
        for c in ("null", *KINDS)
    ]
    assert "6 cells, 4 runs" in report(cells)


def test_controls_stand_after_their_tying_in_its_family():
    labels = [
        *("none", "cross_layer", "cross_layer, control=params", "cross_layer, control=respend"),
        *("top_k(k=2)", "top_k(k=2), control=params", "top_k(k=10)", "top_k(k=10), control=params"),
        *("embedding+top_k(k=2)", "embedding+top_k(k=2), control=respend"),
    ]
    specs = {label: made.spec_of(label) for label in labels}
    assert sorted(set(labels), key=lambda label: place(specs[label])) == labels
    assert {spec.family for spec in specs.values()} == {"none", "cross_layer", "top_k", "composition"}


def test_tables_have_the_size_of_a_control(tmp_path):
    control = {"kind": "params", "width": 52, "feed_forward": 230, "ratio": 1.0031}
    line, plain = made.entry("cross_layer, control=params"), made.entry("none")
    made.write_sweep(tmp_path, [plain, line], [made.record(plain), made.record(line, control=control)])
    runs, _ = read_sweep(tmp_path, "quick")
    (section,) = sections(runs)
    notes = {cell.tying: cell.control_note for cell in section.cells}
    assert notes == {
        "none": "",
        "cross_layer, control=params": "width 52, feed-forward 230: 1.003x the parameters of cross_layer",
    }
    widths = {row["tying"]: (row["control_width"], row["control_ratio"]) for row in rows(runs)}
    assert widths == {"none": (None, None), "cross_layer, control=params": (52, 1.0031)}


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@both
def test_a_run_and_its_cost_are_those_of_the_control(cell, kind):
    tiny = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_eval_batches=1")
    tiny += ("measure.min_calls=1", "measure.min_seconds=0", "measure.max_seconds=0.01", "measure.cold=false")
    one = cell("text_gru", "cross_layer", *tiny, f"control={kind}")
    record = ensure_run(one)
    assert record["status"] == "done", record["reason"]
    size = sizes(cell, "text_gru", "cross_layer", kind)[1]
    assert record["control"] == size and record["num_params_untied"] == size["untied_params"]
    assert record["num_params"] == size["num_params"]
    assert record["config"] == one.config and record["tying"] == one.label
    assert (record["spread"]["depth"] > 0) == (kind == "params")
    assert ensure_run(one) == record
    if kind == "params":
        cost = ensure_cost(one)
        assert cost["status"] == "done", cost["reason"]
        assert (cost["control"], cost["num_params"]) == (size, size["num_params"])
        assert cost["num_params_untied"] == size["untied_params"]
