"""What a prepared data set consists of, made from a DatasetDict: arrays, a vocabulary, floors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.ngram import trigram_perplexity, unigram_perplexity
from bench.data.pixels import image_array, label_array
from bench.data.splits import image_splits, text_splits
from bench.data.tokenization import UNK, count_bytes, encode, train_tokenizer, vocabulary
from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import DatasetDict


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
