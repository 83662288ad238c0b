"""Make what a prepared data set consists of: arrays, a vocabulary, splits and floors, by kind of data."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.baselines import naive_bayes_accuracy, trigram_perplexity, unigram_perplexity
from bench.data.dates import check_times
from bench.data.encode import (
    PRETRAINED,
    UNK,
    count_bytes,
    encode,
    encode_rows,
    image_splits,
    read_tokenizer,
    text_rows,
    text_splits,
    train_tokenizer,
    vocabulary,
)
from bench.data.labels import classes_of
from bench.data.phrases import phrase_free_splits
from bench.data.pixels import image_arrays
from bench.data.zoo import tokenizer_of
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass(frozen=True)
class Content:
    """What is kept of a data set.

    `arrays` by file stem, `vocabulary` in the order of ids, `tokenizer` as JSON, `meta` for meta.json. `notes`: what
    the user has to know of how the data were read.
    """

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    vocabulary: tuple[str, ...] = ()
    tokenizer: str | None = None
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return 16 hex digits over names, types, shapes and bytes of the arrays and over the vocabulary."""
        digest = hashlib.sha256(json.dumps(self.vocabulary).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def write(self, folder: Path) -> dict[str, int]:
        """Write the files and return their sizes in bytes by name."""
        for name, array in self.arrays.items():
            np.save(folder / f"{name}.npy", array)
        if self.tokenizer is not None:
            (folder / "tokenizer.json").write_text(self.tokenizer)
        return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def image_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """Make {split}_images uint8 [N, C, H, W] and {split}_labels int64 [N]; mean, std: train's pixels over 255.

    Of data in groups also test_groups int64 [N], 0 to num_groups - 1.
    """
    _need_columns(data, ("image", "label"))
    splits = image_splits(data, wanted["split_seed"], wanted["holdout"])
    images, notes = image_arrays(splits, wanted.get("range"))
    classes = classes_of(splits)
    train = images["train"]
    if different := [split for split in images if images[split].shape[1:] != train.shape[1:]]:
        raise BadInput(
            f"images of split {different[0]} have another size or mode than train's {train.shape[1:]}"
        )
    # Per channel in float64 from a histogram of 256 levels: exact, and no float copy of the data set.
    counts = np.stack([np.bincount(train[:, c].ravel(), minlength=256) for c in range(train.shape[1])])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(np.maximum(counts @ levels**2 / counts.sum(1) - mean**2, 0))
    meta = {
        "shape": list(train.shape[1:]),
        "num_classes": classes.count,
        "mean": mean.tolist(),
        "std": np.maximum(std, 1 / 255).tolist(),  # a constant channel is no reason to divide by zero
        "sizes": {split: len(part) for split, part in classes.labels.items()},
        "floors": {"majority_accuracy": _majority_accuracy(classes.labels)},
    }
    arrays = {f"{split}_images": part for split, part in images.items()}
    arrays |= {f"{split}_labels": part for split, part in classes.labels.items()}
    if "group" in splits["test"].column_names:
        names, arrays["test_groups"] = np.unique(np.asarray(splits["test"]["group"]), return_inverse=True)
        meta["num_groups"] = len(names)
    return Content(arrays, meta, notes=(*notes, *classes.notes))


def text_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """Make {split}_tokens int32 [N], one stream; floors: the test split under counts of all of train."""
    _need_columns(data, ("text",))
    splits = text_splits(data)
    lines = {split: [line.rstrip("\r\n") for line in text_rows(part)] for split, part in splits.items()}
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


def labelled_text_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """Make {split}_tokens int32 [N], {split}_offsets int64 [R + 1] of its rows in them, {split}_labels int64 [R].

    No token of a row is <eos> (id 0), which is left to mark where a row has ended. Floors, on test: the most
    frequent class of train, and Naive Bayes on all of train. BadInput: a row without a word or a label.
    """
    _need_columns(data, ("text", "label"))
    splits, dropped = phrase_free_splits(data, wanted["split_seed"], wanted["holdout"])
    texts = {split: list(part["text"]) for split, part in splits.items()}
    classes = classes_of(splits)
    labels = classes.labels
    if wanted["tokenizer"] == PRETRAINED:
        tokenizer = read_tokenizer(tokenizer_of(wanted["tokenizer_of"]))
    else:
        tokenizer = train_tokenizer(wanted["tokenizer"], wanted["vocab_size"], texts["train"])
    encoded = {split: encode_rows(tokenizer, part) for split, part in texts.items()}
    words = tuple(vocabulary(tokenizer))
    meta = {
        "vocab_size": len(words),
        "tokenizer": wanted["tokenizer"],
        "num_classes": classes.count,
        "sizes": {split: len(part) for split, part in labels.items()},
        "dropped": dropped,
        "longest": {split: int(np.diff(offsets).max()) for split, (_, offsets) in encoded.items()},
        "floors": {
            "majority_accuracy": _majority_accuracy(labels),
            "naive_bayes_accuracy": naive_bayes_accuracy(
                (*encoded["train"], labels["train"]), (*encoded["test"], labels["test"]), len(words)
            ),
        },
    }
    arrays = {f"{split}_labels": part for split, part in labels.items()}
    for split, (tokens, offsets) in encoded.items():
        arrays |= {f"{split}_tokens": tokens, f"{split}_offsets": offsets}
    return Content(arrays, meta, words, tokenizer.to_str(), tuple(classes.notes))


def _need_columns(data: "DatasetDict", names: tuple[str, ...]) -> None:
    """Raise BadInput unless every row of every split has a value in each of the columns."""
    for split, part in data.items():
        if missing := [name for name in names if name not in part.column_names]:
            raise BadInput(
                f"split {split!r} has no column {missing[0]!r}, only {part.column_names}: map it in "
                "data.source.columns"
            )
        for name in [name for name in (*names, "group") if name in part.column_names]:
            column = part.select_columns([name]).with_format("arrow")[:][name]
            if column.null_count:
                row = column.is_null().to_numpy().argmax() + 1
                raise BadInput(
                    f"row {row} of split {split!r} has no {name}: remove it, or set data.source.columns"
                )


def _majority_accuracy(labels: Mapping[str, np.ndarray]) -> float:
    """Return the share of test that is of train's most frequent class."""
    return float((labels["test"] == np.bincount(labels["train"]).argmax()).mean())


SHARES = {"train": 0.6, "val": 0.2}  # test has the rest
LEAST = 20  # rows


def series_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """Make {split}_changes float32 [N, C] in time order, C the columns: 60 %, 20 % and the rest of all changes.

    A change is that of the value from the row before, or of its logarithm (`log`), over `scale`: the root mean
    square of the column's changes in train, the only statistic that is taken. Floors are those of the last value
    as the forecast, on test: naive_mae, naive_rmse, and naive_nll with train's variance as the Gaussian's.

    Raises:
        BadInput: a column that is absent, not numeric or constant in train, a value that is missing, fewer than 20
            rows, rows that are not in the order of the column `time`.
    """
    if set(data) != {"train"}:
        raise BadInput(f"a series is one split in time order; the data set has the splits {sorted(data)}")
    rows, names = data["train"], wanted["columns"]
    if len(rows) < LEAST:
        raise BadInput(f"the series has {len(rows)} rows: give at least {LEAST}")
    notes = []
    if wanted["time"] is not None:
        notes = check_times(_column(rows, wanted["time"], "time"), wanted["time"], wanted.get("time_format"))
    values = np.stack([_numbers(rows, name, wanted["log"]) for name in names], axis=1)
    with np.errstate(over="ignore"):
        changes = np.diff(np.log(values) if wanted["log"] else values, axis=0)
    ends = np.cumsum([int(share * len(changes)) for share in SHARES.values()])
    train, *_ = np.split(changes, ends)
    with np.errstate(over="ignore"):
        scale = np.sqrt((train**2).mean(0))
    if not np.isfinite(scale).all():
        name = names[int(np.flatnonzero(~np.isfinite(scale))[0])]
        raise BadInput(f"column {name!r} has changes too large to be squared: give it in a larger unit")
    if small := [
        name for name, one, part in zip(names, scale, train.T, strict=True) if one == 0 and part.any()
    ]:
        raise BadInput(f"column {small[0]!r} has changes too small to be squared: give it in a smaller unit")
    if (scale == 0).any():
        name = names[int(np.flatnonzero(scale == 0)[0])]
        raise BadInput(f"column {name!r} never changes in train: leave it out of data.columns")
    splits = dict(zip((*SHARES, "test"), np.split(changes / scale, ends), strict=True))
    meta = {
        "columns": list(names),
        "scale": scale.tolist(),
        "sizes": {split: len(part) for split, part in splits.items()},
        "floors": _floors_of_no_change(splits["test"]),
    }
    arrays = {f"{split}_changes": part.astype(np.float32) for split, part in splits.items()}
    return Content(arrays, meta, notes=tuple(notes))


def _floors_of_no_change(changes: np.ndarray) -> dict[str, float]:
    """Return the scores of "no change": mean absolute error, root mean square error, nats a value at variance 1."""
    square = float((changes**2).mean())
    return {
        "naive_mae": float(np.abs(changes).mean()),
        "naive_rmse": math.sqrt(square),
        "naive_nll": 0.5 * (math.log(2 * math.pi) + square),
    }


def _column(rows: "Dataset", name: str, key: str) -> Sequence[Any]:
    if name not in rows.column_names:
        raise BadInput(f"the series has no column {name!r}, only {rows.column_names}: set data.{key}")
    return list(rows[name])


def _numbers(rows: "Dataset", name: str, log: bool) -> np.ndarray:
    """Return a column as float64 [N], each value finite, and above 0 where its logarithm is asked for."""
    column = _column(rows, name, "columns")
    try:
        values = np.array([math.nan if value is None else value for value in column], dtype=np.float64)
        if any(isinstance(value, int) and value != int(float(value)) for value in column):
            raise ValueError("whole numbers beyond 2**53 lose digits")
    except (TypeError, ValueError) as error:
        raise BadInput(f"column {name!r} is not numeric ({error}): leave it out of data.columns") from error
    if values.ndim != 1:
        raise BadInput(f"column {name!r} holds lists, not numbers: leave it out of data.columns")
    wrong = ~np.isfinite(values) | (values <= 0 if log else False)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        above = " above 0, as data.log needs" if log else ""
        raise BadInput(
            f"column {name!r} is {column[row]} in row {row + 1} of the series: give a finite number{above}"
        )
    return values
