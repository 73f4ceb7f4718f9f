"""What the seeds look like, and what in a text or its spans cannot be seen in any of them.

Small teachers answer with statements where questions are wanted, write in another script, or mark four fifths of a text as one span. No
label is read for this: the form of the user's own texts decides. The bounds are wide, because seeds are few: `bench/seed_form.py` counts
the real texts that they would drop.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

from evokd_data.records import Sample, Span, Target

ENOUGH_SEEDS = 10
"""Fewer seeds do not show that all texts are questions, or how long texts are."""
LENGTH_FACTOR = 4.0
"""A text may be this many times as long as the longest seed, or as short against the shortest."""
SPAN_FACTOR = 3.0
"""A span may be this many times as long as the longest of the seeds."""
LARGE_SHARE = 0.8
"""A span of as much of a text is no part of it any more, unless a seed has one as large."""
QUESTION_MARKS = "?\uff1f\u061f\u037e\u055e\u1367"  # Latin, full-width, Arabic, Greek, Armenian, Ethiopic


class SeedForm:
    """The form of the seeds: lengths, script, question or not, and the sizes of spans."""

    def __init__(self) -> None:
        self._count = self._questions = 0
        self._shortest = self._longest = 0
        self._scripts: Counter[str] = Counter()
        self._longest_span = 0
        self._largest_share = 0.0
        self._types_of_symbols: set[str] = set()
        """Types of spans without letter or digit: emoticons, currency signs."""

    def learn(self, seed: Sample) -> None:
        """Another seed."""
        length = len(seed.text)
        self._shortest = min(self._shortest, length) if self._count else length
        self._longest = max(self._longest, length)
        self._count += 1
        self._questions += _is_question(seed.text)
        self._scripts.update(scripts(seed.text).keys())
        for span in _spans(seed.target):
            self._longest_span = max(self._longest_span, span.end - span.start)
            self._largest_share = max(self._largest_share, (span.end - span.start) / length)
            if not _has_word(span):
                self._types_of_symbols.add(span.type)

    def text_problem(self, text: str) -> tuple[str, str]:
        """(reason of a rejection, its detail) for a text that no seed resembles; ("", "") for any other."""
        if self._count < ENOUGH_SEEDS:
            return "", ""
        length = len(text)
        if not self._shortest / LENGTH_FACTOR <= length <= self._longest * LENGTH_FACTOR:
            return "unlike_length", f"{length} characters, the seeds {self._shortest} to {self._longest}"
        letters = scripts(text)
        if letters and (main := letters.most_common(1)[0][0]) not in self._scripts:
            return "unlike_script", f"{main}, the seeds {', '.join(sorted(self._scripts))}"
        if self._questions == self._count and not _is_question(text):
            return "unlike_question", "no question, as all seeds are"
        return "", ""

    def span_problem(self, text: str, target: Target) -> tuple[str, str]:
        """(reason of a rejection, its detail) for spans that are no part of a text as those of the seeds are; ("", "") for others."""
        for span in _spans(target):
            length = span.end - span.start
            if not _has_word(span) and span.type not in self._types_of_symbols:
                return "span_punctuation", f"{span.type}: {span.surface!r}"
            if length / len(text) >= LARGE_SHARE and length / len(text) > self._largest_share:
                return "span_whole_text", f"{span.type}: {length} of {len(text)} characters"
            if self._longest_span and length > SPAN_FACTOR * self._longest_span:
                return "span_too_long", f"{span.type}: {length} characters, in the seeds at most {self._longest_span}"
        return "", ""


def scripts(text: str) -> Counter[str]:
    """Letters by script: the first word of their Unicode names, such as LATIN, CYRILLIC or CJK."""
    return Counter(unicodedata.name(c, "").partition(" ")[0].partition("-")[0] for c in text if c.isalpha())


def _is_question(text: str) -> bool:
    return text.rstrip(" \"'»”)").endswith(tuple(QUESTION_MARKS))


def _has_word(span: Span) -> bool:
    return any(character.isalnum() for character in span.surface)


def _spans(target: Target) -> tuple[Span, ...]:
    return () if isinstance(target, str) else target
