"""Words and bytes to ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.encode import EOS, UNK, count_bytes, encode, train_tokenizer, vocabulary
from bench.tying.errors import BadInput

LINES = ["The cat_1 sat, the cat sat.", "", "Größe 42"] * 3 + ["rare"]


def test_words_are_lower_cased_and_punctuation_is_apart() -> None:
    tokenizer = train_tokenizer("words", None, LINES)
    words = vocabulary(tokenizer)
    read = [words[i] for i in encode(tokenizer, ["The cat_1, größe", "", "dog"])]
    assert words[:2] == [EOS, UNK]
    assert read == ["the", "cat_1", ",", "größe", EOS, EOS, UNK, EOS]


def test_vocabulary_keeps_the_most_frequent_words() -> None:
    assert vocabulary(train_tokenizer("words", 4, LINES)) == [EOS, UNK, "sat", "the"]


def test_whitespace_takes_the_corpus_own_unk() -> None:
    tokenizer = train_tokenizer("whitespace", None, [" = A <unk> b , = "])
    ids = encode(tokenizer, [" b <unk> c "])
    assert ids.dtype == np.int32
    assert [vocabulary(tokenizer)[i] for i in ids] == ["b", UNK, UNK, EOS]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=4))
def test_bpe_loses_no_byte(lines: list[str]) -> None:
    tokenizer = train_tokenizer("bpe", 260, ["ab ab ab"])
    ids = encode(tokenizer, lines)
    words = vocabulary(tokenizer)
    eos = words.index(EOS)
    # Each byte-level token writes one character per byte; <eos> stands for the newline.
    assert sum(1 if i == eos else len(words[i]) for i in ids) == count_bytes(lines)
    assert len(words) <= 260


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=4))
def test_characters_are_tokens_each_and_lose_nothing(lines: list[str]) -> None:
    tokenizer = train_tokenizer("characters", None, lines)
    words = vocabulary(tokenizer)
    ids = encode(tokenizer, lines)
    assert [words[i] for i in ids] == [token for line in lines for token in (*line, EOS)]
    assert sorted(words[2:]) == sorted(set("".join(lines)))


def test_bpe_is_the_same_every_time_and_needs_a_size() -> None:
    first, second = (vocabulary(train_tokenizer("bpe", 300, LINES)) for _ in range(2))
    assert first == second and first[0] == EOS
    with pytest.raises(BadInput, match="data.vocab_size"):
        train_tokenizer("bpe", None, LINES)
