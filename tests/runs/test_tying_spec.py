"""What a run ties, as data: it survives JSON, gives the label, and a record without it gives it back."""

import json
from dataclasses import replace
from itertools import permutations

import pytest
from cell_maker import made
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.groups import place
from bench.runs.tying_spec import METHODS, OTHER, SPARE, Part, TyingSpec, colours, recorded_spec

ASKED = {
    ("tying=none",): "none",
    (
        "tying=cross_layer",
        "tying.scope=[attention,feed_forward]",
    ): "cross_layer(scope=attention/feed_forward)",
    ("tying=cross_layer", "control=params"): "cross_layer, control=params",
    ("tying=top_k", "tying.k=2"): "top_k(k=2)",
    ("tying=bottom_k",): "bottom_k(fraction=0.5)",
    ("tying=relaxed", "tying.groups=2"): "relaxed(groups=2, rank=4)",
    ("tying=grouped", "tying.grouping=[0,1,1,0]", "model.depth=4"): "grouped(grouping=0/1/1/0)",
    ("tying=learned", "tying.shuffle=3"): "learned(groups=3, shuffle=3)",
    ("tying=soft_decoupled", "tying.init=shared"): "soft(strength=0.01, decoupled, init=shared)",
    ("tying=[top_k,embedding]", "tying.k=2", "task=text_gru"): "top_k(k=2)+embedding",
    ("tying=albert", "task=text_transformer"): "embedding+cross_layer",
    ("tying=embedding", "start=untied", "task=text_gru"): "embedding, start=untied",
}


@pytest.mark.parametrize(("overrides", "label"), ASKED.items(), ids=ASKED.values())
def test_a_config_gives_its_label_and_so_does_a_record_that_has_nothing_but_the_config(overrides, label):
    cell = made(*overrides)
    header = json.loads(json.dumps(cell.header(), sort_keys=True))
    assert cell.label == header["tying"] == label
    assert recorded_spec(header) == cell.spec == TyingSpec.from_record(header["spec"])
    config = json.loads(json.dumps(cell.config, sort_keys=True))  # as a record has it: its parts out of order
    assert recorded_spec({"tying": label, "config": config}) == cell.spec


def test_without_a_spec_and_a_config_nothing_is_made_up():
    assert recorded_spec({"tying": "top_k(k=2)"}) is None
    assert recorded_spec({"tying": "top_k(k=2)", "config": {"optimizer": {}}}) is None
    assert TyingSpec.unknown("top_k(k=2)").label == "top_k(k=2)"
    assert not TyingSpec.unknown("none").parts


VALUES = (
    st.integers(0, 9)
    | st.floats(1e-6, 1e3)
    | st.text("abc", min_size=1)
    | st.tuples(st.integers(0, 9), st.integers(0, 9))
)
KEYS = st.dictionaries(st.sampled_from(["k", "groups", "strength", "scope", "form", "mine"]), VALUES)
PARTS = st.builds(
    Part, st.sampled_from([*METHODS, "mine", "yours"]), KEYS.map(lambda keys: tuple(sorted(keys.items())))
)
SPECS = st.builds(
    TyingSpec,
    st.lists(PARTS, max_size=3).map(tuple),
    st.sampled_from([None, "params", "respend"]),
    st.none() | KEYS.filter(bool).map(lambda keys: tuple(sorted(keys.items()))),
)


@given(SPECS)
def test_a_spec_survives_json(spec):
    text = json.dumps(spec.as_record(), sort_keys=True)
    again = TyingSpec.from_record(json.loads(text))
    assert again == spec and hash(again) == hash(spec) and again.label == spec.label


def test_a_method_that_is_not_in_the_table_comes_after_those_that_are_in_a_colour_of_its_own():
    known = [TyingSpec((Part(name),)) for name in METHODS if name != "none"]
    mine, yours = (TyingSpec((Part(name, (("every", 2), ("scope", "all"))),)) for name in ("mine", "yours"))
    both = TyingSpec((known[0].parts[0], mine.parts[0]))
    order = [TyingSpec(), *known, mine, replace(mine, control="params"), yours, both]
    for some in permutations(order, 2):
        assert sorted(some, key=place) == sorted(some, key=order.index)
    assert mine.label == "mine(every=2, scope=all)"
    inks = colours(order)
    assert len(
        {inks["mine"], inks["yours"], OTHER, *(method.colour for method in METHODS.values())}
    ) == 2 + len({OTHER, *(method.colour for method in METHODS.values())})
    assert {inks["mine"], inks["yours"]} <= set(SPARE)


def test_the_table_leads_from_a_method_to_another_that_it_has():
    assert {method.full for method in METHODS.values()} - {None} <= set(METHODS)
    assert all(method.name == name for name, method in METHODS.items())
