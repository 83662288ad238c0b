"""Text to token ids with the `tokenizers` library: words, what blanks separate, or a BPE."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EOS, UNK = "<eos>", "<unk>"  # ids 0 and 1; a BPE has no <unk>
WORDS = r"\w+|[^\w\s]"  # a run of letters, digits and underscores, or one punctuation mark
TOKENIZERS = ("words", "whitespace", "bpe")
SMALLEST = {"words": 3, "whitespace": 3, "bpe": 257}  # the special tokens and a word; <eos> and every byte


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, as the tokenizer `words` splits and lower-cases it."""
    return tuple(re.findall(WORDS, text.lower()))


def train_tokenizer(kind: str, vocab_size: int | None, lines: Sequence[str]) -> "Tokenizer":
    """A tokenizer of `lines`, the same for the same lines; `vocab_size` counts <eos> and <unk>; None: all.

    `words` lower-cases and splits at WORDS; `whitespace` only splits at blanks (for corpora tokenised
    already, whose own <unk> is ours); `bpe` is byte-level (Radford et al. 2019, section 2.2): it loses
    nothing and knows every byte.
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


def train_words(kind: str, vocab_size: int | None, lines: Sequence[str]) -> "Tokenizer":
    """A word-level tokenizer: ids by falling frequency, equals by alphabet."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel())
    if kind == "words":
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
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
    """One stream of token ids, int32 [N], <eos> after each line (a blank line is its <eos>)."""
    eos = [tokenizer.token_to_id(EOS)]
    ids = [
        encoding.ids + eos for encoding in tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
    ]
    return np.fromiter((i for line in ids for i in line), dtype=np.int32)


def encode_rows(tokenizer: "Tokenizer", lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32 [N], offsets int64 [R + 1]): line r is ids[offsets[r] : offsets[r + 1]], with no <eos> anywhere."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)]
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    tokens = np.fromiter((i for line in ids for i in line), dtype=np.int32)
    if not tokens.all():
        raise BadInput("a text holds <eos> written out, which marks where a row has ended: remove it")
    return tokens, offsets


def count_bytes(lines: Sequence[str]) -> int:
    """UTF-8 bytes of the text that the tokens stand for, one newline a line."""
    return sum(len(line.encode()) + 1 for line in lines)


def vocabulary(tokenizer: "Tokenizer") -> list[str]:
    """Tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)
