"""The forms in which a teacher is asked for labels in its exam: how it answers, where demonstrations stand, and how many."""

from __future__ import annotations

from collections.abc import Sequence

from evokd_data.recipe import Recipe
from evokd_data.records import LabelForm
from evokd_data.strategies.demonstrations import MAX_WHEN_LABELLING
from evokd_data.strategies.labelling import answer_forms, can_be_scored, in_form
from evokd_data.tasks import Task


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
