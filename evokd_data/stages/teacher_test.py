"""Teacher test: the teacher labels texts of the test set, after the loop. Writes teacher_test.json in the run's folder.

It is the ceiling that a user wants to see beside the student's scores: what the large model itself scores, with the seeds as demonstrations
and with none. Nothing else reads its answers, and its prompts lie in a journal of their own: no test text reaches a prompt of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evokd_data.atomic_files import write_json
from evokd_data.digest import derive_random, derive_seed
from evokd_data.generation.refusals import require_answers
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Labelling, Sample, TokenExample
from evokd_data.seeds import Splits
from evokd_data.stages.exam import labelling_of, task_in_form
from evokd_data.stages.plan import latest_exam, make_brief
from evokd_data.storage.journal import Journal
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.demonstrations import labelling_demonstrations
from evokd_data.strategies.labelling import can_be_scored, label_prompt, read_probabilities
from evokd_data.strategies.prompts import prompt_key
from evokd_data.tasks import Unreadable

WITH_SEEDS, ZERO_SHOTS = "with_seeds", "zero_shots"


async def label_test(
    recipe: Recipe, workspace: Workspace, splits: Splits, teacher: TeacherOnDemand, progress: Progress
) -> Mapping[str, Any] | None:
    """{"n", "form", "with_seeds": test metrics, "zero_shots": test metrics}; None when the recipe wants none or its strategy asks no
    teacher for labels. Read when it is there."""
    count = min(recipe.teacher_test_texts, len(splits.test))
    if not count or "label" not in recipe.strategy.prompt_templates:
        return None
    if not workspace.teacher_test.exists():
        last = max(folder.index for folder in workspace.rounds())
        progress.stage("teacher-test", last, texts=count)
        samples = list(splits.test)
        if count < len(samples):
            samples = derive_random(recipe.seed, "teacher test").sample(samples, count)
        labelling = labelling_of(recipe, latest_exam(workspace, last))
        content: dict[str, Any] = {"n": count, "form": labelling.form.name}
        answered = 0

        def on_answer(*_: object) -> None:
            nonlocal answered
            answered += 1
            progress.answered(answered, 2 * len(samples))

        with Journal(workspace.teacher_test_journal) as journal:
            ask = journal.asker(teacher.complete, on_answer)
            for name, demonstrations in ((WITH_SEEDS, labelling.form.demonstrations), (ZERO_SHOTS, 0)):
                form = replace(
                    labelling.form, demonstrations=demonstrations, turns=labelling.form.turns and demonstrations > 0
                )
                content[name] = await _score(recipe, workspace, replace(labelling, form=form), samples, ask, name)
        write_json(workspace.teacher_test, content)
    return read_json(workspace.teacher_test)


async def _score(
    recipe: Recipe, workspace: Workspace, labelling: Labelling, samples: Sequence[Sample], ask: Ask, name: str
) -> dict[str, Any]:
    """The test metrics of the teacher's labels. An answer that cannot be read is a mistake."""
    brief = make_brief(recipe, workspace, 1, labelling)
    brief = replace(brief, task=task_in_form(recipe, labelling.form))
    shown = labelling_demonstrations(brief)
    prompts = [
        label_prompt(
            brief, sample.text, shown, prompt_key("test", name, number), derive_seed(recipe.seed, "test", name, number)
        )
        for number, sample in enumerate(samples)
    ]
    answers = await asyncio.gather(*map(ask, prompts))
    require_answers(recipe, answers)
    rows = [_row(brief, sample, answer) for sample, answer in zip(samples, answers, strict=True)]
    return recipe.task.score(samples, rows, derive_seed(recipe.seed, "bootstrap"))


def _row(brief: Brief, sample: Sample, answer: Completion) -> Any:
    """What the answer says, as a student's prediction: (C,) probabilities, or (words, C) of 0 and 1 for spans."""
    import numpy as np

    task = brief.task
    if can_be_scored(task):
        try:
            return np.asarray(read_probabilities(brief, answer, sample.text), dtype=np.float32)
        except Unreadable:
            wrong = np.full(len(task.classes), 1 / max(1, len(task.classes) - 1), dtype=np.float32)
            wrong[task.classes.index(str(sample.target))] = 0
            return wrong
    try:
        predicted = task.read_label(answer.text, sample.text)
    except Unreadable:
        predicted = ()
    example = task.supervise(replace(sample, target=predicted))
    assert isinstance(example, TokenExample) and example.targets is not None
    return np.eye(len(task.classes), dtype=np.float32)[list(example.targets)]
