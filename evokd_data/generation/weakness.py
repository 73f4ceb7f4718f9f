"""Weaknesses: the kinds of mistakes in predictions on samples the student had not trained on, worst first. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING

from evokd_data.records import Prediction, Sample, Weakness

if TYPE_CHECKING:
    from evokd_data.tasks import Task

EXAMPLES = 8  # texts kept for the analysis of one weakness, of either kind

Kind = tuple[str, str, str]
"""A mistake's kind, the expected class, the predicted class."""


def find(task: Task, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> list[Weakness]:
    """Kinds of mistakes, the most frequent first, ties by name; with texts the student got wrong and right.

    `predictions` are aligned with `samples`. Right examples matter as much as wrong ones: without them the teacher cannot
    see where the border runs (Liu et al. 2024, section 5.3, "w/o Correct"). The most confident predictions come first: what
    the student is surest of, rightly or wrongly, says most about what it has learned.
    """
    counts: Counter[Kind] = Counter()
    wrong: dict[Kind, _MostConfident] = defaultdict(_MostConfident)
    right: dict[str, _MostConfident] = defaultdict(_MostConfident)
    samples_of = dict.fromkeys(task.labels, 0)
    for index, prediction in enumerate(predictions):
        mistakes = task.mistakes(prediction)
        for kind in {(mistake.kind, mistake.expected, mistake.got) for mistake in mistakes}:
            counts[kind] += 1
            wrong[kind].add(prediction.confidence, index)
        for label in task.labels:
            if task.carries(prediction.expected, label):
                samples_of[label] += 1
                if not mistakes:
                    right[label].add(prediction.confidence, index)

    weaknesses = []
    for kind, missed in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        name, expected, predicted = kind
        right_of_both = [right[label] for label in (expected, predicted) if label in right]
        weaknesses.append(
            Weakness(
                name,
                expected,
                predicted,
                missed,
                samples_of.get(expected, 0),
                wrong=tuple(samples[i] for i in _most_confident(wrong[kind])),
                right=tuple(samples[i] for i in _most_confident(*right_of_both)),
            )
        )
    return weaknesses


class _MostConfident:
    """The `EXAMPLES` predictions of highest confidence among those added; of equal ones the first."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int]] = []  # confidence, minus the index

    def add(self, confidence: float, index: int) -> None:
        if len(self.heap) < EXAMPLES:
            heappush(self.heap, (confidence, -index))
        else:
            heappushpop(self.heap, (confidence, -index))


def _most_confident(*groups: _MostConfident) -> list[int]:
    """The indices of the most confident predictions of all groups together, most confident first."""
    entries = {entry for group in groups for entry in group.heap}
    return [-index for _, index in sorted(entries, reverse=True)[:EXAMPLES]]
