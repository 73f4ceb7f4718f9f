"""Weaknesses: the kinds of mistakes in predictions on samples the student had not trained on, worst first. Pure.

What looks like a mistake of the student may be a wrong label of the teacher's, and among the texts that the student gets surely
"wrong" such labels are the most frequent: by that criterion confident learning finds label errors (Northcutt et al. 2021). So a
mistake counts only where the text's label can be trusted, and of the trusted texts those are shown of which the student is least sure.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any

from evokd_data.records import Prediction, Sample, Weakness

if TYPE_CHECKING:
    from evokd_data.tasks import Task

EXAMPLES = 8  # texts kept for the analysis of one weakness, of either kind
TRUSTED = 0.8
"""The least probability of a label whose text counts. Texts of which no probability is known count, too."""
KAPPA = 10.0
"""How many texts the mean of all classes counts for in the rate of each: a few texts say little."""
DECIMALS = 6

Kind = tuple[str, str, str]
"""A mistake's kind, the expected class, the predicted class."""


def find(
    task: Task, samples: Sequence[Sample], predictions: Sequence[Prediction], exam: Mapping[str, Any] | None = None
) -> list[Weakness]:
    """Kinds of mistakes, the highest rate first, ties by name; with texts the student got wrong and right.

    `predictions` are aligned with `samples`. `exam` is the summary of the teacher's exam, see `class_trust`. Right examples matter as
    much as wrong ones: without them the teacher cannot see where the border runs (Liu et al. 2024, section 5.3, "w/o Correct").
    """
    counts: Counter[Kind] = Counter()
    trusted_counts: Counter[Kind] = Counter()
    wrong: dict[Kind, _LeastSure] = defaultdict(_LeastSure)
    right: dict[str, _LeastSure] = defaultdict(_LeastSure)
    samples_of = dict.fromkeys(task.labels, 0)
    trusted_of = dict.fromkeys(("", *task.labels), 0)
    for index, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
        mistakes, trusted = task.mistakes(prediction), is_trusted(task, sample)
        trusted_of[""] += trusted
        for kind in {(mistake.kind, mistake.expected, mistake.got) for mistake in mistakes}:
            counts[kind] += 1
            trusted_counts[kind] += trusted
            wrong[kind].add(trusted, prediction.confidence, index)
        for label in task.labels:
            if task.carries(prediction.expected, label):
                samples_of[label] += 1
                trusted_of[label] += trusted
                if not mistakes:
                    right[label].add(trusted, prediction.confidence, index)

    rates = _rates(trusted_counts, trusted_of, class_trust(exam))
    weaknesses = []
    for kind in sorted(counts, key=lambda kind: (-rates[kind], -counts[kind], kind)):
        name, expected, predicted = kind
        right_of_both = [right[label] for label in (expected, predicted) if label in right]
        weaknesses.append(
            Weakness(
                name,
                expected,
                predicted,
                counts[kind],
                samples_of.get(expected, 0),
                wrong=tuple(samples[i] for i in _least_sure(wrong[kind])),
                right=tuple(samples[i] for i in _least_sure(*right_of_both)),
                rate=rates[kind],
            )
        )
    return weaknesses


def is_trusted(task: Task, sample: Sample) -> bool:
    """Whether the label of a text, or each of its spans, is as sure as TRUSTED, or nobody said how sure it is."""
    if sample.soft is None:
        return True
    if isinstance(sample.target, str):
        return sample.soft[task.classes.index(sample.target)] >= TRUSTED
    return min(sample.soft, default=1.0) >= TRUSTED


def class_trust(exam: Mapping[str, Any] | None) -> Mapping[str, float]:
    """Class -> the probability that a label of it is right, by the exam's seeds of the class and its mean over all, which counts for
    KAPPA seeds. Empty without an exam, and for spans, whose exam counts no classes."""
    per_class: Mapping[str, Mapping[str, int]] = (exam or {}).get("per_class") or {}
    total, right = (math.fsum(counts[key] for counts in per_class.values()) for key in ("n", "right"))
    mean = right / total if total else 1.0
    return {label: (counts["right"] + KAPPA * mean) / (counts["n"] + KAPPA) for label, counts in per_class.items()}


def _rates(mistakes: Counter[Kind], texts: Mapping[str, int], trust: Mapping[str, float]) -> dict[Kind, float]:
    """The rate of each kind: its share of the trusted texts of the expected class, shrunken towards the mean over all kinds, times
    the trust in the class. 0 where no mistake is trusted. A mistake that expects no class is counted among all texts."""
    total = sum(texts.get(expected, 0) for _, expected, _ in mistakes)
    mean = mistakes.total() / total if total else 0.0
    rates = {}
    for kind, count in mistakes.items():
        expected = kind[1]
        rate = trust.get(expected, 1.0) * (count + KAPPA * mean) / (texts.get(expected, 0) + KAPPA)
        rates[kind] = round(rate, DECIMALS) if count else 0.0
    return rates


class _LeastSure:
    """Of the predictions added, the `EXAMPLES` that are shown: trusted texts first, then the lowest confidence, then the first."""

    def __init__(self) -> None:
        self.heap: list[tuple[bool, float, int]] = []  # trusted, minus the confidence, minus the index

    def add(self, trusted: bool, confidence: float, index: int) -> None:
        if len(self.heap) < EXAMPLES:
            heappush(self.heap, (trusted, -confidence, -index))
        else:
            heappushpop(self.heap, (trusted, -confidence, -index))


def _least_sure(*groups: _LeastSure) -> list[int]:
    """The indices of what all groups together show, in order."""
    entries = {entry for group in groups for entry in group.heap}
    return [-index for _, _, index in sorted(entries, reverse=True)[:EXAMPLES]]
