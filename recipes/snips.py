"""SNIPS as the training data of the quickstarts' teachers: utterances cut at their slots, and advice that describes them.

SNIPS (Coucke et al. 2018, arXiv:1805.10190) is read from `snips_intents/{train,test}.parquet` (text, label) and
`snips_slots/{train,test}.parquet` (tokens, ner_tags), which hold the same utterances row by row.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import CountVectorizer

Item = TypeVar("Item")


class Utterance(NamedTuple):
    """A text and its intent. `pieces`: the text in order, each piece with the slot it fills, or ""."""

    text: str
    intent: str
    pieces: tuple[tuple[str, str], ...]


def read_utterances(folder: Path, split: str) -> list[Utterance]:
    """All utterances of a split, with single blanks between words."""
    texts = pq.read_table(folder / f"snips_intents/{split}.parquet").to_pylist()
    slots = pq.read_table(folder / f"snips_slots/{split}.parquet").to_pylist()
    utterances = []
    for row, tagged in zip(texts, slots, strict=True):
        text = " ".join(row["text"].split())
        utterances.append(Utterance(text, row["label"], cut_at_slots(text, tagged["tokens"], tagged["ner_tags"])))
    return utterances


def training_utterances(folder: Path, excluded: Sequence[Path]) -> list[Utterance]:
    """The utterances of train that a teacher may learn from, without repetitions and without very short texts.

    Left out are those that repeat, or nearly repeat, a text of SNIPS' test set or of the JSON-lines files in `excluded`: a
    student is tested on these texts.
    """
    excluded_texts = pq.read_table(folder / "snips_intents/test.parquet").column("text").to_pylist()
    for path in excluded:
        excluded_texts += [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]

    seen_texts, utterances = {normalized(text) for text in excluded_texts}, []
    for utterance in read_utterances(folder, "train"):
        if len(utterance.text) >= 8 and normalized(utterance.text) not in seen_texts:
            seen_texts.add(normalized(utterance.text))
            utterances.append(utterance)
    near = near_duplicates([utterance.text for utterance in utterances], excluded_texts)
    return [utterance for utterance, is_near in zip(utterances, near, strict=True) if not is_near]


def cut_at_slots(text: str, tokens: Sequence[str], tags: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The text cut where slots begin and end: ("play ", ""), ("daft punk", "artist")."""
    spans: list[tuple[int, int, str]] = []
    position = 0
    for token, tag in zip(tokens, tags, strict=True):
        start = text.index(token, position)
        position = start + len(token)
        if tag.startswith("I-"):
            spans[-1] = (spans[-1][0], position, spans[-1][2])
        elif tag != "O":
            spans.append((start, position, tag[2:]))
    pieces, after = [], 0
    for start, end, slot in spans:
        pieces += [(text[after:start], ""), (text[start:end], slot)]
        after = end
    return tuple((piece, slot) for piece, slot in [*pieces, (text[after:], "")] if piece)


def normalized(text: str) -> str:
    """Letters and digits only, lower case: two texts that differ in nothing else count as the same text."""
    return "".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()))


def near_duplicates(texts: Sequence[str], others: Sequence[str], threshold: float = 0.8) -> np.ndarray:
    """For each text, whether the Jaccard index of its words and those of one of `others` reaches the threshold."""
    vectorizer = CountVectorizer(binary=True, token_pattern=r"\w+", dtype=np.int32)  # noqa: S106 - of words
    vectorizer.fit([*texts, *others])
    left, right = vectorizer.transform(texts), vectorizer.transform(others)
    shared = (left @ right.T).toarray()
    union = left.sum(axis=1).A1[:, None] + right.sum(axis=1).A1[None, :] - shared
    return (shared / np.maximum(union, 1)).max(axis=1) >= threshold


def advice_for(traits: Sequence[str]) -> str:
    """with artist, with year, opening with play, short -> more texts with artist and year, opening with play, short"""
    slots = [trait.removeprefix("with ") for trait in traits if trait.startswith("with ")]
    other_traits = [trait for trait in traits if not trait.startswith("with ")]
    return ", ".join(["more texts with " + " and ".join(slots) if slots else "more texts", *other_traits])


class Deck(Generic[Item]):
    """Deals items in random order; none comes again before all have been dealt."""

    def __init__(self, items: Sequence[Item], rng: random.Random) -> None:
        self._items = items
        self._rng = rng
        self._undealt: list[Item] = []

    def deal(self, count: int) -> list[Item]:
        """The next `count` items."""
        while len(self._undealt) < count:
            self._undealt += self._rng.sample(self._items, len(self._items))
        dealt, self._undealt = self._undealt[:count], self._undealt[count:]
        return dealt
