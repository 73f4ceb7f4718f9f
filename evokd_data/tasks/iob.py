"""Words of a text, and spans as one tag a word (IOB2): what a student learns and predicts.

    text  play around the world by daft punk
    tags  O    B-track I-track I-track O B-artist I-artist

`words` are those of `marking`, so a span the teacher can mark is a span the student can learn. Tags are written as IOB2
and read in any of the usual dialects (IOB1, IOB2, BIOES, BILOU, BMEWO): see `runs`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from evokd_data.records import Span
from evokd_data.tasks.marking import words

__all__ = ["OUTSIDE", "Offsets", "Run", "classes", "is_tag", "joined", "runs", "spans", "tags", "words"]

Offsets = Sequence[tuple[int, int]]
"""Where words stand in a text: characters [start, end), in order, without overlap."""

Run = tuple[int, int, str]
"""Words [first, last) of one type."""

OUTSIDE = "O"
_TAG = re.compile(r"([BIESLUMW])-(\S.*)")
_BEGINS, _ENDS = "BSUW", "ESLUW"

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
_WIDE_MARK = re.compile("[\u3001-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")
_JOINER = "\u200d"


def classes(types: Sequence[str]) -> tuple[str, ...]:
    """The tags of these types in index order: O, then B- and I- of each type."""
    return (OUTSIDE, *(f"{prefix}-{type_}" for type_ in types for prefix in "BI"))


def is_tag(word: str) -> bool:
    """Whether this is a tag of some dialect: O, or a letter, a hyphen and a type."""
    return word == OUTSIDE or _TAG.fullmatch(word) is not None


def tags(found: Sequence[Span], offsets: Offsets) -> list[str]:
    """One IOB2 tag a word. Raises ValueError for a span that does not begin and end where words do, or overlaps another."""
    first = {start: index for index, (start, _) in enumerate(offsets)}
    last = {end: index for index, (_, end) in enumerate(offsets)}
    result = [OUTSIDE] * len(offsets)
    for span in found:
        begin, end = first.get(span.start, -1), last.get(span.end, -1)
        if not 0 <= begin <= end:
            raise ValueError(f"{span.surface!r} does not begin and end where words do")
        if any(tag != OUTSIDE for tag in result[begin : end + 1]):
            raise ValueError(f"{span.surface!r} overlaps another span")
        result[begin : end + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (end - begin)
    return result


def runs(tagged: Sequence[str]) -> list[Run]:
    """The runs of words that tags of any dialect stand for.

    B, S, U and W begin a run, E, S, L, U and W end one, I and M (and E, L) go on. A tag that goes on where nothing of its
    type is open begins a run: so IOB1 is read, and so illegal IOB2 of a student is mended ("O I-x" is "O B-x", "B-y I-x" is
    "B-y B-x"), as transformers' token-classification pipeline and seqeval's default mode do.
    Raises ValueError, quoting it, for what is no tag.
    """
    found: list[Run] = []
    open_type = ""
    for index, tag in enumerate(tagged):
        if tag == OUTSIDE:
            open_type = ""
            continue
        match = _TAG.fullmatch(tag)
        if match is None:
            raise ValueError(f"{tag!r} is no tag: write O, B-type or I-type")
        prefix, type_ = match.groups()
        if prefix in _BEGINS or type_ != open_type:
            found.append((index, index + 1, type_))
        else:
            found[-1] = (found[-1][0], index + 1, type_)
        open_type = "" if prefix in _ENDS else type_
    return found


def spans(found: Sequence[Run], offsets: Offsets, text: str) -> tuple[Span, ...]:
    """Runs of words as spans of the text, in their order. `offsets` say where the words are."""
    return tuple(
        Span(start, end, type_, text[start:end])
        for start, end, type_ in ((offsets[first][0], offsets[last - 1][1], type_) for first, last, type_ in found)
    )


def joined(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """One text of somebody else's tokens, and where they stand in it; each begins and ends where a word does.

    Blanks between tokens, but not between two characters of scripts without spaces (Chinese, Japanese, Thai, Lao, Burmese,
    Khmer), nor around wide punctuation. Tokens must not be blank.
    """
    text = ""
    offsets = []
    for token in tokens:
        token = token.strip()
        if text and not _touch(text[-1], token[0]):
            text += " "
        offsets.append((len(text), len(text) + len(token)))
        text += token
    return text, offsets


def _touch(left: str, right: str) -> bool:
    if unicodedata.category(right).startswith("M") or _JOINER in (left, right):
        return False  # would grow together with what is before it
    unspaced = _UNSPACED.match(left) and _UNSPACED.match(right)
    return bool(unspaced or _WIDE_MARK.match(left) or _WIDE_MARK.match(right))
