"""The exams before a round: the teacher is asked, the answers are journalled in the round, and what they show is told.

Before round 1 it is the exam on the seeds (`stages.exam`), corrected by the first texts (`stages.first_texts`); before round 2 the
exam again (`stages.second_exam`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from evokd_data.generation.scheduler import TeacherOnDemand, in_order
from evokd_data.generation.seed_student import folds_of, seed_student, with_student
from evokd_data.generation.text_filters import TextFilters
from evokd_data.progress import Progress
from evokd_data.recipe import FORCE, Recipe
from evokd_data.reporting.exam_words import REFUSED, mixture_in_words, rule_in_words
from evokd_data.seeds import Splits
from evokd_data.stages.exam import exam, labelling_of, needs_exam, require_useful
from evokd_data.stages.exam_forms import forms_to_try, prompts_in_all
from evokd_data.stages.first_texts import correct_by_first_texts, first_requests, needs_first_texts
from evokd_data.stages.plan import draft_plan, make_brief
from evokd_data.stages.second_exam import QUESTIONS, WAYS, needs_second_exam, second_exam
from evokd_data.storage.journal import Journal
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import Ask
from evokd_data.strategies.quotas import RequestPlan


async def take_exams(
    recipe: Recipe, workspace: Workspace, index: int, splits: Splits, teacher: TeacherOnDemand, progress: Progress
) -> None:
    """The exams that are due before round `index`. Raises TeacherError for a teacher of no use, see `require_useful`."""
    if needs_exam(recipe, index):
        require_useful(recipe, await examine(recipe, workspace, index, splits, teacher.complete, progress))
        if needs_first_texts(recipe, workspace, index):
            require_useful(recipe, await _examine_first_texts(recipe, workspace, index, splits, teacher, progress))
    elif needs_second_exam(recipe, workspace, index):
        require_useful(recipe, await _examine_again(recipe, workspace, index, teacher, progress))


async def examine(
    recipe: Recipe,
    workspace: Workspace,
    index: int,
    splits: Splits,
    complete: Ask,
    progress: Progress,
    tell: bool = True,
) -> Mapping[str, Any]:
    """The teacher's exam before round `index`, its answers in the round's journal. Returns the content of exam.json.

    `complete` asks the teacher for what the journal does not answer. `tell`: what came of it is a note.
    """
    folds, forms = folds_of(recipe, splits.seeds), len(forms_to_try(recipe, len(splits.seeds)))
    seeds, prompts = sum(map(len, folds)), prompts_in_all(folds, forms)
    if not workspace.round(index).exam.exists():
        progress.stage("exam", index, seeds=seeds, forms=forms, prompts=prompts)
        progress.note("a seeds-only student is trained on parts of the seeds first, to compare the teacher with it")
    with Journal(workspace.round(index).journal) as journal:
        brief = make_brief(recipe, workspace, index, labelling_of(recipe, None))
        ask = journal.asker(complete, _counter(progress, prompts))
        content = await exam(recipe, workspace, index, splits, brief, ask)
    if not tell or not _tell(recipe, content, progress):
        return content
    if mixture := mixture_in_words(content):
        progress.note(mixture)
    progress.note(rule_in_words(content, recipe.filters.label_disagreement, recipe.filters.label_confidence))
    return content


async def _examine_again(
    recipe: Recipe, workspace: Workspace, index: int, teacher: TeacherOnDemand, progress: Progress
) -> Mapping[str, Any]:
    """The exam on the texts of the round before `index`, as `examine`."""
    if not workspace.round(index).exam.exists():
        progress.stage("exam", index, texts=QUESTIONS, ways=WAYS)
    with Journal(workspace.round(index).journal) as journal:
        ask = journal.asker(teacher.complete, _counter(progress, QUESTIONS * WAYS))
        content = await second_exam(recipe, workspace, index, ask)
    _tell(recipe, content, progress)
    return content


async def _examine_first_texts(
    recipe: Recipe, workspace: Workspace, index: int, splits: Splits, teacher: TeacherOnDemand, progress: Progress
) -> Mapping[str, Any]:
    """Have the first texts written and labelled; see `stages.first_texts`. Returns the content of exam.json."""
    brief, quotas = draft_plan(recipe, workspace, index, splits)
    filters = TextFilters(recipe.filters, (sample.text for sample in (*splits.test, *splits.dev)), brief.earlier)
    filters.read_earlier()
    brief = replace(brief, check_texts=filters.problems)
    planned = RequestPlan([quotas], recipe.strategy.per_request, brief.seed, index)
    requests = first_requests(planned)
    student = await asyncio.to_thread(seed_student, recipe, workspace, splits.seeds)
    progress.stage("first texts", index, texts=sum(request.count for request in requests), requests=len(requests))
    count = _counter(progress, len(requests))
    with Journal(workspace.round(index).journal) as journal:
        write = recipe.strategy.writer(brief, journal.asker(with_student(teacher.complete, student)))
        async with aclosing(in_order(requests, write, lambda: teacher.window)) as results:
            async for _ in results:
                count()
    content, sentence = correct_by_first_texts(workspace, index, brief, requests)
    if sentence:  # the exam's own was told when it was taken
        _tell(recipe, {**content, "message": sentence}, progress)
    return content


def _tell(recipe: Recipe, content: Mapping[str, Any], progress: Progress) -> bool:
    """Tell what an exam found, unless the run stops by it: then the error says it. Returns whether the run goes on."""
    if content["verdict"] not in REFUSED:
        progress.note(content["message"])
        return True
    if recipe.teacher_trust == FORCE:
        progress.note(f"{content['message']}; the run goes on, because teacher_trust is force")
        return True
    return False


def _counter(progress: Progress, total: int) -> Callable[..., None]:
    """Reports each answer of a stage that asks `total` prompts."""
    counts = itertools.count(1)

    def on_answer(*_: object) -> None:
        progress.answered(next(counts), total)

    return on_answer
