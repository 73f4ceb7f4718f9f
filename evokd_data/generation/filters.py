"""Filters turn drafts into samples, or into rejections with a reason; no draft is dropped without one.

Drafts come in index order. So the result depends neither on the shard size nor on the order of completions nor on the
number of workers. Kept + rejected = asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evokd_data.generation.near_duplicates import MinHashIndex
from evokd_data.generation.text_filters import TextFilters
from evokd_data.records import Draft, Rejection, Sample
from evokd_data.strategies import NO_PROBLEM
from evokd_data.tasks import sample_id

if TYPE_CHECKING:
    from evokd_data.recipe_sections import Filters
    from evokd_data.tasks import Task

REASONS = {
    "missing": "the teacher wrote fewer texts than asked for",
    "truncated": "the answer was cut at max_tokens before this text was whole",
    "unreadable": "the answer is not of the form asked for",
    "too_long_prompt": "the prompt does not fit into the model's context",
    "refused": "the teacher's server or engine refused this prompt alone, or failed on it",
    "name_not_in_text": "the text lacks a name that it was to be written around",
    "no_label": "the labelling answer is empty",
    "label_not_allowed": "the labelling answer is no label of the task",
    "span_not_in_text": "the labelling answer names a span that the text does not hold",
    "text_changed": "the marked answer says something else than the text",
    "unknown_type": "the labelling answer uses a type that is not the task's",
    "misaligned": "a span begins or ends within a word",
    "ambiguous": "one surface is given two types, or a bracket could be the text's or a mark's",
    "overlap": "two spans overlap, or a mark stands in a mark",
    "invalid_target": "the target cannot be right for the text",
    "label_disagreement": "the teacher's label is another than the one the text was written for",
    "label_uncertain": "the label is less sure than it must be",
    "label_tie": "the labelling votes have no majority",
    "too_short": "fewer characters than filters.min_characters",
    "too_long": "more characters than filters.max_characters",
    "duplicate": "the text was kept before, or written before by the same request, but for case, punctuation and white space",
    "near_duplicate": "too alike to a text kept before, or written before by the same request",
    "test_overlap": "repeats, or nearly repeats, a text of the test or dev set",
    "unlike_length": "far shorter or longer than any seed",
    "unlike_script": "in a script that no seed has",
    "unlike_question": "no question, though all seeds are",
    "span_punctuation": "a span has neither letter nor digit",
    "span_whole_text": "a span is nearly the whole text",
    "span_too_long": "a span is far longer than any of the seeds'",
    "round_full": "the round held rounds.samples texts already",
}
"""Every reason of a rejection, and its meaning. The dataset card prints this table."""


class FilterPipeline:
    """All filters of a round, and the texts of the round that it has accepted.

    `text_filters` come first; strategies apply them before they ask for a label, and here they meet what changed since, or was never
    labelled. `scratch` is the folder for the scratch file of `MinHashIndex`. The round is full with `limit` texts; None is no limit.
    """

    def __init__(
        self,
        filters: Filters,
        task: Task,
        text_filters: TextFilters,
        scratch: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self._filters = filters
        self._task = task
        self.text_filters = text_filters
        self._accepted = MinHashIndex(filters.near_duplicates, scratch)
        self._limit = limit
        self._count = 0

    def accept(self, sample: Sample) -> None:
        """A sample of this round: later texts must differ from it, and the round holds one more."""
        self._accepted.add(sample.text, sample.id)
        self._count += 1

    def apply(self, draft: Draft) -> Sample | Rejection:
        """The draft as a sample, or the first reason against it."""

        def reject(reason: str, detail: str = "") -> Rejection:
            return Rejection(reason, draft.text, draft.origin, detail)

        if draft.problem:
            return reject(draft.problem, draft.detail)
        problem = self.text_filters.problem(draft.text, draft.origin)
        if problem != NO_PROBLEM:
            return reject(*problem)
        assert draft.target is not None
        if fault := self._task.check(draft.text, draft.target):
            return reject("invalid_target", fault)
        if self._filters.seed_form:
            problem = self.text_filters.seed_form.span_problem(draft.text, draft.target)
            if problem != NO_PROBLEM:
                return reject(*problem)
        if match := self._accepted.find(draft.text):
            reason, name, similarity = match
            return reject(reason, f"{name} ({similarity:.2f})")
        if self._limit is not None and self._count >= self._limit:
            return reject("round_full")
        sample = Sample(
            sample_id(self._task, draft.text, draft.target), draft.text, draft.target, draft.origin, draft.soft
        )
        self.accept(sample)
        return sample
