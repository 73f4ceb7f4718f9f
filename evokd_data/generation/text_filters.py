"""Filters that need nothing but the text. They are applied before a label is asked for: no label prompt is spent on what they drop.

A text is compared with what stays the same while a round is written: the texts of test and dev, the seeds, the samples of earlier
rounds, and the texts that the same request wrote before it. So what is dropped depends neither on the order of answers nor on
which worker writes the request. Whether a text repeats another request's text of the same round does depend on the order: the
filter pipeline decides it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.generation.near_duplicates import MinHashIndex
from evokd_data.generation.seed_form import SeedForm
from evokd_data.records import Origin
from evokd_data.strategies import NO_PROBLEM, POOL, TextProblem

if TYPE_CHECKING:
    from evokd_data.recipe_sections import Filters
    from evokd_data.records import Sample

Overlaps = Mapping[tuple[int, int], str]
"""(index of a request, position in it) -> a text there that is known to repeat the test set."""


class TextFilters:
    """The filters of a round that need the text alone.

    `protected` are the texts of test and dev. They are only compared with; no rejection names one of them. `overlaps` stand for
    them where they are not known. `earlier` are the samples of all earlier rounds, read when the first text is checked. `scratch`
    is the folder for the scratch file of `MinHashIndex`. A pickle holds no text of test and dev, only their signatures.
    """

    def __init__(
        self,
        filters: Filters,
        protected: Iterable[str] | MinHashIndex = (),
        earlier: Sequence[Sample] = (),
        overlaps: Overlaps | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._filters = filters
        self._overlaps = overlaps or {}
        self._samples = earlier
        self._earlier = MinHashIndex(filters.near_duplicates, scratch)
        self._is_read = False
        self.seed_form = SeedForm()
        if isinstance(protected, MinHashIndex):
            self._protected = protected
            return
        self._protected = MinHashIndex(filters.near_duplicates)
        for text in protected:
            self._protected.add(text, "")

    def __reduce__(self) -> tuple[Any, ...]:
        return TextFilters, (self._filters, self._protected, self._samples, self._overlaps)

    def read_earlier(self) -> None:
        """Read the samples of earlier rounds: texts must differ from them, and the seeds show what texts look like."""
        if self._is_read:
            return
        self._is_read = True
        for sample in self._samples:
            self._earlier.add(sample.text, sample.id)
            if sample.origin.round == 0:
                self.seed_form.learn(sample)

    def problem(self, text: str, origin: Origin) -> TextProblem:
        """The first reason against a text, as (reason, detail); NO_PROBLEM for a text that passes."""
        self.read_earlier()
        length = len(text)
        if length < self._filters.min_characters:
            return "too_short", f"{length} characters"
        if length > self._filters.max_characters:
            return "too_long", f"{length} characters"
        if self._overlaps.get((origin.request, origin.position)) == text or self._protected.find(text):
            return "test_overlap", ""
        if self._filters.seed_form and origin.strategy != POOL:  # a real text is as it is
            problem = self.seed_form.text_problem(text)
            if problem != NO_PROBLEM:
                return problem
        if match := self._earlier.find(text):
            return match[0], f"{match[1]} ({match[2]:.2f})"
        return NO_PROBLEM

    def problems(self, texts: Sequence[str], origins: Sequence[Origin]) -> list[TextProblem]:
        """The problem of each text of one request, in order: as `problem`, and that it repeats a text before it which has none."""
        passed = MinHashIndex(self._filters.near_duplicates)
        problems = []
        for text, origin in zip(texts, origins, strict=True):
            problem = self.problem(text, origin)
            if problem == NO_PROBLEM and (match := passed.find(text)):
                problem = match[0], f"text {match[1]} of the request ({match[2]:.2f})"
            if problem == NO_PROBLEM:
                passed.add(text, str(origin.position))
            problems.append(problem)
        return problems
