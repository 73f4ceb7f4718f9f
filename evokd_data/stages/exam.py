"""Exam: the teacher labels the seeds, each left out of the demonstrations, in several forms. Writes exam.json.

The best form of one teacher is the worst of another, and how often a teacher is right decides what its labels are worth. Both are
measured here before anything is spent, on the user's own seeds: a few hundred short prompts. The answers are journalled in the round
before which the exam is taken.

Seeds are few, so the questions are asked in folds: the demonstrations of a fold's prompts are the seeds of all other folds, and the
engine computes them once. A class with a single seed has no demonstration when that seed is asked about, which the chosen form would
show: so there a form without demonstrations must be surely better to be chosen, and the accuracy is more likely too low than too high. A
form is chosen by the mean log-probability of the right labels, which says more than a count of right
answers; spans by micro-F1. The seeds-only student is cross-fitted on the same folds: a teacher is of use when both together say more
about the seeds than the student alone, or when it is right more often. Spans are labelled by the teacher alone: there it is of use unless
the student does better on significantly more seeds.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from evokd_data.digest import derive_seed
from evokd_data.errors import TeacherError
from evokd_data.generation.refusals import require_answers
from evokd_data.generation.seed_student import baseline_student, cross_fitted, folds_of, outside
from evokd_data.recipe import FORCE, OFF, Recipe
from evokd_data.records import LabelForm, Labelling, Sample
from evokd_data.reporting.exam_words import REFUSED, REMEDY, SURE, message
from evokd_data.seeds import Splits
from evokd_data.stages.exam_forms import (
    FormResult,
    best_form,
    choice,
    finalists,
    first_folds,
    forms_to_try,
    possible_answers,
    task_in_form,
)
from evokd_data.stages.exam_verdict import default_rule, helps, verdict_of
from evokd_data.stages.span_exam import Answered, answers_of, score_form, spans_content
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.strategies import DEFAULT_LABELLING, Ask, Brief
from evokd_data.strategies.demonstrations import in_turns
from evokd_data.strategies.labelling import (
    can_be_scored,
    label_prompt,
    read_probabilities,
)
from evokd_data.strategies.prompts import prompt_key
from evokd_data.strategies.trust import (
    SMALLEST,
    calibrate,
    count_right,
    fit_temperature,
    log_likelihood,
    paired_difference,
    pool,
    wilson_interval,
)
from evokd_data.tasks import Unreadable

SCHEMA_VERSION = "1"
STUDENT_WEIGHTS = (2.0, 1.0, 0.0)
"""How much the seeds-only student's log-probabilities may count beside the teacher's; of equal ones the first is taken."""
EXAM = "exam"
"""How the keys of an exam's prompts begin."""
EQUAL_SAY = 1.0
"""The student's weight where each class has a single seed."""


def is_exam(key: str) -> bool:
    """Whether a prompt of a journal belongs to an exam, and so to no text of the round."""
    return key.startswith(f"{EXAM}/")


def needs_exam(recipe: Recipe, index: int) -> bool:
    """Whether the exam is taken before round `index`: before the first round that asks a teacher to label."""
    return index == 1 and recipe.teacher_trust != OFF and "label" in recipe.strategy.prompt_templates


async def exam(
    recipe: Recipe, workspace: Workspace, index: int, splits: Splits, brief: Brief, ask: Ask
) -> Mapping[str, Any]:
    """The content of the round's exam.json; read when it is there."""
    folder = workspace.round(index)
    if not folder.exam.exists():
        folds = folds_of(recipe, splits.seeds)
        # Before the first question opens an engine, which takes the accelerator's memory.
        student = await asyncio.to_thread(cross_fitted, recipe, baseline_student(recipe), folds, splits.seeds)
        results, others = await _take_all(recipe, brief, folds, splits.seeds, ask)
        if can_be_scored(recipe.task):
            opinions = [tuple(map(float, row)) for rows in student for row in rows]
            content = _content(recipe, results, others, folds, splits.seeds, opinions)
        else:
            content = spans_content(recipe, results, others, answers_of(recipe.task, folds, student))
        write_checked_json(folder.exam, {"schema": SCHEMA_VERSION, **content})
    return read_json(folder.exam)


def require_useful(recipe: Recipe, content: Mapping[str, Any]) -> None:
    """Raises TeacherError for a teacher whose labels are of no use, unless the recipe says `teacher_trust: force`."""
    if content["verdict"] in REFUSED and recipe.teacher_trust != FORCE:
        raise TeacherError(f"{recipe.path}: the run stops: {content['message']}; {REMEDY}")


def labelling_of(recipe: Recipe, content: Mapping[str, Any] | None) -> Labelling:
    """How a round's texts are labelled, by the exam; without one, as the recipe says."""
    rule: str = recipe.filters.label_disagreement
    votes = recipe.filters.label_votes
    if content is None:
        rule = default_rule(recipe) if rule == "auto" else rule
        form = replace(DEFAULT_LABELLING.form, answer=possible_answers(recipe)[0])
        # Scored where the student learns from it, as long as nobody measured anything else.
        scored = can_be_scored(recipe.task) and recipe.student.learns_soft_labels and votes == 1
        return Labelling(form, scored, votes=votes, rule=rule)
    chosen = {**content["chosen"], "rule": content["rule"], **content.get("corrected", {})}
    return Labelling(
        LabelForm(**chosen["form"]),
        can_be_scored(recipe.task) or chosen.get("doubt", 0.0) > 0,
        prior=tuple(chosen.get("prior", ())),
        temperature=chosen["temperature"],
        student_weight=chosen["student_weight"],
        votes=votes,
        rule=chosen["rule"] if rule == "auto" else rule,
        accuracy=chosen["accuracy"],
        threshold=recipe.filters.label_confidence if rule == "auto" else 0.0,
        doubt=chosen.get("doubt", 0.0),
    )


def summary(content: Mapping[str, Any]) -> dict[str, Any]:
    """What plan, card and report say of an exam: {"verdict", "questions", "form", "accuracy", "low", "high", "student", "pool",
    "per_class"}, "first_texts" where they corrected it (see `stages.first_texts`), and "again" after an exam that was taken again
    (see `stages.second_exam`).

    `student` and `pool` are accuracies of the seeds-only student and of both together, `per_class` what both together label right of
    each class; None for spans.
    """
    chosen = content["chosen"]
    return {
        "verdict": content["verdict"],
        "questions": content["questions"],
        "form": LabelForm(**chosen["form"]).name,
        **{key: chosen[key] for key in ("accuracy", "low", "high")},
        "student": content["student"]["accuracy"] if "student" in content else None,
        "pool": content["pool"]["accuracy"] if "pool" in content else None,
        "per_class": content["pool"].get("per_class") if "pool" in content else None,
        **{key: content[key] for key in ("first_texts", "again") if key in content},
    }


async def _take_all(
    recipe: Recipe, brief: Brief, folds: Sequence[Sequence[Sample]], seeds: Sequence[Sample], ask: Ask
) -> tuple[list[FormResult], list[FormResult]]:
    """(results of the forms that were asked all questions, of those that were asked the first questions alone)."""
    forms = forms_to_try(recipe, len(seeds))
    first = first_folds(folds, len(forms))
    answered = {form: await ask_in_form(recipe, brief, form, folds[:first], seeds, ask) for form in forms}
    results = [result_of(recipe, brief, form, answered[form]) for form in forms]
    if first == len(folds):
        return results, []
    whole = []
    for result in (chosen := finalists(results)):
        rest = await ask_in_form(recipe, brief, result.form, folds[first:], seeds, ask)
        whole.append(result_of(recipe, brief, result.form, [*answered[result.form], *rest]))
    return whole, [result for result in results if result not in chosen]


async def ask_in_form(
    recipe: Recipe,
    brief: Brief,
    form: LabelForm,
    folds: Sequence[Sequence[Sample]],
    seeds: Sequence[Sample],
    ask: Ask,
) -> list[Answered]:
    """Each question of the folds with its answer in one form. The demonstrations of a fold are the seeds outside of it."""
    brief = _brief_in_form(recipe, brief, form)
    task, asked = brief.task, []
    for fold in folds:
        others = outside(fold, seeds)
        by_label = {label: [s for s in others if task.carries(s.target, label)] for label in task.labels}
        shown = in_turns(task, by_label, form.demonstrations)
        asked += [
            label_prompt(
                brief,
                sample.text,
                shown,
                prompt_key(EXAM, form.name, sample.id),
                derive_seed(recipe.seed, "exam", form.name, sample.id),
            )
            for sample in fold
        ]
    answers = await asyncio.gather(*map(ask, asked))
    require_answers(recipe, answers)
    return list(zip([sample for fold in folds for sample in fold], answers, strict=True))


def _brief_in_form(recipe: Recipe, brief: Brief, form: LabelForm) -> Brief:
    return replace(brief, task=task_in_form(recipe, form), labelling=Labelling(form, scored=True))


def result_of(recipe: Recipe, brief: Brief, form: LabelForm, answered: Sequence[Answered]) -> FormResult:
    """What one form showed. An answer that cannot be read counts as wrong."""
    brief = _brief_in_form(recipe, brief, form)
    if not can_be_scored(brief.task):
        return score_form(form, answered, brief.task)
    rows: list[tuple[float, ...]] = []
    for sample, answer in answered:
        try:
            rows.append(read_probabilities(brief, answer, sample.text))
        except Unreadable:
            rows.append(())
    classes = len(brief.task.classes)
    truths, uniform = _truths(recipe, [sample for sample, _ in answered]), (1 / classes,) * classes
    readings = [(truth, row or uniform) for truth, row in zip(truths, rows, strict=True)]
    temperature = fit_temperature(readings)
    score = log_likelihood(readings, temperature) / max(1, len(readings))
    return FormResult(form, tuple(rows), count_right(rows, truths), len(rows), score, temperature)


def _truths(recipe: Recipe, samples: Sequence[Sample]) -> list[int]:
    return [recipe.task.classes.index(str(sample.target)) for sample in samples]


def _content(
    recipe: Recipe,
    results: Sequence[FormResult],
    others: Sequence[FormResult],
    folds: Sequence[Sequence[Sample]],
    seeds: Sequence[Sample],
    student: Sequence[tuple[float, ...]],
) -> dict[str, Any]:
    """exam.json of a task with one label a text. `others` are the forms that were asked the first questions alone; `student`: what the
    seeds-only student makes of each question."""
    classes = len(recipe.task.classes)
    truths = _truths(recipe, [sample for fold in folds for sample in fold])
    uniform = (1 / classes,) * classes
    student_readings = list(zip(truths, student, strict=True))
    student_score = log_likelihood(student_readings, fit_temperature(student_readings)) / len(truths)

    counts = Counter(seed.target for seed in seeds)
    fair = [counts[sample.target] > 1 for fold in folds for sample in fold]
    alone = len(fair) - sum(fair)
    best = best_form(results, truths, uniform, bool(alone))
    weight, pooled_score, temperature = _best_pool(best, truths, student, uniform, fair)
    pooled = [
        pool(calibrate(row or uniform, (), temperature), opinion, weight)
        for row, opinion in zip(best.rows, student, strict=True)
    ]
    low, high = wilson_interval(best.right, best.count)
    pool_right, student_accuracy = count_right(pooled, truths), count_right(student, truths) / len(truths)
    pool_low, pool_high = wilson_interval(pool_right, len(truths))
    content: dict[str, Any] = {
        "questions": len(truths),
        "alone": alone,
        "chance": 1 / classes,
        "forms": [result.described() for result in (*results, *others)],
        "chosen": {
            **best.described(),
            "low": low,
            "high": high,
            "temperature": temperature,
            "student_weight": weight,
            "per_class": _per_class(recipe, best.rows, truths),
        },
        "choice": choice(results, best, truths, uniform),
        "student": {
            "accuracy": student_accuracy,
            **dict(zip(("low", "high"), wilson_interval(count_right(student, truths), len(truths)), strict=True)),
            "log_likelihood": student_score,
        },
        "pool": {
            "accuracy": pool_right / len(truths),
            "low": pool_low,
            "high": pool_high,
            "log_likelihood": pooled_score,
            "per_class": _per_class(recipe, pooled, truths),
        },
        "rule": "relabel" if pool_low >= SURE else "reject",
        "verdict": verdict_of(
            best, 1 / classes, pooled_score - student_score, student_accuracy, helps(pooled, student, truths)
        ),
    }
    content["message"] = message(content)
    return content


def _best_pool(
    best: FormResult,
    truths: Sequence[int],
    student: Sequence[tuple[float, ...]],
    uniform: tuple[float, ...],
    fair: Sequence[bool],
) -> tuple[float, float, float]:
    """(weight of the student, mean log-probability of the right classes, temperature of the teacher).

    The first of STUDENT_WEIGHTS that is no worse than the best by more than one standard error: seeds are few, and on seven sets of
    held-out texts the first was the best. It is judged on the `fair` questions alone: of a class with a single seed the student has learned
    nothing when that seed is asked about, so it would have no say. Without a fair question both count alike.
    """
    scores = {
        weight: [
            math.log(max(pool(calibrate(row or uniform, (), best.temperature), opinion, weight)[truth], SMALLEST))
            for truth, row, opinion in zip(truths, best.rows, student, strict=True)
        ]
        for weight in STUDENT_WEIGHTS
    }
    if not any(fair):
        return EQUAL_SAY, math.fsum(scores[EQUAL_SAY]) / len(truths), best.temperature
    judged = {weight: list(compress(of_weight, fair)) for weight, of_weight in scores.items()}
    highest = max(judged.values(), key=math.fsum)
    for weight in STUDENT_WEIGHTS:
        difference, error = paired_difference(judged[weight], highest)
        if difference >= -error:
            return weight, math.fsum(scores[weight]) / len(truths), best.temperature
    raise AssertionError("the highest is no worse than itself")


def _per_class(recipe: Recipe, rows: Sequence[Sequence[float]], truths: Sequence[int]) -> dict[str, dict[str, int]]:
    """Class -> {"n": seeds of the class, "right": those whose most probable class it is}. A row may be ()."""
    counts = {label: {"n": 0, "right": 0} for label in recipe.task.classes}
    for truth, row in zip(truths, rows, strict=True):
        entry = counts[recipe.task.classes[truth]]
        entry["n"] += 1
        entry["right"] += count_right([row], [truth])
    return counts
