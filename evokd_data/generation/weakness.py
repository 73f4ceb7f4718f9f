"""Predictions on samples the student had not trained on -> its weaknesses, worst first. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING

from evokd_data.records import Prediction, Sample, Weakness

if TYPE_CHECKING:
    from evokd_data.tasks import Task

EXAMPLES = 8  # texts kept for the analysis of one weakness, of either kind


def find(task: Task, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> list[Weakness]:
    """Kinds of mistakes by how often they were made, ties by name; with texts the student got wrong and right.

    `predictions` are aligned with `samples`. Right examples matter as much as wrong ones: without them the
    teacher cannot see where the border runs (Liu et al. 2024, section 5.3, "w/o Correct"). The most confident ones come first: what the
    student is surest of, rightly or wrongly, says most about what it has learned.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    wrong: dict[tuple[str, str, str], _Surest] = defaultdict(_Surest)
    right: dict[str, _Surest] = defaultdict(_Surest)
    seen = dict.fromkeys(task.labels, 0)
    for index, prediction in enumerate(predictions):
        found = task.mistakes(prediction)
        for kind in {(mistake.kind, mistake.expected, mistake.got) for mistake in found}:
            counts[kind] += 1
            wrong[kind].add(prediction.confidence, index)
        for label in task.labels:
            if task.carries(prediction.expected, label):
                seen[label] += 1
                if not found:
                    right[label].add(prediction.confidence, index)

    weaknesses = []
    for kind, missed in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        name, expected, got = kind
        near = [right[label] for label in (expected, got) if label in right]
        weaknesses.append(
            Weakness(
                name,
                expected,
                got,
                missed,
                seen.get(expected, 0),
                wrong=tuple(samples[i] for i in _surest(wrong[kind])),
                right=tuple(samples[i] for i in _surest(*near)),
            )
        )
    return weaknesses


class _Surest:
    """The `EXAMPLES` predictions of highest confidence among those added, of equal ones the first."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int]] = []

    def add(self, confidence: float, index: int) -> None:
        if len(self.heap) < EXAMPLES:
            heappush(self.heap, (confidence, -index))
        else:
            heappushpop(self.heap, (confidence, -index))


def _surest(*groups: _Surest) -> list[int]:
    """The indices of the surest of all groups together, surest first."""
    all_of_them = {one for group in groups for one in group.heap}
    return [-index for _, index in sorted(all_of_them, reverse=True)[:EXAMPLES]]
