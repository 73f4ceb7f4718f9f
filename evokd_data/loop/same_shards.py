"""Other students on the samples of a run: the teacher is asked once, and every student learns the same rounds.

    runs/<name>/compared/<kind>-<digest>/round-003/  the student's checkpoint
    runs/<name>/compared/<kind>-<digest>/round-003.json  its scores on the test set

The digest is that of all that decides the student's weights besides the samples: the same student is trained once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.deployment.latency import student_latency
from evokd_data.digest import digest
from evokd_data.errors import RecipeError
from evokd_data.generation.boosting import Boosting
from evokd_data.loop.rounds import LockedRun
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.repo_layout import round_tag
from evokd_data.seeds import Splits
from evokd_data.stages.evaluate import score
from evokd_data.stages.train import TRAINING, training_data
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.students.size import size_of

TIMED_TEXTS = 200
"""Different texts that latency is measured on, the first ones of the test set."""


def refuse_other_differences(recipes: Sequence[Recipe]) -> None:
    """Raises RecipeError when recipes differ in more than name and student: then not the same samples would come of them."""
    first = recipes[0]
    problems = []
    for recipe in recipes[1:]:
        keys = sorted({*first.settings, *recipe.settings} - {"name", "student"})
        differing = [key for key in keys if first.settings.get(key) != recipe.settings.get(key)]
        if differing:
            problems.append(
                f"{recipe.path}: differs from {first.path} in {', '.join(differing)}; with --same-shards recipes differ in name and "
                "student alone"
            )
    if problems:
        raise RecipeError(*problems)


def checkpoint_of(workspace: Workspace, recipe: Recipe, index: int) -> Path:
    """Where the recipe's student, trained up to round `index` of another recipe's run, lies."""
    return workspace.compared / f"{recipe.student.name}-{digest(settings_of(recipe))[:12]}" / round_tag(index)


def settings_of(recipe: Recipe) -> list[Any]:
    """All that decides the student's weights besides the samples."""
    return [recipe.student.name, dict(recipe.student.identity()), asdict(recipe.training), recipe.seed]


def train_students(run: LockedRun, recipe: Recipe, progress: Progress) -> None:
    """Train and score the recipe's student on each round of another recipe's run. What is there is not trained again.

    Raises StudentError when it cannot be trained.
    """
    for index in run.complete_rounds():
        _train(run, recipe, index, progress)


def _train(run: LockedRun, recipe: Recipe, index: int, progress: Progress) -> None:
    checkpoint = checkpoint_of(run.workspace, recipe, index)
    metrics_file = checkpoint.with_suffix(".json")
    if metrics_file.exists():
        return
    if not checkpoint.exists():
        progress.stage("train", index, student=recipe.student.name)
        data = training_data(recipe, run.workspace, index, Boosting.up_to(recipe, run.workspace, index))
        previous = checkpoint_of(run.workspace, recipe, index - 1) if index else None
        with whole_folder(checkpoint) as draft:
            write_json(draft / TRAINING, recipe.student.fit(replace(data, previous=previous), draft))
    first = run.complete_rounds()[0]
    if index != first and not recipe.student.learns:  # it predicts what it predicted after the first round
        test = read_json(checkpoint_of(run.workspace, recipe, first).with_suffix(".json"))["test"]
    else:
        progress.stage("evaluate", index, student=recipe.student.name)
        test = score(recipe.task, recipe.student, checkpoint, run.splits.test, recipe.seed)
    write_json(metrics_file, {"test": test, "training": read_json(checkpoint / TRAINING)})


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """A recipe's student after the last round, with its test metrics of each round and the figures of its last training."""

    recipe: Recipe
    checkpoint: Path
    tests: list[dict[str, Any]]
    training: Mapping[str, Any]


def trained_student(run: LockedRun, recipe: Recipe) -> TrainedStudent:
    """The recipe's student that learned the samples of a run, its own or that of another recipe."""
    rounds = run.complete_rounds()
    if run.recipe.name == recipe.name:
        metrics = [read_json(run.workspace.round(index).metrics) for index in rounds]
        checkpoint = run.workspace.round(rounds[-1]).student
    else:
        metrics = [read_json(checkpoint_of(run.workspace, recipe, index).with_suffix(".json")) for index in rounds]
        checkpoint = checkpoint_of(run.workspace, recipe, rounds[-1])
    return TrainedStudent(recipe, checkpoint, [entry["test"] for entry in metrics], metrics[-1]["training"])


def differ(students: Mapping[str, TrainedStudent]) -> bool:
    """Whether they are not all of one kind with the same settings."""
    return len({digest(settings_of(student.recipe)) for student in students.values()}) > 1


def student_facts(students: Mapping[str, TrainedStudent], splits: Splits) -> dict[str, Any]:
    """What the student of each arm costs: {"threads", "measurements", "arms": {arm: {"kind", "model", "parameters", "bytes",
    "training_seconds", "p50_ms", "p99_ms"}}}. `bytes` are those of its weights on the disk; the seconds are None for a student that does not learn."""
    task = next(iter(students.values())).recipe.task
    examples = [task.supervise(sample) for sample in splits.test[:TIMED_TEXTS]]
    predictors = {arm: student.recipe.student.predictor(student.checkpoint) for arm, student in students.items()}
    latency = student_latency(predictors, examples)
    milliseconds = latency.pop("students")
    facts = {}
    for arm, student in students.items():
        size = size_of(student.recipe.student.weights(student.checkpoint))
        facts[arm] = {
            "kind": student.recipe.student.name,
            "model": student.recipe.settings["student"].get("model"),
            "parameters": size.parameters,
            "bytes": size.bytes,
            "training_seconds": student.training["seconds"] if student.recipe.student.learns else None,
            **milliseconds[arm],
        }
    return {**latency, "arms": facts}
