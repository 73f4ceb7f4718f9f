"""Words of a text, and spans as one tag per word (IOB2): what a student learns and predicts.

    text  play around the world by daft punk
    tags  O    B-track I-track I-track O B-artist I-artist

The words are those of `marking`, so a student can learn every span that the teacher can mark. Tags are written as IOB2
and read in any of the usual dialects (IOB1, IOB2, BIOES, BILOU, BMEWO): see `runs`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from evokd_data.records import Span, TokenExample
from evokd_data.writing_systems import WITHOUT_SPACES

Offsets = Sequence[tuple[int, int]]
"""The words' characters [start, end) in a text, in order, without overlap."""

Run = tuple[int, int, str]
"""Words [first, last) of one type."""

OUTSIDE = "O"
_TAG = re.compile(r"([BIESLUMW])-(\S.*)")
_BEGINS, _ENDS = "BSUW", "ESLUW"

_UNSPACED = re.compile(f"[{WITHOUT_SPACES}]")
_WIDE_MARK = re.compile("[\u3001-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")
_JOINER = "\u200d"


def classes(types: Sequence[str]) -> tuple[str, ...]:
    """The tags of these types in index order: O, then B- and I- of each type."""
    return (OUTSIDE, *(f"{prefix}-{type_}" for type_ in types for prefix in "BI"))


def is_tag(word: str) -> bool:
    """Whether this is a tag of some dialect: O, or a letter, a hyphen and a type."""
    return word == OUTSIDE or _TAG.fullmatch(word) is not None


def type_of(tag: str) -> str:
    """The type of a tag; "" for O. Raises ValueError for what is no tag."""
    if tag == OUTSIDE:
        return ""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"{tag!r} is no tag: write O, B-type or I-type")
    return match[2]


def tags(spans: Sequence[Span], offsets: Offsets) -> list[str]:
    """One IOB2 tag per word.

    Raises ValueError for a span that does not begin and end where words do, or that overlaps another one.
    """
    first = {start: index for index, (start, _) in enumerate(offsets)}
    last = {end: index for index, (_, end) in enumerate(offsets)}
    result = [OUTSIDE] * len(offsets)
    for span in spans:
        begin, end = first.get(span.start, -1), last.get(span.end, -1)
        if not 0 <= begin <= end:
            raise ValueError(f"{span.surface!r} does not begin and end where words do")
        if any(tag != OUTSIDE for tag in result[begin : end + 1]):
            raise ValueError(f"{span.surface!r} overlaps another span")
        result[begin : end + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (end - begin)
    return result


def runs(tags: Sequence[str]) -> list[Run]:
    """The runs of words that tags of any dialect stand for.

    B, S, U and W begin a run, E, S, L, U and W end one, I and M (and E, L) continue one. A continuing tag begins a run
    when no run of its type is open. So IOB1 can be read, and a student's illegal IOB2 is repaired ("O I-x" is "O B-x",
    "B-y I-x" is "B-y B-x"), as transformers' token-classification pipeline and seqeval's default mode do.
    Raises ValueError quoting a value that is no tag.
    """
    result: list[Run] = []
    open_type = ""
    for index, tag in enumerate(tags):
        if tag == OUTSIDE:
            open_type = ""
            continue
        match = _TAG.fullmatch(tag)
        if match is None:
            raise ValueError(f"{tag!r} is no tag: write O, B-type or I-type")
        prefix, type_ = match.groups()
        if prefix in _BEGINS or type_ != open_type:
            result.append((index, index + 1, type_))
        else:
            result[-1] = (result[-1][0], index + 1, type_)
        open_type = "" if prefix in _ENDS else type_
    return result


def spans(runs: Sequence[Run], offsets: Offsets, text: str) -> tuple[Span, ...]:
    """Runs of words as spans of the text, in the same order. `offsets` are those of the words."""
    return tuple(
        Span(start, end, type_, text[start:end])
        for start, end, type_ in ((offsets[first][0], offsets[last - 1][1], type_) for first, last, type_ in runs)
    )


def join_tokens(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """One text made of another tokenizer's tokens, and their offsets in it. Each token begins and ends where a word does.

    Tokens are separated by a blank, except between two characters of scripts without spaces (Chinese, Japanese, Thai, Lao,
    Burmese, Khmer) and around wide punctuation. Tokens must not be blank.
    """
    text = ""
    offsets = []
    for token in tokens:
        token = token.strip()
        if text and not _adjacent(text[-1], token[0]):
            text += " "
        offsets.append((len(text), len(text) + len(token)))
        text += token
    return text, offsets


def _adjacent(left: str, right: str) -> bool:
    """Whether two tokens that end and begin with these characters are written without a blank between them."""
    if unicodedata.category(right).startswith("M") or _JOINER in (left, right):
        return False  # without a blank it would become one character with the one before it
    unspaced = _UNSPACED.match(left) and _UNSPACED.match(right)
    return bool(unspaced or _WIDE_MARK.match(left) or _WIDE_MARK.match(right))


def most_probable(example: TokenExample, probabilities: Any) -> list[int]:
    """A class index for each word of the example; O where the student gave no probabilities."""
    tags = probabilities.argmax(axis=1).tolist() if len(probabilities) else []
    return tags + [0] * (len(example.words) - len(tags))


def text_of(example: TokenExample) -> str:
    """The words at their offsets, with blanks between them."""
    text = ""
    for word, (start, _) in zip(example.words, example.offsets, strict=True):
        text = text.ljust(start) + word
    return text
