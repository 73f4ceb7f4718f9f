"""Features without a model: names of words, word pairs and runs of characters, hashed into buckets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students.batches import Example

COMPARED = 4096
CHARACTERS = (2, 5)
"""Buckets and runs of characters of texts that are compared with each other."""

SparseRow = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Buckets and values of one text's, or one word's, features."""


def hashed_rows(example: Example, buckets: int, characters: Sequence[int]) -> Iterator[SparseRow]:
    """The features of a text, or of each word: a constant 1 in bucket 0, and hashed names scaled to length 1.

    `characters` are the shortest and the longest run of characters that is a feature of a text.
    """
    if isinstance(example, TokenExample):
        features = [list(_word_features(example.words, index)) for index in range(len(example.words))]
    else:
        features = [list(_text_features(example.text, *characters))]
    for names in features:
        hashed, counts = np.unique([crc32(name.encode()) % (buckets - 1) + 1 for name in names], return_counts=True)
        values = np.sqrt(counts)
        if len(values):
            values = values / np.linalg.norm(values)
        yield np.concatenate([[0], hashed]).astype(np.int64), np.concatenate([[1.0], values])


def hashed_matrix(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N, COMPARED): the same of whole texts as dense rows, without the constant."""
    matrix = np.zeros((len(texts), COMPARED))
    for row, text in zip(matrix, texts, strict=True):
        for buckets, values in hashed_rows(SequenceExample(text, None), COMPARED, CHARACTERS):
            row[buckets[1:]] = values[1:]
    return matrix


def _text_features(text: str, shortest: int, longest: int) -> Iterator[str]:
    words = text.casefold().split()
    yield from words
    for pair in pairwise(words):
        yield " ".join(pair)
    for word in words:
        delimited = f" {word} "
        for size in range(shortest, longest + 1):
            for start in range(len(delimited) - size + 1):
                yield f"#{delimited[start : start + size]}"


def _word_features(words: Sequence[str], index: int) -> Iterator[str]:
    for distance in (-1, 0, 1):
        word = words[index + distance] if 0 <= index + distance < len(words) else ""
        yield f"{distance}={word.casefold()}"
        yield f"{distance}~{_shape(word)}"
        if distance == 0:
            for size in (1, 2, 3):
                yield f"^{word[:size].casefold()}"
                yield f"${word[-size:].casefold()}"


def _shape(word: str) -> str:
    """Kinds of characters, each run of one kind written once: "McDonald" -> "AaAa", "24th" -> "0a"."""
    kinds = ["A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdigit() else c for c in word]
    return "".join(kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before)
