"""Make what a prepared data set consists of: arrays, a vocabulary, splits and floors, by kind of data."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.baselines import naive_bayes_accuracy, trigram_perplexity, unigram_perplexity
from bench.data.encode import (
    UNK,
    count_bytes,
    encode,
    encode_rows,
    image_array,
    image_splits,
    label_array,
    named,
    published,
    rows,
    text_splits,
    train_tokenizer,
    vocabulary,
    words_of,
)
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass(frozen=True)
class Content:
    """`arrays` by file stem, `vocabulary` in the order of ids, `tokenizer` as JSON, `meta` for meta.json."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    vocabulary: tuple[str, ...] = ()
    tokenizer: str | None = None

    def fingerprint(self) -> str:
        """16 hex digits over names, types, shapes and bytes of the arrays and over the vocabulary."""
        digest = hashlib.sha256(json.dumps(self.vocabulary).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def write(self, folder: Path) -> dict[str, int]:
        """Writes the files and returns their sizes in bytes by name."""
        for name, array in self.arrays.items():
            np.save(folder / f"{name}.npy", array)
        if self.tokenizer is not None:
            (folder / "tokenizer.json").write_text(self.tokenizer)
        return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def image_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """{split}_images uint8 [N, C, H, W] and {split}_labels int64 [N]; mean, std: train's pixels over 255.

    Of data in groups also test_groups int64 [N], 0 to num_groups - 1.
    """
    need_columns(data, ("image", "label"))
    splits = image_splits(data, wanted["split_seed"], wanted["holdout"])
    images = {split: image_array(part) for split, part in splits.items()}
    labels = {split: label_array(part) for split, part in splits.items()}
    train = images["train"]
    if different := [split for split in images if images[split].shape[1:] != train.shape[1:]]:
        raise BadInput(
            f"images of split {different[0]} have another size or mode than train's {train.shape[1:]}"
        )
    feature = data["train"].features["label"]
    classes = getattr(feature, "num_classes", None) or int(max(part.max() for part in labels.values())) + 1
    # Per channel in float64 from a histogram of 256 levels: exact, and no float copy of the data set.
    counts = np.stack([np.bincount(train[:, c].ravel(), minlength=256) for c in range(train.shape[1])])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(np.maximum(counts @ levels**2 / counts.sum(1) - mean**2, 0))
    majority = np.bincount(labels["train"]).argmax()
    meta = {
        "shape": list(train.shape[1:]),
        "num_classes": classes,
        "mean": mean.tolist(),
        "std": np.maximum(std, 1 / 255).tolist(),  # a constant channel is no reason to divide by zero
        "sizes": {split: len(part) for split, part in labels.items()},
        "floors": {"majority_accuracy": float((labels["test"] == majority).mean())},
    }
    arrays = {f"{s}_images": a for s, a in images.items()} | {f"{s}_labels": a for s, a in labels.items()}
    if "group" in splits["test"].column_names:
        names, arrays["test_groups"] = np.unique(np.asarray(splits["test"]["group"]), return_inverse=True)
        meta["num_groups"] = len(names)
    return Content(arrays, meta)


def text_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """{split}_tokens int32 [N], one stream; floors: the test split under counts of all of train."""
    need_columns(data, ("text",))
    splits = text_splits(data)
    lines = {split: [line.rstrip("\r\n") for line in part["text"]] for split, part in splits.items()}
    tokenizer = train_tokenizer(wanted["tokenizer"], wanted["vocab_size"], lines["train"])
    tokens = {split: encode(tokenizer, part) for split, part in lines.items()}
    words = tuple(vocabulary(tokenizer))
    unknown = words.index(UNK) if wanted["tokenizer"] != "bpe" else -1  # a BPE has none
    train, test = tokens["train"], tokens["test"]
    meta = {
        "vocab_size": len(words),
        "tokenizer": wanted["tokenizer"],
        "sizes": {split: len(part) for split, part in tokens.items()},
        "bytes": {split: count_bytes(part) for split, part in lines.items()},
        "oov": {split: int((part == unknown).sum()) for split, part in tokens.items()},
        "floors": {
            "unigram_perplexity": unigram_perplexity(train, test, len(words)),
            "trigram_perplexity": trigram_perplexity(train, test, len(words)),
        },
    }
    return Content(
        {f"{split}_tokens": part for split, part in tokens.items()}, meta, words, tokenizer.to_str()
    )


def need_columns(data: "DatasetDict", names: tuple[str, ...]) -> None:
    for split, part in data.items():
        if missing := [name for name in names if name not in part.column_names]:
            raise BadInput(
                f"split {split!r} has no column {missing[0]!r}, only {part.column_names}: map it in "
                "data.source.columns"
            )


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


SHARES = {"train": 0.6, "val": 0.2}  # test has the rest
LEAST = 20  # rows


def series_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """{split}_changes float32 [N, C] in time order, C the columns: 60 %, 20 % and the rest of all changes.

    A change is that of the value from the row before, or of its logarithm (`log`), over `scale`: the root mean
    square of the column's changes in train, the only statistic that is taken. Floors are those of the last value
    as the forecast, on test: naive_mae, naive_rmse, and naive_nll with train's variance as the Gaussian's.
    BadInput: a column that is absent, not numeric or constant in train, a value that is missing, fewer than 20
    rows, rows that are not in the order of the column `time`.
    """
    if set(data) != {"train"}:
        raise BadInput(f"a series is one split in time order; the data set has the splits {sorted(data)}")
    rows, names = data["train"], wanted["columns"]
    if len(rows) < LEAST:
        raise BadInput(f"the series has {len(rows)} rows: give at least {LEAST}")
    if wanted["time"] is not None:
        _need_order(rows, wanted["time"])
    values = np.stack([_numbers(rows, name, wanted["log"]) for name in names], axis=1)
    changes = np.diff(np.log(values) if wanted["log"] else values, axis=0)
    ends = np.cumsum([int(share * len(changes)) for share in SHARES.values()])
    train, *_ = np.split(changes, ends)
    scale = np.sqrt((train**2).mean(0))
    if (scale == 0).any():
        name = names[int(np.flatnonzero(scale == 0)[0])]
        raise BadInput(f"column {name!r} never changes in train: leave it out of data.columns")
    splits = dict(zip((*SHARES, "test"), np.split(changes / scale, ends), strict=True))
    meta = {
        "columns": list(names),
        "scale": scale.tolist(),
        "sizes": {split: len(part) for split, part in splits.items()},
        "floors": floors(splits["test"]),
    }
    return Content({f"{split}_changes": part.astype(np.float32) for split, part in splits.items()}, meta)


def floors(changes: np.ndarray) -> dict[str, float]:
    """Scores of "no change": mean absolute error, root mean square error, nats a value at variance 1."""
    square = float((changes**2).mean())
    return {
        "naive_mae": float(np.abs(changes).mean()),
        "naive_rmse": math.sqrt(square),
        "naive_nll": 0.5 * (math.log(2 * math.pi) + square),
    }


def _column(rows: "Dataset", name: str, key: str) -> Sequence[Any]:
    if name not in rows.column_names:
        raise BadInput(f"the series has no column {name!r}, only {rows.column_names}: set data.{key}")
    return rows[name]


def _numbers(rows: "Dataset", name: str, log: bool) -> np.ndarray:
    """A column as float64 [N], each value finite, and above 0 where its logarithm is asked for."""
    column = list(_column(rows, name, "columns"))
    try:
        values = np.array([math.nan if value is None else value for value in column], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"column {name!r} is not numeric ({error}): leave it out of data.columns") from error
    wrong = ~np.isfinite(values) | (values <= 0 if log else False)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        above = " above 0, as data.log needs" if log else ""
        raise BadInput(
            f"column {name!r} is {column[row]} in row {row + 1} of the series: give a finite number{above}"
        )
    return values


def _need_order(rows: "Dataset", name: str) -> None:
    times = list(_column(rows, name, "time"))
    if any(time is None for time in times):
        raise BadInput(f"column {name!r} lacks a time: give one in every row, or set data.time=null")
    for row, (before, after) in enumerate(zip(times[:-1], times[1:], strict=True), 2):
        if not before < after:
            raise BadInput(
                f"column {name!r} is {after} in row {row} of the series, after {before}: sort the rows by time, "
                "oldest first, each time once"
            )
