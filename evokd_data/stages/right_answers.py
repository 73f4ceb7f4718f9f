"""How right an answer is, text by text: what two labellers of the same texts are compared by."""

from __future__ import annotations

from typing import Any

from evokd_data.records import Prediction, Sample
from evokd_data.tasks import Task


def share_right(task: Task, sample: Sample, predicted: Any) -> float:
    """1 for a text with the right label, else 0. For spans: 1 minus the mistakes for each span that is there or was predicted, at
    least 0."""
    mistakes = task.mistakes(Prediction(sample.id, sample.target, predicted, 1.0))
    if isinstance(sample.target, str):
        return 0.0 if mistakes else 1.0
    spans = len(set(sample.target) | set(predicted))
    return max(0.0, 1 - len(mistakes) / spans) if spans else 1.0
