"""The exam of a teacher that marks spans: micro-F1 on the seeds, the student beside it, and what probabilities of spans are worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evokd_data.recipe import Recipe
from evokd_data.records import Completion, LabelForm, Labelling, Sample
from evokd_data.reporting.exam_words import SURE, message
from evokd_data.stages.exam_forms import FormResult, SpanReading
from evokd_data.stages.exam_verdict import default_rule, verdict_on_spans
from evokd_data.stages.right_answers import share_right
from evokd_data.strategies.labelling import DECIMALS
from evokd_data.strategies.span_trust import calibrated, doubt_of
from evokd_data.strategies.trust import calibrate, fit_prior, fit_temperature, wilson_interval
from evokd_data.tasks import Task, Unreadable

Answered = tuple[Sample, Completion]
"""A seed, and the teacher's answer."""
Answer = tuple[Sample, Sequence[Any]]
"""A seed, and the spans that someone marks in it."""


def score_form(form: LabelForm, answered: Sequence[Answered], task: Task) -> FormResult:
    """What one form showed: micro-F1 over all answers, and a reading of each marked span where the engine gives probabilities.

    An answer that cannot be read has no span.
    """
    answers: list[Answer] = []
    readings: list[SpanReading] = []
    for sample, answer in answered:
        probabilities: Sequence[float] | None = None
        try:
            predicted = task.read_label(answer.text, sample.text)
            if answer.choice_logprobs is not None:
                probabilities = task.span_probabilities(answer.text, sample.text, answer.choice_logprobs)
        except Unreadable:
            predicted = ()
        answers.append((sample, predicted))
        if probabilities is not None:
            readings += [(span in sample.target, value) for span, value in zip(predicted, probabilities, strict=True)]
    score = micro_f1(answers)
    shares = tuple(share_right(task, sample, predicted) for sample, predicted in answers)
    return FormResult(form, (), score * len(answers), len(answers), score, spans=tuple(readings), shares=shares)


def micro_f1(answers: Sequence[Answer]) -> float:
    """Of whole spans, type and both ends right, over all answers; 0 where there is no span."""
    hits = sum(len(_places(sample.target) & _places(predicted)) for sample, predicted in answers)
    total = sum(len(_places(sample.target)) + len(predicted) for sample, predicted in answers)
    return 2 * hits / total if total else 0.0


def _places(spans: Iterable[Any]) -> set[tuple[int, int, str]]:
    return {span.place for span in spans}


def answers_of(task: Task, folds: Sequence[Sequence[Sample]], rows: Sequence[Sequence[Any]]) -> list[Answer]:
    """What a student marks in the seeds, by what it predicts for each fold."""
    return [
        (sample, task.decode(task.supervise(sample), row)[0])
        for fold, rows_of_fold in zip(folds, rows, strict=True)
        for sample, row in zip(fold, rows_of_fold, strict=True)
    ]


def spans_content(
    recipe: Recipe, results: Sequence[FormResult], others: Sequence[FormResult], student: Sequence[Answer]
) -> dict[str, Any]:
    """exam.json of a tagging task: the form with the best micro-F1 on the seeds, beside the seeds-only student's answers. `others` are
    the forms that were asked the first questions alone."""
    best = max(results, key=lambda result: result.score)
    low, high = wilson_interval(best.right, best.count)
    of_student = micro_f1(student)
    shares = [share_right(recipe.task, sample, predicted) for sample, predicted in student]
    content: dict[str, Any] = {
        "questions": best.count,
        "chance": 0.0,
        "forms": [result.described() for result in (*results, *others)],
        "chosen": {
            **best.described(),
            "low": low,
            "high": high,
            "student_weight": 0.0,
            **calibration(best.form, best.spans),
        },
        "student": {
            "accuracy": of_student,
            **dict(zip(("low", "high"), wilson_interval(of_student * best.count, best.count), strict=True)),
        },
        "rule": "relabel" if low >= SURE else default_rule(recipe),
        "verdict": verdict_on_spans(best, shares),
    }
    content["message"] = message(content)
    return content


def calibration(form: LabelForm, readings: Sequence[SpanReading]) -> dict[str, Any]:
    """{"prior", "temperature", "doubt"} of the spans' probabilities, see `Labelling`; neutral without readings."""
    if not readings:
        return {"prior": [], "temperature": 1.0, "doubt": 0.0}
    prior = fit_prior(readings)
    temperature = fit_temperature([(0 if right else 1, calibrate((p, 1 - p), prior)) for right, p in readings])
    labelling = Labelling(form, prior=prior, temperature=temperature)
    doubt = doubt_of([calibrated(value, labelling) for _, value in readings])
    return {"prior": [*prior], "temperature": temperature, "doubt": round(doubt, DECIMALS)}
