"""Split labelled text so that no row of train is a phrase of a row of val or test."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.data.encode import named, published, rows, text_rows, words_of
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Words = tuple[str, ...]


def phrase_free_splits(
    data: "DatasetDict", split_seed: int, holdout: float | int
) -> tuple[dict[str, "Dataset"], int]:
    """Return {"train", "val", "test"} and how many rows were dropped: no row of train is a phrase of one of the others.

    A phrase of a row is a run of its words, of all of them too. What is not published is held out of train:
    `holdout` (a share, or a count) of the distinct texts that are no phrase of a longer one, by seed. So val is of
    whole sentences, where train may hold their parts too. Then every row of train that is a phrase of a held-out
    or published one is dropped.
    """
    train, missing = published(data)
    words = {split: _row_words(part, split) for split, part in data.items()}
    texts = words["train"]
    chosen = _held_out(texts, missing, split_seed, holdout)
    outside = [texts[row] for part in chosen.values() for row in part]
    outside += [text for split in ("validation", "test") for text in words.get(split, ())]
    seen = phrases(outside, set(texts))
    kept = [row for row, text in enumerate(texts) if text not in seen]
    if not kept:
        raise BadInput("every row of train is a phrase of a row of val or test: lower data.holdout")
    held = sum(map(len, chosen.values()))
    splits = named(data) | {split: train.select(part) for split, part in chosen.items()}
    return splits | {"train": train.select(kept)}, len(texts) - len(kept) - held


def _row_words(part: "Dataset", split: str) -> list[Words]:
    words = [words_of(text) for text in text_rows(part)]
    if () in words:
        raise BadInput(f"row {words.index(()) + 1} of split {split!r} has no word: remove it")
    return words


def _held_out(
    texts: Sequence[Words], parts: Sequence[str], split_seed: int, holdout: float | int
) -> dict[str, list[int]]:
    """Return the row numbers of each part, ascending: the first of each text that is no phrase of a longer one."""
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
    """Return those of `known` that are a phrase of one of `texts`; `proper`: of a longer one.

    Time and memory grow with the number of words, whatever the length of a row.

    Source: Aho and Corasick 1975, "Efficient string matching: an aid to bibliographic search".
    """
    number = {word: index for index, word in enumerate({word for phrase in known for word in phrase})}
    # A tree of all prefixes of known phrases. An edge is the number node * len(number) + word.
    edges: dict[int, int] = {}
    edge_to, depth = [-1], [0]
    phrase_at: dict[int, Words] = {}
    for phrase in known:
        node = 0
        for word in phrase:
            edge = node * len(number) + number[word]
            if edge not in edges:
                edges[edge] = len(depth)
                edge_to.append(edge)
                depth.append(depth[node] + 1)
            node = edges[edge]
        phrase_at[node] = phrase

    def follow(node: int, word: int) -> int:
        """The longest prefix of a known phrase that ends here, after one more word."""
        while node and node * len(number) + word not in edges:
            node = shorter[node]
        return edges.get(node * len(number) + word, 0)

    # Of each node: the longest prefix that is a proper end of it, and the longest whole phrase that is.
    shorter, inner = [0] * len(depth), [0] * len(depth)
    for node in sorted(range(1, len(depth)), key=depth.__getitem__):
        parent, word = divmod(edge_to[node], len(number))
        if parent:
            shorter[node] = follow(shorter[parent], word)
        inner[node] = shorter[node] if shorter[node] in phrase_at else inner[shorter[node]]

    found: set[int] = set()
    for text in set(texts):
        node = 0
        for word in text:
            node = follow(node, number[word]) if word in number else 0
            is_itself = proper and depth[node] == len(text)
            match = node if node in phrase_at and not is_itself else inner[node]
            while match and match not in found:  # where it is, what it ends in is found too
                found.add(match)
                match = inner[match]
    return {phrase_at[node] for node in found}
