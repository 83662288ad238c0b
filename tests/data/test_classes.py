"""Labels of every type are classes, or are refused in one line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.data.labels import Classes, classes_of
from bench.tying.errors import BadInput


def read(train: list, test: list) -> Classes:
    return classes_of(
        {"train": Dataset.from_dict({"label": train}), "test": Dataset.from_dict({"label": test})}
    )


LABELS = st.integers(0, 4)


@settings(deadline=None)
@given(
    st.lists(LABELS, min_size=1),
    st.lists(LABELS, min_size=1),
    st.sampled_from([str, lambda n: 1_000_000 * n, float, lambda n: n + 1.0, lambda n: n > 2]),
)
def test_classes_are_the_distinct_labels_in_order(train: list[int], test: list[int], kind: Callable) -> None:
    train, test = [kind(label) for label in train], [kind(label) for label in test]
    assume(len({*train, *test}) > 1)
    classes, distinct = read(train, test), sorted({*train, *test})
    assert classes.count == len(distinct)
    assert [distinct[label] for label in classes.labels["train"]] == train
    assert [distinct[label] for label in classes.labels["test"]] == test
    numbered = not isinstance(distinct[0], bool) and distinct == list(range(len(distinct)))
    assert (classes.names is None) == numbered == (not classes.notes)


def test_declared_classes_keep_their_numbers() -> None:
    features = Features({"label": ClassLabel(names=["a", "b", "c", "d"])})
    classes = classes_of({"train": Dataset.from_dict({"label": [3, 1]}, features)})
    assert classes.count == 4 and classes.labels["train"].tolist() == [3, 1] and not classes.notes


def test_the_numbering_is_told() -> None:
    assert read([0, 1_000_000], [0]).notes == ["labels are not 0, 1, 2, ...: 2 classes stand for 0, 1000000"]
    (note,) = read(list("abcdefg"), ["a"]).notes
    assert note.endswith("7 classes stand for a, b, c, d, e, ...")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ([0, None], "the column 'label' holds None, which is none"),
        ([0, -1], "holds -1, which is negative"),
        ([0.0, 0.5], "holds 0.5, which is no whole number"),
        ([0.0, float("nan")], "holds (nan|None), which is no"),
        ([[0, 1], [1, 1]], r"holds \[0, 1\], where one number or text is needed"),
        (["a", None], "holds None"),
    ],
)
def test_labels_that_are_refused(train: list[Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        read(train, train[:1])
    assert "\n" not in str(error.value)


def test_as_many_values_as_rows_are_no_classes() -> None:
    with pytest.raises(BadInput, match="300 different values in 300 examples, which are no classes"):
        read(list(range(0, 400, 2)), list(range(1, 200, 2)))
    assert read(np.arange(200).repeat(2).tolist(), [0]).count == 200


@pytest.mark.parametrize("label", [0, "a", True])
def test_one_label_alone_is_no_classes(label: Any) -> None:
    with pytest.raises(BadInput, match=f"holds {label} alone, and one class leaves nothing to learn"):
        read([label] * 4, [label])


def test_text_and_numbers_do_not_mix() -> None:
    with pytest.raises(BadInput, match="both text and numbers"):
        read([0, 1], ["a"])
