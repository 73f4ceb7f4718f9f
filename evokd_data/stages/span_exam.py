"""What an exam shows of a teacher that marks spans: micro-F1 on the seeds, and what the probabilities of its spans are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evokd_data.records import Completion, LabelForm, Labelling, Sample
from evokd_data.strategies.labelling import DECIMALS
from evokd_data.strategies.span_trust import calibrated, doubt_of
from evokd_data.strategies.trust import calibrate, fit_prior, fit_temperature
from evokd_data.tasks import Task, Unreadable

SpanReading = tuple[bool, float]
"""Whether a span that the teacher marked is right, and its probability."""


def score_spans(answered: Sequence[tuple[Sample, Completion]], task: Task) -> tuple[float, tuple[SpanReading, ...]]:
    """Micro-F1 over all answers, and a reading of each marked span where the engine gives probabilities.

    An answer that cannot be read has no span.
    """
    hits = total = 0
    readings: list[SpanReading] = []
    for sample, answer in answered:
        probabilities: Sequence[float] | None = None
        try:
            predicted = task.read_label(answer.text, sample.text)
            if answer.choice_logprobs is not None:
                probabilities = task.span_probabilities(answer.text, sample.text, answer.choice_logprobs)
        except Unreadable:
            predicted = ()
        expected = set(sample.target)
        hits += len(expected & set(predicted))
        total += len(expected) + len(predicted)
        if probabilities is not None:
            readings += [(span in expected, value) for span, value in zip(predicted, probabilities, strict=True)]
    return 2 * hits / total if total else 0.0, tuple(readings)


def calibration(form: LabelForm, readings: Sequence[SpanReading]) -> dict[str, Any]:
    """{"prior", "temperature", "doubt"} of the spans' probabilities, see `Labelling`; neutral without readings."""
    if not readings:
        return {"prior": [], "temperature": 1.0, "doubt": 0.0}
    prior = fit_prior(readings)
    temperature = fit_temperature([(0 if right else 1, calibrate((p, 1 - p), prior)) for right, p in readings])
    labelling = Labelling(form, prior=prior, temperature=temperature)
    doubt = doubt_of([calibrated(value, labelling) for _, value in readings])
    return {"prior": [*prior], "temperature": temperature, "doubt": round(doubt, DECIMALS)}
