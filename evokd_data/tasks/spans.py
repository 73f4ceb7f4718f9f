"""Spans of a text: located by their surface, checked, and compared. Pure functions.

Annotations are flat: spans do not overlap, no span lies in another, and each begins and ends where a word does.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from evokd_data.records import Mistake, Span
from evokd_data.tasks.marking import word_offsets

REASONS = {
    "span_not_in_text": "a span is not in the text",
    "misaligned": "a span begins or ends within a word",
    "ambiguous": "one span is given two types",
    "overlap": "two spans overlap, and neither holds the other",
}
"""Why `locate` finds no annotation."""

KINDS = ("missed", "spurious", "wrong_type", "wrong_boundary")
"""Kinds of mistakes."""


def locate(text: str, surfaces: Iterable[tuple[str, str]]) -> tuple[Span, ...]:
    """Spans for (surface, type) pairs without offsets: each pair stands for all occurrences that are whole words.

    The longest surface is placed first and keeps the characters it covers. With "New York Times" and "New York", the
    latter gets the occurrences outside the former. It gets none if it never stands alone: the outermost span counts, as in
    CoNLL. Raises ValueError with a key of REASONS.
    """
    types: dict[str, str] = {}
    for surface, type_ in surfaces:
        if types.setdefault(surface, type_) != type_:
            raise ValueError("ambiguous")
    offsets = word_offsets(text)
    starts, ends = {start for start, _ in offsets}, {end for _, end in offsets}
    span_at: list[Span | None] = [None] * len(text)
    for surface, type_ in sorted(types.items(), key=lambda item: (-len(item[0]), item[0])):
        occurrences = list(_occurrences(surface, text))
        if not occurrences:
            raise ValueError("span_not_in_text")
        whole_words = [start for start in occurrences if start in starts and start + len(surface) in ends]
        if not whole_words:
            raise ValueError("misaligned")
        placed = inside = False
        for start in whole_words:
            covered = span_at[start : start + len(surface)]
            if not any(covered):
                span = Span(start, start + len(surface), type_, surface)
                span_at[start : start + len(surface)] = [span] * len(surface)
                placed = True
            elif covered[0] is not None and covered[0] is covered[-1]:
                inside = True
        if not (placed or inside):
            raise ValueError("overlap")
    return tuple(dict.fromkeys(span for span in span_at if span))


def without_invisible_edges(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """The spans without words of format characters (soft hyphens, zero-width spaces, byte order marks) at their edges.

    Nobody sees them, most tokenizers drop them, and annotators leave them out as often as not. A span of nothing else stays.
    """
    if text.isascii():
        yield from spans
        return
    invisible = {offsets for offsets in word_offsets(text) if _is_invisible(text[slice(*offsets)])}
    starts, ends = dict(invisible), {end: start for start, end in invisible}
    for span in spans:
        start, end = span.start, span.end
        while start in starts and start < end:
            start = end - len(text[starts[start] : end].lstrip())
        while end in ends and start < end:
            end = start + len(text[start : ends[end]].rstrip())
        changed = start < end and (start, end) != (span.start, span.end)
        yield Span(start, end, span.type, text[start:end]) if changed else span


def _is_invisible(word: str) -> bool:
    return all(unicodedata.category(character) == "Cf" for character in word)


def _occurrences(surface: str, text: str) -> Iterator[int]:
    start = text.find(surface) if surface else -1
    while start >= 0:
        yield start
        start = text.find(surface, start + 1)


def fault(text: str, spans: Sequence[Span], types: Sequence[str]) -> str:
    """Why these spans cannot be right for this text; "" when they can."""
    offsets = word_offsets(text)
    starts, ends = {start for start, _ in offsets}, {end for _, end in offsets}
    for span in spans:
        where = f"span {span.surface!r} at {span.start}:{span.end}"
        if span.type not in types:
            return f"{span.type!r} is no type of the task"
        if not 0 <= span.start < span.end <= len(text):
            return f"{where} is not within the text's {len(text)} characters"
        if text[span.start : span.end] != span.surface:
            return f"{where} has moved: the text says {text[span.start : span.end]!r} there"
        if span.surface != span.surface.strip():
            return f"{where} has white space at its edge"
        if span.start not in starts or span.end not in ends:
            return f"{where} begins or ends within a word"
    for left, right in pairwise(spans):
        if right.start < left.start:
            return f"spans {left.surface!r} and {right.surface!r} are not in the order of the text"
        if right.start < left.end:
            return f"spans {left.surface!r} and {right.surface!r} overlap"
    return ""


def mistakes(expected: Sequence[Span], got: Sequence[Span]) -> list[Mistake]:
    """What is wrong with the predicted spans `got`. Each expected and each predicted span is in at most one mistake.

    Spans with the same offsets and type are right. The others are paired, those with most characters in common first:
    `wrong_boundary` (expected = the type, got = "": no other class was predicted) when the types of a pair agree,
    `wrong_type` when they do not. An unpaired span is `missed` (got = "") or `spurious` (expected = "").
    """
    right = {span.place for span in expected} & {span.place for span in got}
    expectations = [span for span in expected if span.place not in right]
    predictions = [span for span in got if span.place not in right]
    pairs = [
        (-common, expectation.type != prediction.type, i, j)
        for i, expectation in enumerate(expectations)
        for j, prediction in enumerate(predictions)
        if (common := min(expectation.end, prediction.end) - max(expectation.start, prediction.start)) > 0
    ]
    paired_expectations: set[int] = set()
    paired_predictions: set[int] = set()
    result = []
    for _, types_differ, i, j in sorted(pairs):
        if i in paired_expectations or j in paired_predictions:
            continue
        paired_expectations.add(i)
        paired_predictions.add(j)
        if types_differ:
            result.append(Mistake("wrong_type", expectations[i].type, predictions[j].type))
        else:
            result.append(Mistake("wrong_boundary", expectations[i].type, ""))
    result += [Mistake("missed", span.type, "") for i, span in enumerate(expectations) if i not in paired_expectations]
    result += [Mistake("spurious", "", span.type) for j, span in enumerate(predictions) if j not in paired_predictions]
    return result


def tally(mistakes: Iterable[Mistake]) -> dict[str, int]:
    """The number of mistakes of each kind; 0 for a kind that does not occur."""
    counts = Counter(mistake.kind for mistake in mistakes)
    return {kind: counts[kind] for kind in KINDS}
