"""Predictions on samples the student had not trained on -> its weaknesses, worst first. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
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
    wrong: dict[tuple[str, str, str], list[tuple[float, int]]] = defaultdict(list)
    right: list[tuple[float, int]] = []
    for index, prediction in enumerate(predictions):
        found = task.mistakes(prediction)
        for kind in {(mistake.kind, mistake.expected, mistake.got) for mistake in found}:
            counts[kind] += 1
            wrong[kind].append((-prediction.confidence, index))
        if not found:
            right.append((-prediction.confidence, index))
    right.sort()
    seen = {aim: sum(task.carries(p.expected, aim) for p in predictions) for aim in task.aims}

    weaknesses = []
    for kind, missed in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        name, expected, got = kind
        near = (
            i for _, i in right if any(aim and task.carries(predictions[i].expected, aim) for aim in (expected, got))
        )
        weaknesses.append(
            Weakness(
                name,
                expected,
                got,
                missed,
                seen.get(expected, 0),
                wrong=tuple(samples[i] for _, i in sorted(wrong[kind])[:EXAMPLES]),
                right=tuple(samples[i] for i in islice(near, EXAMPLES)),
            )
        )
    return weaknesses
