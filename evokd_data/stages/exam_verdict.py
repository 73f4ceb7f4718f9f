"""What the exam's figures say of a teacher."""

from __future__ import annotations

from collections.abc import Sequence

from evokd_data.recipe import Recipe
from evokd_data.reporting.exam_words import ADDS_NOTHING, CHANCE, EASY, UNCERTAIN, USEFUL
from evokd_data.seeds import FEW
from evokd_data.stages.exam_forms import FormResult
from evokd_data.strategies.labelling import can_be_scored
from evokd_data.strategies.trust import (
    SIGNIFICANCE,
    chance_of_so_many,
    count_right,
    paired_difference,
    wilson_interval,
)

MIN_GAIN = 0.02
"""Nats a question that the teacher must add to what the seeds-only student says."""


def helps(pooled: Sequence[Sequence[float]], student: Sequence[Sequence[float]], truths: Sequence[int]) -> bool:
    """Whether teacher and student together are right on more seeds than the student alone, by more than one standard error."""
    right = [
        [count_right([row], [truth]) for row, truth in zip(rows, truths, strict=True)] for rows in (pooled, student)
    ]
    difference, error = paired_difference(*right)
    return difference > error


def verdict_of(best: FormResult, chance: float, gain: float, student_accuracy: float, both_help: bool) -> str:
    """What the best form says of the teacher. `gain`: what it adds to the seeds-only student, in nats a question; `both_help`: see
    `helps`.

    Seeds are few, and a useful teacher that is refused costs more than one of no use: its first texts are compared with the student's
    labels before a shard is written. So a teacher adds nothing only when no measure says otherwise: log-probabilities and right answers
    of both together, nor its own right answers. Where the student is right on nearly all seeds, nothing is left to add, and a teacher that
    may be as good can show nothing.

    One that is not significantly better than chance is no better than chance when, besides, no measure speaks for it, or its
    interval ends below the middle between chance and 1, or below where the student's begins. Of two classes and 12 seeds a teacher
    that is right on 0.8 of all texts does not beat chance in 44 of 100 exams of one form; its interval ends below that middle in 2.
    """
    beats_chance = chance_of_so_many(round(best.right), best.count, chance) <= SIGNIFICANCE
    adds = gain >= MIN_GAIN or both_help or best.accuracy > student_accuracy
    if beats_chance and adds:
        return USEFUL
    high = wilson_interval(best.right, best.count)[1]
    as_good = high >= wilson_interval(student_accuracy * best.count, best.count)[0]
    nothing_left = beats_chance and student_accuracy >= EASY
    may_be_good = not beats_chance and adds and high >= (1 + chance) / 2
    if (best.count < FEW and best.accuracy > chance) or (as_good and (nothing_left or may_be_good)):
        return UNCERTAIN
    return ADDS_NOTHING if beats_chance else CHANCE


def verdict_on_spans(best: FormResult, student: Sequence[float]) -> str:
    """What the best form says of a teacher that marks spans. `student`: how right the seeds-only student is on each question.

    It adds nothing where the student does better on significantly more texts than it does worse (sign test).
    """
    if best.count < FEW:
        return USEFUL if best.accuracy > 0 else UNCERTAIN
    if not best.accuracy:
        return CHANCE
    worse = sum(mine < its for mine, its in zip(best.shares, student, strict=True))
    better = sum(mine > its for mine, its in zip(best.shares, student, strict=True))
    return ADDS_NOTHING if chance_of_so_many(worse, worse + better, 0.5) <= SIGNIFICANCE else USEFUL


def default_rule(recipe: Recipe) -> str:
    """What becomes of a text whose label is not the intended one, where nothing was measured. A class that is not the intended one
    is as often as not a mistake, and so is a label that does not hold the very names that a text was written around. A text that was
    asked for by a type alone, and has none of this type, is still a text with spans."""
    return "reject" if can_be_scored(recipe.task) or "contexts" in recipe.strategy.prompt_templates else "relabel"
