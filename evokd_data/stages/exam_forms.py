"""The forms in which a teacher is asked for labels in its exam: how it answers, where demonstrations stand, how many; and the best one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from evokd_data.recipe import Recipe
from evokd_data.records import LabelForm, Sample
from evokd_data.strategies.demonstrations import MAX_WHEN_LABELLING
from evokd_data.strategies.labelling import answer_forms, can_be_scored, in_form
from evokd_data.strategies.trust import log_likelihood, probability_of_lead
from evokd_data.tasks import Task

FIRST_QUESTIONS, FINALISTS = 20, 3
"""After so many questions in all forms, the others are asked in the best few alone. In four exams of a general teacher (10 forms, 18 to
60 questions) the form that was best in the end was among the best three after 10 questions or more, whichever folds came first."""
SURE_LEAD = 0.95
"""How probable it must be that a form without demonstrations is better, where a class has a single seed."""


SpanReading = tuple[bool, float]
"""Whether a span that the teacher marked is right, and its probability."""


@dataclass(frozen=True)
class FormResult:
    """What one form showed. `rows`: for each question the teacher's probability of each class, or () where its answer could not be
    read. `accuracy`: share of right answers, for spans micro-F1. `score`: what the form is chosen by. `spans`: a reading of each span in
    its answers, where the engine gives probabilities; `shares`: how right each answer with spans is (see `right_answers`)."""

    form: LabelForm
    rows: tuple[tuple[float, ...], ...]
    right: float
    count: int
    score: float
    temperature: float = 1.0
    spans: tuple[SpanReading, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float:
        return self.right / self.count if self.count else 0.0

    def described(self) -> dict[str, Any]:
        """As it stands in exam.json."""
        return {
            "form": asdict(self.form),
            "questions": self.count,
            "accuracy": self.accuracy,
            "score": self.score,
            "temperature": self.temperature,
        }


def forms_to_try(recipe: Recipe, seeds: int) -> list[LabelForm]:
    """The forms that task and label template allow, and that show different demonstrations where there are so many seeds.

    The one that served most general teachers best comes first: of equal forms the first is taken.
    """
    templates = recipe.templates()
    layouts = (True, False) if templates.has_turns("label") else (False,)
    shows = templates.has_turns("label") or "demonstrations" in templates.variables("label")
    counts = [MAX_WHEN_LABELLING, len(recipe.task.labels), 0] if shows else [0]
    counts[1:] = [count for count in counts[1:] if count < min(MAX_WHEN_LABELLING, seeds)]
    answers = possible_answers(recipe)
    if len(answers) > 1 and not can_be_scored(recipe.task):
        # Each answer is a whole text again: without demonstrations nothing is asked in three forms.
        counts = list(filter(None, counts)) or counts
    forms = []
    for answer in answers:
        for count in counts:
            forms += [LabelForm(answer, turns, count) for turns in layouts if count or not turns]
    return forms


def possible_answers(recipe: Recipe) -> Sequence[str]:
    """The forms of an answer that the teacher's engine can be held to, the default first."""
    answers = answer_forms(recipe.task, recipe.templates())
    possible = [a for a in answers if not recipe.teacher.refuses(in_form(recipe.task, a).label_constraint("a text"))]
    return possible or answers  # of none where the recipe asks for no label


def task_in_form(recipe: Recipe, form: LabelForm) -> Task:
    """The recipe's task; a tagging task asks for spans in the way of the form."""
    return in_form(recipe.task, form.answer)


def choice(
    results: Sequence[FormResult], best: FormResult, truths: Sequence[int], uniform: tuple[float, ...]
) -> dict[str, Any] | None:
    """{"second": the form that came second, "sure": how probable it is that the chosen one is better}; None with a single form."""
    others = [result for result in results if result is not best]
    if not others:
        return None
    second = max(others, key=lambda result: result.score)
    return {"second": asdict(second.form), "sure": round(_lead(best, second, truths, uniform), 4)}


def first_folds(folds: Sequence[Sequence[Sample]], forms: int) -> int:
    """How many of the folds are asked about in every one of so many forms: the first with FIRST_QUESTIONS together, or all."""
    if forms <= FINALISTS:
        return len(folds)
    together = list(accumulate(map(len, folds)))
    return 1 + next((number for number, count in enumerate(together) if count >= FIRST_QUESTIONS), len(folds) - 1)


def finalists(results: Sequence[FormResult]) -> list[FormResult]:
    """The forms that are asked the other questions, too: those of the best scores, one with demonstrations among them where there is any.
    Of equal scores those of other answers come first, then the first: where no answer of a few questions is right, none is given up."""
    earlier = Counter[str]()
    ranks = []
    for result in results:
        ranks.append((-result.score, earlier[result.form.answer]))
        earlier[result.form.answer] += 1
    ranked = [result for _, result in sorted(zip(ranks, results, strict=True), key=lambda pair: pair[0])]
    chosen = ranked[:FINALISTS]
    showing = [result for result in ranked if result.form.demonstrations]
    if showing and showing[0] not in chosen:
        chosen[-1] = showing[0]
    return [result for result in results if result in chosen]


def prompts_in_all(folds: Sequence[Sequence[Sample]], forms: int) -> int:
    """How many prompts an exam has."""
    questions, first = sum(map(len, folds)), sum(map(len, folds[: first_folds(folds, forms)]))
    return forms * first + min(forms, FINALISTS) * (questions - first)


def best_form(
    results: Sequence[FormResult], truths: Sequence[int], uniform: tuple[float, ...], alone: bool
) -> FormResult:
    """The form with the best score; where questions are `alone`, the only seed of their class, one without demonstrations only when its
    lead is sure."""
    best = max(results, key=lambda result: result.score)
    showing = [result for result in results if result.form.demonstrations]
    if best.form.demonstrations or not alone or not showing:
        return best
    rival = max(showing, key=lambda result: result.score)
    return best if _lead(best, rival, truths, uniform) >= SURE_LEAD else rival


def _lead(first: FormResult, second: FormResult, truths: Sequence[int], uniform: tuple[float, ...]) -> float:
    """How probable it is that the first form labels better than the second in the long run."""
    scores = [
        [
            log_likelihood([(truth, row or uniform)], result.temperature)
            for truth, row in zip(truths, result.rows, strict=True)
        ]
        for result in (first, second)
    ]
    return probability_of_lead(*scores)
