"""Spans of a text: found by what they say, checked, and compared. Pure.

A flat annotation: spans do not overlap and none lies in another, each begins and ends where a word does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from evokd_data.records import Mistake, Span
from evokd_data.tasks.marking import words

REASONS = {
    "span_not_in_text": "a span is not in the text",
    "misaligned": "a span begins or ends within a word",
    "ambiguous": "one span is given two types",
    "overlap": "two spans overlap, and neither holds the other",
}
"""Why `locate` finds no annotation."""

KINDS = ("missed", "spurious", "wrong_type", "wrong_boundary")
"""Kinds of mistakes."""

Key = tuple[int, int, str]
"""Where a span is and its type. Its surface is left out: in a prediction, white space in it is all blanks."""


def locate(text: str, wanted: Iterable[tuple[str, str]]) -> tuple[Span, ...]:
    """Spans for (surface, type) pairs that do not say where: each stands for all its occurrences that are whole words.

    The longest surface is placed first and keeps what it covers: with "New York Times" and "New York", the latter is found
    where the former is not, and not found at all if it never stands alone (the outermost span counts, as in CoNLL).
    Raises ValueError, a key of REASONS.
    """
    types: dict[str, str] = {}
    for surface, type_ in wanted:
        if types.setdefault(surface, type_) != type_:
            raise ValueError("ambiguous")
    places = words(text)
    starts, ends = {start for start, _ in places}, {end for _, end in places}
    owner: list[Span | None] = [None] * len(text)
    for surface, type_ in sorted(types.items(), key=lambda item: (-len(item[0]), item[0])):
        everywhere = list(_occurrences(surface, text))
        if not everywhere:
            raise ValueError("span_not_in_text")
        whole = [at for at in everywhere if at in starts and at + len(surface) in ends]
        if not whole:
            raise ValueError("misaligned")
        placed = inside = False
        for at in whole:
            covered = owner[at : at + len(surface)]
            if not any(covered):
                span = Span(at, at + len(surface), type_, surface)
                owner[at : at + len(surface)] = [span] * len(surface)
                placed = True
            elif covered[0] is not None and covered[0] is covered[-1]:
                inside = True
        if not (placed or inside):
            raise ValueError("overlap")
    return tuple(dict.fromkeys(span for span in owner if span))


def _occurrences(surface: str, text: str) -> Iterator[int]:
    at = text.find(surface) if surface else -1
    while at >= 0:
        yield at
        at = text.find(surface, at + 1)


def fault(text: str, spans: Sequence[Span], types: Sequence[str]) -> str:
    """Why these spans cannot be right for this text; "" when they can."""
    places = words(text)
    starts, ends = {start for start, _ in places}, {end for _, end in places}
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
    for one, next_ in pairwise(spans):
        if next_.start < one.start:
            return f"spans {one.surface!r} and {next_.surface!r} are not in the order of the text"
        if next_.start < one.end:
            return f"spans {one.surface!r} and {next_.surface!r} overlap"
    return ""


def mistakes(expected: Sequence[Span], got: Sequence[Span]) -> list[Mistake]:
    """What is wrong with the spans got, each expected and each got span in at most one mistake.

    Spans alike in place and type are right. The rest is paired, most characters in common first:
    `wrong_boundary` (expected = the type, got = "": nothing else was seen there) when a pair's types agree,
    `wrong_type` when they do not. What is left is `missed` (got = "") or `spurious` (expected = "").
    """
    right = {_key(span) for span in expected} & {_key(span) for span in got}
    wanted = [span for span in expected if _key(span) not in right]
    found = [span for span in got if _key(span) not in right]
    pairs = [
        (-common, one.type != other.type, i, j)
        for i, one in enumerate(wanted)
        for j, other in enumerate(found)
        if (common := min(one.end, other.end) - max(one.start, other.start)) > 0
    ]
    paired_wanted: set[int] = set()
    paired_found: set[int] = set()
    made = []
    for _, differ, i, j in sorted(pairs):
        if i in paired_wanted or j in paired_found:
            continue
        paired_wanted.add(i)
        paired_found.add(j)
        if differ:
            made.append(Mistake("wrong_type", wanted[i].type, found[j].type))
        else:
            made.append(Mistake("wrong_boundary", wanted[i].type, ""))
    made += [Mistake("missed", span.type, "") for i, span in enumerate(wanted) if i not in paired_wanted]
    made += [Mistake("spurious", "", span.type) for j, span in enumerate(found) if j not in paired_found]
    return made


def tally(made: Iterable[Mistake]) -> dict[str, int]:
    """Mistakes by kind, all kinds."""
    counts = Counter(mistake.kind for mistake in made)
    return {kind: counts[kind] for kind in KINDS}


def _key(span: Span) -> Key:
    return span.start, span.end, span.type
