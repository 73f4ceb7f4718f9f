"""The student that knows the user's seeds alone: a second opinion on every label, and the baseline that a distilled student must beat.

Its mistakes have other causes than the teacher's, so the two together are right more often than either. It is asked by prompts as the
teacher is, and its answers are journalled with the teacher's: a replay needs no student.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from math import log
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import whole_folder
from evokd_data.digest import derive_random, derive_seed
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Prompt, Sample, SequenceExample
from evokd_data.scratch import scratch_folder
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import Ask
from evokd_data.strategies.labelling import DECIMALS, STUDENT
from evokd_data.students import Student, TrainingData
from evokd_data.tasks import Task

GATHER_S = 0.02
BATCH = 256
"""Texts that come within this time are predicted together, at most so many."""
SMALLEST = 10**-DECIMALS


def baseline_student(recipe: Recipe) -> Student:
    """The student that does best on a handful of seeds: the recipe's own base model, contrastively fine-tuned; the recipe's student where that has
    no base model."""
    return recipe.student.few_shot()


def training_data_of(recipe: Recipe, samples: Sequence[Sample], *path: str | int) -> TrainingData:
    """Real samples as a student learns them; `path` names what they are, for the seed."""
    examples = [recipe.task.supervise(sample) for sample in samples]
    seed = derive_seed(recipe.seed, *path) % 2**31
    return TrainingData(examples, (), recipe.task.classes, seed, class_names=class_names(recipe.task))


def class_names(task: Task) -> tuple[str, ...]:
    """What each class is called in words, in index order."""
    names = task.describe().get("names", {})
    return tuple(names.get(label, label) for label in task.classes)


def train_seed_student(recipe: Recipe, seeds: Sequence[Sample], folder: Path) -> None:
    """The checkpoint of the student on all seeds in `folder`; nothing when it is there."""
    if folder.exists():
        return
    with whole_folder(folder) as draft:
        # The random seed of round 0: where that student is of the same kind, the two are one, and no chance tells them apart.
        baseline_student(recipe).fit(training_data_of(recipe, seeds, 0, "train"), draft)


def seed_student(recipe: Recipe, workspace: Workspace, seeds: Sequence[Sample]) -> SeedStudent:
    """The seeds-only student of a run, trained when it is not yet."""
    train_seed_student(recipe, seeds, workspace.seed_student)
    return SeedStudent(baseline_student(recipe), workspace.seed_student, recipe.task.classes)


def with_student(complete: Ask, student: SeedStudent | None) -> Ask:
    """Answers prompts of the template `student` by the student, all others by `complete`."""
    if student is None:
        return complete

    async def ask(prompt: Prompt) -> Completion:
        return await (student.complete(prompt) if prompt.template == STUDENT else complete(prompt))

    return ask


MAX_QUESTIONS = 64
FOLDS = 6


def folds_of(recipe: Recipe, seeds: Sequence[Sample]) -> list[list[Sample]]:
    """At most MAX_QUESTIONS seeds, evenly over the labels, in at most FOLDS folds; a label's seeds lie in different ones."""
    by_label: dict[str, list[Sample]] = {label: [] for label in recipe.task.labels}
    for sample in seeds:
        for label in recipe.task.labels:
            if recipe.task.carries(sample.target, label):
                by_label[label].append(sample)
    for label, samples in by_label.items():
        derive_random(recipe.seed, "exam", label).shuffle(samples)
    # (position among the label's seeds, position of the label) of each question, the first seed of every label first.
    questions: dict[str, tuple[int, int, Sample]] = {}
    for turn, samples_of_turn in enumerate(zip_longest(*by_label.values())):
        for label_index, sample in enumerate(samples_of_turn):
            if sample is not None:
                questions.setdefault(sample.id, (turn, label_index, sample))
    chosen = list(questions.values())[:MAX_QUESTIONS]
    folds: list[list[Sample]] = [[] for _ in range(min(FOLDS, len(chosen)))]
    for turn, label_index, sample in chosen:
        folds[(turn + label_index) % len(folds)].append(sample)
    return [fold for fold in folds if fold]


def outside(fold: Sequence[Sample], seeds: Sequence[Sample]) -> list[Sample]:
    """The seeds that are not in the fold, in their order."""
    inside = {sample.id for sample in fold}
    return [seed for seed in seeds if seed.id not in inside]


def cross_fitted(
    recipe: Recipe,
    student: Student,
    folds: Sequence[Sequence[Sample]],
    seeds: Sequence[Sample],
    synthetic: Sequence[Sample] = (),
) -> list[list[Any]]:
    """For each fold the probabilities (see Student.predict) of the student trained on all seeds outside of it, which weigh
    `training.seed_weight` where there are `synthetic` samples beside them."""
    weight = recipe.training.seed_weight if synthetic else 1.0
    predictions = []
    for number, fold in enumerate(folds):
        others = [replace(sample, weight=sample.weight * weight) for sample in outside(fold, seeds)]
        others += synthetic
        examples = [recipe.task.supervise(sample) for sample in fold]
        if not others:
            uniform = [1 / len(recipe.task.classes)] * len(recipe.task.classes)
            predictions.append([uniform for _ in examples])
            continue
        with scratch_folder("folds") as checkpoint:
            student.fit(training_data_of(recipe, others, "seed-student", number), checkpoint)
            predictions.append(list(student.predict(examples, checkpoint)))
    return predictions


class SeedStudent:
    """Answers the prompts of the template `student`: one text in, the log-probability of each class out, rounded.

    Pickled, it takes its checkpoint along: where it arrives, the run folder need not be.
    """

    def __init__(self, student: Student, checkpoint: Path | Mapping[str, bytes], classes: tuple[str, ...]) -> None:
        self._student = student
        self._checkpoint = checkpoint
        self._classes = classes
        self._scratch = ExitStack()
        self._waiting: list[tuple[str, asyncio.Future[Completion]]] = []
        self._busy = asyncio.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        files = self._checkpoint
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in sorted(files.iterdir()) if path.is_file()}
        return SeedStudent, (self._student, files, self._classes)

    async def complete(self, prompt: Prompt) -> Completion:
        """One answer; texts that are asked for together are predicted together, in a thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completion] = loop.create_future()
        self._waiting.append((prompt.messages[-1].content, answer))
        if len(self._waiting) == 1:
            loop.call_later(GATHER_S, lambda: loop.create_task(self._answer_all()))
        return await answer

    async def _answer_all(self) -> None:
        async with self._busy:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not batch:
                return
            if self._waiting:
                asyncio.get_running_loop().create_task(self._answer_all())
            try:
                rows = await asyncio.to_thread(self._predict, [text for text, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                return
            for (_, answer), row in zip(batch, rows, strict=True):
                if not answer.done():
                    answer.set_result(self._completion(row))

    def _predict(self, texts: Sequence[str]) -> Sequence[Any]:
        checkpoint = self._checkpoint
        if not isinstance(checkpoint, Path):
            folder = self._scratch.enter_context(scratch_folder("student"))
            for name, content in checkpoint.items():
                (folder / name).write_bytes(content)
            self._checkpoint = checkpoint = folder
        return self._student.predict([SequenceExample(text, None) for text in texts], checkpoint)

    def _completion(self, row: Sequence[float]) -> Completion:
        # Rounded before the logarithm: the last bits of a float32 are the machine's, and a row must not depend on them.
        probabilities = [max(SMALLEST, round(float(value), DECIMALS)) for value in row]
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        logprobs = {label: log(value) for label, value in zip(self._classes, probabilities, strict=True)}
        return Completion(self._classes[best], "stop", 0, 0, logprobs)
