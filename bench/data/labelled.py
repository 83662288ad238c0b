"""What prepared text with labels consists of: rows of token ids, splits that share no phrase, floors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.contents import Content, need_columns
from bench.data.naive_bayes import naive_bayes_accuracy
from bench.data.pixels import label_array
from bench.data.splits import named, published, rows
from bench.data.tokenization import encode_rows, train_tokenizer, vocabulary, words_of
from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Words = tuple[str, ...]


def labelled_text_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """{split}_tokens int32 [N], {split}_offsets int64 [R + 1] of its rows in them, {split}_labels int64 [R].

    No token of a row is <eos> (id 0), which is left to mark where a row has ended. Floors, on test: the most
    frequent class of train, and Naive Bayes on all of train. BadInput: a row without a word or a label.
    """
    need_columns(data, ("text", "label"))
    splits, dropped = phrase_free_splits(data, wanted["split_seed"], wanted["holdout"])
    texts = {split: list(part["text"]) for split, part in splits.items()}
    labels = {split: label_array(part) for split, part in splits.items()}
    tokenizer = train_tokenizer(wanted["tokenizer"], wanted["vocab_size"], texts["train"])
    encoded = {split: encode_rows(tokenizer, part) for split, part in texts.items()}
    words = tuple(vocabulary(tokenizer))
    classes = getattr(data["train"].features["label"], "num_classes", None)
    majority = np.bincount(labels["train"]).argmax()
    meta = {
        "vocab_size": len(words),
        "tokenizer": wanted["tokenizer"],
        "num_classes": classes or int(max(part.max() for part in labels.values())) + 1,
        "sizes": {split: len(part) for split, part in labels.items()},
        "dropped": dropped,
        "longest": {split: int(np.diff(offsets).max()) for split, (_, offsets) in encoded.items()},
        "floors": {
            "majority_accuracy": float((labels["test"] == majority).mean()),
            "naive_bayes_accuracy": naive_bayes_accuracy(
                (*encoded["train"], labels["train"]), (*encoded["test"], labels["test"]), len(words)
            ),
        },
    }
    arrays = {f"{split}_labels": part for split, part in labels.items()}
    for split, (tokens, offsets) in encoded.items():
        arrays |= {f"{split}_tokens": tokens, f"{split}_offsets": offsets}
    return Content(arrays, meta, words, tokenizer.to_str())


def phrase_free_splits(
    data: "DatasetDict", split_seed: int, holdout: float | int
) -> tuple[dict[str, "Dataset"], int]:
    """({"train", "val", "test"}, rows dropped): no row of train is a phrase of a row of val or test.

    A phrase of a row is a run of its words, of all of them too. What is not published is held out of train:
    `holdout` (a share, or a count) of the distinct texts that are no phrase of a longer one, by seed. So val is of
    whole sentences, where train may hold their parts too. Then every row of train that is a phrase of a held-out
    or published one is dropped.
    """
    train, missing = published(data)
    words = {split: row_words(part["text"], split) for split, part in data.items()}
    texts = words["train"]
    chosen = {
        split: train.select(part) for split, part in held_out(texts, missing, split_seed, holdout).items()
    }
    out = named(data) | chosen
    seen = phrases((words_of(text) for part in out.values() for text in part["text"]), set(texts))
    kept = [row for row, text in enumerate(texts) if text not in seen]
    if not kept:
        raise BadInput("every row of train is a phrase of a row of val or test: lower data.holdout")
    held = sum(map(len, chosen.values()))
    return out | {"train": train.select(kept)}, len(texts) - len(kept) - held


def row_words(texts: Iterable[Any], split: str) -> list[Words]:
    found = [words_of(text) if isinstance(text, str) else () for text in texts]
    if () in found:
        raise BadInput(f"row {found.index(()) + 1} of split {split!r} has no word: remove it")
    return found


def held_out(
    texts: Sequence[Words], parts: Sequence[str], split_seed: int, holdout: float | int
) -> dict[str, list[int]]:
    """Row numbers of each part, ascending: the first rows of distinct texts that are no phrase of a longer one."""
    if not parts:
        return {}
    first = {text: row for row, text in reversed(list(enumerate(texts)))}
    whole = sorted(first[text] for text in set(texts) - phrases(texts, set(texts), proper=True))
    count = rows(holdout, len(texts))
    if count * len(parts) > len(whole):
        raise BadInput(
            f"cannot hold {len(parts)} x {count} rows out of {len(whole)} whole sentences: lower data.holdout"
        )
    order = np.random.default_rng(split_seed).permutation(whole)
    return {part: sorted(order[i * count : (i + 1) * count].tolist()) for i, part in enumerate(parts)}


def phrases(texts: Iterable[Words], known: set[Words], proper: bool = False) -> set[Words]:
    """Those of `known` that are a phrase of one of `texts`; `proper`: of a longer one."""
    longest = max(map(len, known))
    return {
        run for text in set(texts) for run in _runs(text, min(longest, len(text) - proper)) if run in known
    }


def _runs(text: Words, longest: int) -> Iterator[Words]:
    for length in range(1, longest + 1):
        for start in range(len(text) - length + 1):
            yield text[start : start + length]
