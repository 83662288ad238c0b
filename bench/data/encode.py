"""Turn text into token ids, and rows into splits without leaks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from tokenizers import Tokenizer


EOS, UNK = "<eos>", "<unk>"  # ids 0 and 1; a BPE has no <unk>
WORDS = r"\w+|[^\w\s]"  # a run of letters, digits and underscores, or one punctuation mark
PRETRAINED = "pretrained"
"""The tokenizer of a trained model (`data.tokenizer_of`), as it is."""
SMALLEST = {"words": 3, "whitespace": 3, "characters": 3, "bpe": 257}
"""The smallest vocabulary of each tokenizer: the special tokens and a word or character; <eos> and every byte."""


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, as the tokenizer `words` splits and lower-cases it."""
    return tuple(re.findall(WORDS, text.lower()))


def train_tokenizer(kind: str, vocab_size: int | None, lines: Sequence[str]) -> "Tokenizer":
    """Train a tokenizer of `lines`, the same for the same lines; `vocab_size` counts <eos> and <unk>; None: all.

    `words` lower-cases and splits at WORDS; `whitespace` only splits at blanks (for corpora tokenised
    already, whose own <unk> is ours); `characters` takes each by itself, blanks too; `bpe` is byte-level
    (Radford et al. 2019, section 2.2): it loses nothing and knows every byte.
    """
    if kind != "bpe":
        return train_words(kind, vocab_size, lines)
    if vocab_size is None:
        raise BadInput(
            "data.tokenizer=bpe needs data.vocab_size, at least 257: for example data.vocab_size=2000"
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.encode_special_tokens = True  # "<eos>" written out in a text is five characters
    return tokenizer


def read_tokenizer(path: Path) -> "Tokenizer":
    """Read the tokenizer.json of a trained model; it neither cuts rows nor fills them. BadInput where it cannot."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises plain Exceptions
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path} is no tokenizer: {reason}; save_pretrained of the tokenizer writes one"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def train_words(kind: str, vocab_size: int | None, lines: Sequence[str]) -> "Tokenizer":
    """Train a tokenizer of whole words, or of characters: ids by falling frequency, equals by alphabet."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel())
    if kind == "words":
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    elif kind == "characters":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(vocab_size=2**31, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    # Not the trainer's `special_tokens`: a corpus with an "<unk>" of its own would get two ids and a gap.
    words = [EOS, UNK] + [word for word in vocabulary(tokenizer) if word not in {EOS, UNK}]
    ids = {word: i for i, word in enumerate(words[:vocab_size])}
    tokenizer.model = models.WordLevel(ids, unk_token=UNK)
    return tokenizer


def encode(tokenizer: "Tokenizer", lines: Sequence[str]) -> np.ndarray:
    """Return one stream of token ids, int32 [N], <eos> after each line (a blank line is its <eos>)."""
    eos = [tokenizer.token_to_id(EOS)]
    ids = [
        encoding.ids + eos for encoding in tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
    ]
    return np.fromiter((i for line in ids for i in line), dtype=np.int32)


def encode_rows(tokenizer: "Tokenizer", lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return ids int32 [N] and offsets int64 [R + 1]: line r is ids[offsets[r] : offsets[r + 1]], without an <eos>.

    A tokenizer of a trained model puts its marks of a row's beginning and end; one that is trained here has none.
    """
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(lines), add_special_tokens=True)]
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    tokens = np.fromiter((i for line in ids for i in line), dtype=np.int32)
    if not tokens.all():
        raise BadInput("a text holds <eos> written out, which marks where a row has ended: remove it")
    return tokens, offsets


def count_bytes(lines: Sequence[str]) -> int:
    """Count the UTF-8 bytes of the text that the tokens stand for, one newline a line."""
    return sum(len(line.encode()) + 1 for line in lines)


def vocabulary(tokenizer: "Tokenizer") -> list[str]:
    """Return the tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def text_rows(part: "Dataset") -> list[str]:
    """Return the column `text`; BadInput where a row is not text."""
    texts = list(part["text"])
    for text in texts:
        if not isinstance(text, str):
            raise BadInput(f"the column 'text' holds {str(text)[:50]}, not text: set data.source.columns")
    return texts


TEXT_HOLDOUT = 0.1


def image_splits(data: "DatasetDict", split_seed: int, holdout: float | int) -> dict[str, "Dataset"]:
    """Return {"train", "val", "test"}; what is not published is drawn from train by seed, whole groups at a time.

    `holdout`: a share of the published train split, or a count of rows; with groups, the first count at or
    above it.
    """
    train, missing = published(data)
    groups = np.asarray(train["group"]) if "group" in train.column_names else np.arange(len(train))
    parts = hold_out(groups, rows(holdout, len(train)), len(missing), split_seed)
    chosen = {split: train.select(part) for split, part in zip(missing, parts[1:], strict=True)}
    kept = parts[0]
    if "group" in train.column_names:
        # Laid out group by group: the first rows would be no sample of the rest.
        kept = np.random.default_rng(split_seed).permutation(kept)
    return named(data) | chosen | {"train": train.select(kept)}


def text_splits(data: "DatasetDict") -> dict[str, "Dataset"]:
    """Return {"train", "val", "test"}; what is not published is cut off the end of train, 10 % of its lines each."""
    train, missing = published(data)
    count = rows(TEXT_HOLDOUT, len(train))
    rest = len(train) - count * len(missing)
    if rest < 1:
        raise BadInput(f"{len(train)} lines of text are too few for train, val and test: give at least 3")
    starts = {split: rest + i * count for i, split in enumerate(missing)}
    cut = {split: train.select(range(start, start + count)) for split, start in starts.items()}
    return named(data) | cut | {"train": train.select(range(rest))}


def published(data: "DatasetDict") -> tuple["Dataset", list[str]]:
    """Return the train split, and which of val and test have to come out of it."""
    if "train" not in data:
        raise BadInput(f"the data set has the splits {sorted(data)}: it needs one named 'train'")
    if empty := [split for split, part in data.items() if not len(part)]:
        raise BadInput(f"the data set's splits {empty} are empty: restore its files or give more data")
    return data["train"], [
        ours for ours, theirs in (("val", "validation"), ("test", "test")) if theirs not in data
    ]


def named(data: "DatasetDict") -> dict[str, "Dataset"]:
    return {
        ours: data[theirs] for ours, theirs in (("val", "validation"), ("test", "test")) if theirs in data
    }


def rows(holdout: float | int, total: int) -> int:
    """Return a share rounded to rows (at least one), or the count itself."""
    return holdout if isinstance(holdout, int) else max(1, round(holdout * total))


def hold_out(groups: np.ndarray, count: int, parts: int, split_seed: int) -> list[np.ndarray]:
    """Return row indices [rest, part 1, ..., part n], ascending: whole groups, at least `count` rows a part."""
    names, member = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(split_seed).permutation(len(names))
    cumulative = np.cumsum(np.bincount(member)[order])
    cuts, start = [0], 0
    for _ in range(parts):
        cuts.append(int(np.searchsorted(cumulative, start + count)) + 1)
        start = int(cumulative[min(cuts[-1], len(names)) - 1])
    if cuts[-1] >= len(names) and parts:
        raise BadInput(
            f"cannot hold {parts} x {count} rows out of {len(groups)} in {len(names)} groups: lower "
            "data.holdout"
        )
    part_of_group = np.empty(len(names), dtype=np.int64)
    part_of_group[order] = np.searchsorted(cuts[1:], np.arange(len(names)), side="right")
    part = part_of_group[member]
    # Group rank in the shuffled order -> 0 .. parts - 1 are held out, `parts` is the rest.
    return [np.flatnonzero(part == parts)] + [np.flatnonzero(part == i) for i in range(parts)]
