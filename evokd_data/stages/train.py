"""Train: the student learns a round, then is scored. Writes probe.arrow, student/, metrics.json.

The test set is read here and by the filters, nowhere else; no decision of the loop depends on its scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from evokd_data.digest import derive_seed
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Sample
from evokd_data.seeds import Splits
from evokd_data.shards import ShardedSamples
from evokd_data.stages.plan import earlier_shards
from evokd_data.stages.probe import probe
from evokd_data.students import Lesson
from evokd_data.workspace import RoundFolder, Workspace, read_json, whole_folder, write_json

A = TypeVar("A")
B = TypeVar("B")


class Mapped(Sequence[B], Generic[A, B]):
    """A sequence seen through a function, item by item: nothing is kept."""

    def __init__(self, items: Sequence[A], through: Callable[[A], B]) -> None:
        self._items = items
        self._through = through

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> B:  # type: ignore[override]
        return self._through(self._items[index])

    def __iter__(self) -> Iterator[B]:
        return map(self._through, self._items)


def train_round(
    recipe: Recipe, workspace: Workspace, index: int, splits: Splits, progress: Progress | None = None
) -> dict[str, Any]:
    """The metrics of round `index`; probe, training and scoring are each done once."""
    progress = progress or Progress()
    folder = workspace.round(index)
    if folder.metrics.exists():
        metrics = read_json(folder.metrics)
        progress.done("train-round", index, already=True)
        return metrics
    started = time.monotonic()
    if index > 0:
        progress.stage("probe", index)
        probe(recipe, workspace, index)
    progress.stage("train", index)
    fit(recipe, workspace, folder)
    progress.stage("evaluate", index)
    metrics = {
        "schema": "1",
        "round": index,
        "test": _score(recipe, folder, splits.test),
        "dev": _score(recipe, folder, splits.dev) if splits.dev else None,
        "probe": _probe_metrics(recipe, workspace, index),
        "training": read_json(folder.student / TRAINING),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_json(folder.metrics, metrics)
    progress.done("train-round", index, metrics=metrics["test"])
    return metrics


TRAINING = "training.json"


def fit(recipe: Recipe, workspace: Workspace, folder: RoundFolder) -> None:
    """A checkpoint in the round's folder, whole or not at all."""
    if folder.student.exists():
        return
    task = recipe.task
    fresh = ShardedSamples(task, folder.shard_files())
    earlier = ShardedSamples(task, earlier_shards(workspace, folder.index))
    lesson = Lesson(
        fresh=Mapped(fresh, task.supervise),
        earlier=Mapped(earlier, task.supervise),
        classes=task.classes,
        seed=derive_seed(recipe.seed, folder.index, "train") % 2**31,
        previous=workspace.round(folder.index - 1).student if folder.index else None,
    )
    with whole_folder(folder.student) as draft:
        started = time.monotonic()
        figures = recipe.student.fit(lesson, draft)
        figures = {
            **figures,
            "fresh": len(fresh),
            "earlier": len(earlier),
            "seconds": round(time.monotonic() - started, 3),
        }
        write_json(draft / TRAINING, figures)


def _score(recipe: Recipe, folder: RoundFolder, samples: Sequence[Sample]) -> dict[str, Any]:
    examples = [recipe.task.supervise(sample) for sample in samples]
    probabilities = recipe.student.predict(examples, folder.student)
    return recipe.task.score(samples, probabilities, derive_seed(recipe.seed, "bootstrap"))


def _probe_metrics(recipe: Recipe, workspace: Workspace, index: int) -> dict[str, Any] | None:
    """How the last student did on samples it had not seen: not a test score, its labels are the teacher's."""
    if index == 0:
        return None
    predictions = probe(recipe, workspace, index)
    right = sum(not recipe.task.mistakes(prediction) for prediction in predictions)
    return {"n": len(predictions), "right": right, "accuracy": right / len(predictions) if predictions else None}
