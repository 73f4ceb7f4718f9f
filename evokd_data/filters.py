"""Drafts become samples or rejections with a reason; nothing is dropped in silence.

Drafts come in index order, so the result does not depend on shard size, on the order of completions or on how many
workers asked. Kept + rejected = asked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evokd_data.records import Draft, Rejection, Sample
from evokd_data.tasks import sample_id

if TYPE_CHECKING:
    from evokd_data.recipe import Filters
    from evokd_data.tasks import Task

REASONS = {
    "missing": "the teacher wrote fewer texts than asked for",
    "truncated": "the answer was cut at max_tokens before this text was whole",
    "unreadable": "the answer is not of the form asked for",
    "too_long_prompt": "the prompt does not fit into the model's context",
    "no_label": "the labelling answer is empty",
    "label_not_allowed": "the labelling answer is no label of the task",
    "span_not_in_text": "the labelling answer names a span that the text does not hold",
    "text_changed": "the marked answer says something else than the text",
    "unknown_type": "the labelling answer uses a type that is not the task's",
    "misaligned": "a span begins or ends within a word",
    "ambiguous": "one surface is given two types, or a bracket could be the text's or a mark's",
    "overlap": "two spans overlap, or a mark stands in a mark",
    "invalid_target": "the target cannot be right for the text",
    "label_disagreement": "the label differs from the one the text was written for (policy: reject)",
    "label_tie": "the labelling votes have no majority",
    "too_short": "fewer characters than filters.min_characters",
    "too_long": "more characters than filters.max_characters",
    "duplicate": "the text was kept before, but for case, punctuation and white space",
    "near_duplicate": "too alike to a text kept before",
    "test_overlap": "repeats, or nearly repeats, a text of the test or dev set",
}
"""Every reason of a rejection, with what it means; the card prints this table."""

PERMUTATIONS = 128  # standard error of an estimated similarity of 0.85: 0.03
FOUND = 0.99  # probability that a pair as alike as the threshold becomes a candidate
SHINGLE = 5  # characters
MINHASH_SEED = 1


def normal(text: str) -> str:
    """A text without case, punctuation and runs of white space, compatibility forms folded (NFKC)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_NOT_WORD.sub(" ", folded).split())


_NOT_WORD = re.compile(r"[\W_]+")


@dataclass
class Likeness:
    """An index of texts that answers: was this one, or nearly this one, here before?

    MinHash signatures over character 5-grams with banded LSH (Broder 1997; rensa's implementation); candidates are
    verified by the signatures' estimated Jaccard similarity. About 1.2 KB a text.
    """

    threshold: float
    _exact: dict[str, str] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _signatures: list[Any] = field(default_factory=list)
    _index: Any = None

    def add(self, text: str, name: str) -> None:
        """Remember a text under the name it will be reported by."""
        form = normal(text)
        self._exact.setdefault(form, name)
        if self.threshold < 1:
            if self._index is None:
                from rensa import RMinHashLSH

                self._index = RMinHashLSH(self.threshold, PERMUTATIONS, bands(self.threshold))
            signature = self._signature(form)
            self._index.insert(len(self._names), signature)
            self._names.append(name)
            self._signatures.append(signature)

    def find(self, text: str) -> tuple[str, str, float] | None:
        """("duplicate" | "near_duplicate", the name of the text it is like, similarity), the first added winning ties."""
        form = normal(text)
        if form in self._exact:
            return "duplicate", self._exact[form], 1.0
        if self._index is None:
            return None
        signature = self._signature(form)
        best: tuple[float, int] | None = None
        for place in self._index.query(signature):
            similarity = signature.jaccard(self._signatures[place])
            if similarity >= self.threshold and (best is None or (similarity, -place) > best):
                best = (similarity, -place)
        return None if best is None else ("near_duplicate", self._names[-best[1]], best[0])

    @staticmethod
    def _signature(form: str) -> Any:
        from rensa import RMinHash

        signature = RMinHash(PERMUTATIONS, MINHASH_SEED)
        signature.update([form[i : i + SHINGLE] for i in range(max(1, len(form) - SHINGLE + 1))])
        return signature


def bands(threshold: float) -> int:
    """Into how many bands a signature is cut: the fewest with which a pair at the threshold is `FOUND`, at least 16.

    b bands of r rows find a pair of similarity s with probability 1 - (1 - s^r)^b: at 0.85, 16 bands of 8 with 0.994.
    """
    for count in (16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // count)) ** count >= FOUND:
            return count
    return PERMUTATIONS


class Sieve:
    """All filters of a round, with what they remember of earlier rounds.

    `protected` are the texts of test and dev: they are compared with and nothing else; a rejection names none of them.
    """

    def __init__(self, filters: Filters, task: Task, protected: Iterable[str]) -> None:
        self._filters = filters
        self._task = task
        self._kept = Likeness(filters.near_duplicates)
        self._protected = Likeness(filters.near_duplicates)
        for text in protected:
            self._protected.add(text, "")

    def remember(self, sample: Sample) -> None:
        """A sample of an earlier round or of a finished shard: later texts must differ from it."""
        self._kept.add(sample.text, sample.id)

    def admit(self, draft: Draft) -> Sample | Rejection:
        """The draft as a sample, or the first reason against it."""

        def reject(reason: str, detail: str = "") -> Rejection:
            return Rejection(reason, draft.text, draft.origin, detail)

        if draft.problem:
            return reject(draft.problem)
        length = len(draft.text)
        if length < self._filters.min_characters:
            return reject("too_short", f"{length} characters")
        if length > self._filters.max_characters:
            return reject("too_long", f"{length} characters")
        assert draft.target is not None
        if problem := self._task.check(draft.text, draft.target):
            return reject("invalid_target", problem)
        intended = draft.origin.intended
        if self._filters.label_disagreement == "reject" and intended and not self._task.carries(draft.target, intended):
            return reject("label_disagreement", f"asked for {intended}")
        if self._protected.find(draft.text):
            return reject("test_overlap")
        if found := self._kept.find(draft.text):
            reason, name, similarity = found
            return reject(reason, f"{name} ({similarity:.2f})")
        sample = Sample(
            sample_id(self._task, draft.text, draft.target), draft.text, draft.target, draft.origin, draft.soft
        )
        self.remember(sample)
        return sample
