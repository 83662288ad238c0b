"""Text with labels: splits that share no phrase, rows of ids, floors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.baselines import naive_bayes_accuracy
from bench.data.encode import words_of
from bench.data.phrases import phrase_free_splits, phrases
from bench.data.prepare import prepare
from bench.data.sources import CLASSES, labelled_lines
from bench.tying.errors import BadInput

TEXTS = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=30
)


def data_of(**splits: list[str]) -> DatasetDict:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {s: {"text": part, "label": [i % 2 for i in range(len(part))]} for s, part in splits.items()}
    return DatasetDict({s: Dataset.from_dict(part, features=features) for s, part in rows.items()})


def is_phrase(part: tuple[str, ...], text: tuple[str, ...]) -> bool:
    """Written out: some place of `text` where `part` stands word for word."""
    return any(text[at : at + len(part)] == part for at in range(len(text) - len(part) + 1))


def assert_no_phrase_is_shared(splits: dict[str, Dataset]) -> None:
    train = [words_of(text) for text in splits["train"]["text"]]
    out = [words_of(text) for split in ("val", "test") for text in splits[split]["text"]]
    assert not [part for part in train if any(is_phrase(part, text) for text in out)]


@settings(deadline=None)
@given(TEXTS, TEXTS, st.integers(0, 3))
def test_no_row_of_train_is_a_phrase_of_a_row_of_val_or_test(
    train: list[str], test: list[str], seed: int
) -> None:
    data = data_of(train=train, test=test)
    try:
        splits, dropped = phrase_free_splits(data, seed, 1)
    except BadInput as error:
        assert "lower data.holdout" in str(error)
        return
    assert_no_phrase_is_shared(splits)
    assert list(splits["test"]["text"]) == test and len(splits["val"]) == 1
    assert len(splits["train"]) + dropped + 1 == len(train)
    whole = words_of(splits["val"]["text"][0])
    assert not [text for text in train if words_of(text) != whole and is_phrase(whole, words_of(text))]


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_phrases_are_those_that_stand_in_a_text_word_for_word(known: list[str], texts: list[str]) -> None:
    parts, whole = {words_of(text) for text in known}, [words_of(text) for text in texts]
    assert phrases(whole, parts) == {part for part in parts if any(is_phrase(part, text) for text in whole)}


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_proper_phrases_stand_in_a_longer_text(known: list[str], texts: list[str]) -> None:
    parts, whole = {words_of(text) for text in known}, [words_of(text) for text in texts]
    longer = {
        part for part in parts if any(len(text) > len(part) and is_phrase(part, text) for text in whole)
    }
    assert phrases(whole, parts, proper=True) == longer


def test_long_rows_are_searched_too() -> None:
    """A million words: with work that grows with the square of a row's length this would not end."""
    rng = np.random.default_rng(0)
    texts = [tuple(map(str, rng.integers(0, 4000, 20_000))) for _ in range(50)]
    known = {*texts, *(text[100:15_000] for text in texts[::2]), ("4000", "1")}
    assert phrases(texts, known, proper=True) == {text[100:15_000] for text in texts[::2]}


def test_a_small_set_in_the_head() -> None:
    train = ["a good film", "good film", "film", "bad", "very bad", "Bad!", "dull", "dull"]
    splits, dropped = phrase_free_splits(
        data_of(train=train, validation=["A GOOD film"], test=["bad!"]), 0, 1
    )
    assert list(splits["train"]["text"]) == ["very bad", "dull", "dull"]
    assert dropped == 5


def test_validation_is_of_the_seed() -> None:
    data = data_of(train=[f"word{i} here" for i in range(50)], test=["something else"])
    first, again, other = (list(phrase_free_splits(data, seed, 10)[0]["val"]["text"]) for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) == 10


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (["fine", "   "], "row 2 of split 'train' has no word"),
        (["fine", None], "the column 'text' holds None, not text"),
        (["one two", "two"], "cannot hold 1 x 2 rows out of 1 whole sentences"),
        (["one two", "three four"], "every row of train is a phrase"),
    ],
)
def test_bad_rows_are_named_in_one_line(train: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        phrase_free_splits(data_of(train=train, test=["else"]), 0, 2)
    assert "\n" not in str(error.value)


def test_naive_bayes_in_the_head() -> None:
    # Class 0 says 2 and 3, class 1 says 4; the test row of 2 4 4 is of class 1, and so is labelled.
    train = (np.array([2, 3, 4]), np.array([0, 2, 3]), np.array([0, 1]))
    test = (np.array([2, 3, 2, 4, 4]), np.array([0, 2, 5]), np.array([0, 1]))
    assert naive_bayes_accuracy(train, test, 5) == 1.0
    assert naive_bayes_accuracy(train, (*test[:2], np.array([0, 0])), 5) == 0.5


@pytest.fixture
def sentence_root(tmp_path: Path) -> Path:
    """A folder `sst2` like the real one: 40 sentences with their last words, and 5 that are published for testing."""
    folder = tmp_path / "root" / "sst2" / "data"
    folder.mkdir(parents=True)
    train = [text for i in range(40) for text in (f"film{i} is good", "is good", f"film{i}")]
    test = [f"play{i} , indeed" for i in range(5)]
    for split, texts in (("train", train), ("validation", test)):
        part = data_of(rows=texts)["rows"].rename_column("text", "sentence")
        part.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder.parents[1]


def test_arrays_meta_and_floors(configured: Callable[..., dict], sentence_root: Path, tmp_path: Path) -> None:
    done = prepare(configured("sst2", root=str(sentence_root), holdout=4), tmp_path / "cache")
    meta = done.meta
    # Of 120 rows four are held out, the 40 "is good" go, and of the names those of the four.
    assert meta["sizes"] == {"train": 72, "val": 4, "test": 5} and meta["dropped"] == 44
    assert meta["num_classes"] == 2 and meta["longest"] == {"train": 3, "val": 3, "test": 3}
    assert set(meta["floors"]) == {"majority_accuracy", "naive_bayes_accuracy"}
    for split, size in meta["sizes"].items():
        tokens, offsets, labels = (
            np.load(done.folder / f"{split}_{what}.npy") for what in ("tokens", "offsets", "labels")
        )
        assert (tokens.dtype, offsets.dtype, labels.dtype) == (np.int32, np.int64, np.int64)
        assert len(labels) == size == len(offsets) - 1 and offsets[-1] == len(tokens)
        assert tokens.min() > 0 and tokens.max() < meta["vocab_size"] and np.diff(offsets).min() > 0
    assert prepare(configured("sst2", root=str(sentence_root), holdout=4), tmp_path / "cache") == done


def test_a_split_that_is_not_there_is_named(
    configured: Callable[..., dict], sentence_root: Path, tmp_path: Path
) -> None:
    config = configured("sst2", root=str(sentence_root))
    config["source"]["splits"] = {"train": "train", "test": "exam"}
    with pytest.raises(BadInput, match=r"no split 'exam', only \['train', 'validation'\]"):
        prepare(config, tmp_path)


def test_packages_of_this_python_keep_modules_apart() -> None:
    names, rows = labelled_lines(0)
    assert len(names) == CLASSES and names == sorted(names)
    lines = [line for part in rows.values() for line, _ in part]
    assert len(lines) == len(set(lines)) and len(rows["train"]) >= 3000
    counts = {
        split: np.bincount([label for _, label in part], minlength=CLASSES) for split, part in rows.items()
    }
    assert all((count > 0).all() for count in counts.values())
    total = sum(counts.values())
    assert (counts["test"] <= 0.1 * total).all() and (counts["validation"] <= 0.1 * total).all()
    assert total.max() < 0.35 * total.sum()
    assert labelled_lines(1)[1]["test"] != rows["test"]


def test_a_line_is_of_the_first_module_that_has_it(tmp_path: Path) -> None:
    for package in ("alpha", "beta"):
        (tmp_path / package).mkdir()
        for module in range(20):
            text = f"every module has this line\n{package} says its line {module} here\nshort"
            (tmp_path / package / f"m{module:02}.py").write_text(f'"""{text}"""\n')
    names, rows = labelled_lines(0, tmp_path)
    assert names == ["alpha", "beta"]
    found = sorted(row for part in rows.values() for row in part)
    own = [(f"{name} says its line {i} here", label) for label, name in enumerate(names) for i in range(20)]
    assert found == sorted([*own, ("every module has this line", 0)])
    assert [sum(label == 1 for _, label in rows[split]) for split in ("test", "validation")] == [2, 2]


def test_sst2_counts_and_shares_no_phrase(
    real_root: str, configured: Callable[..., dict], tmp_path: Path
) -> None:
    from bench.data.sources import source_of

    config = configured("sst2", root=real_root)
    splits, dropped = phrase_free_splits(source_of(config).load(), 0, config["holdout"])
    sizes = {split: len(part) for split, part in splits.items()}
    assert (
        sizes == {"train": 55_238, "val": 1000, "test": 872} and sum(sizes.values()) + dropped == 67_349 + 872
    )
    train = {f" {' '.join(words_of(text))} " for text in splits["train"]["text"]}
    out = "\n".join(f" {' '.join(words_of(t))} " for s in ("val", "test") for t in splits[s]["text"])
    assert not [text for text in sorted(train)[::20] if text in out]  # a string's own search, on every 20th
