"""What a student predicts as rows.

A row of classification, and one of tagging:

    {"text": "play some jazz", "label": "PlayMusic", "probability": 0.9871}
    {"text": "play jazz in Rome", "spans": [{"start": 13, "end": 17, "type": "city", "surface": "Rome"}], "probability": 0.9527}

`probability` is that of the label; with spans the mean over the words of their tag's. Offsets count characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evokd_data.students import Predict
from evokd_data.tasks import Task, unlabelled

BLOCK = 2048
"""Texts in memory: enough of them that batches of similar length have little padding."""
DIGITS = 6
"""Decimals of a probability: the last bits depend on the machine."""


def predicted_rows(task: Task, predict: Predict, texts: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each text, as at the top of this page."""
    examples = [unlabelled(task, text) for text in texts]
    rows = []
    for text, example, probabilities in zip(texts, examples, predict(examples), strict=True):
        target, confidence = task.decode(example, probabilities)
        if not isinstance(target, str):  # an example does not hold what stands between its words
            target = tuple(replace(span, surface=text[span.start : span.end]) for span in target)
        rows.append({"text": text, **task.to_row(target), "probability": round(float(confidence), DIGITS)})
    return rows
