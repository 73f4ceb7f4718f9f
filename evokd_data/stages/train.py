"""Train: the student learns a round, then is scored. Writes probe.arrow, student/, metrics.json.

The test set is read here and by the filters, nowhere else; no decision of the loop depends on its scores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.digest import derive_seed, digest
from evokd_data.generation.diversity import detector, diversity
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Sample, SequenceExample, TokenExample
from evokd_data.seeds import Splits
from evokd_data.stages.probe import probe
from evokd_data.storage.shards import ShardedSamples, read_probe, shard_content
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json
from evokd_data.strategies import POOL
from evokd_data.students import Segment, TrainingData, distributed
from evokd_data.tasks import Task

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
        **texture(recipe, folder, splits),
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
    weighed = Boost.of(recipe, workspace, folder.index)
    data = make_training_data(recipe, workspace, folder, weighed)
    with whole_folder(folder.student) as draft:
        started = time.monotonic()
        distributed.broadcast(folder.index)
        figures = recipe.student.fit(data, draft)
        figures = {
            **figures,
            "fresh": len(data.fresh),
            "earlier": len(data.earlier),
            "boosted": weighed.boosted,
            "seconds": round(time.monotonic() - started, 3),
        }
        write_json(draft / TRAINING, figures)


def learn_along(recipe: Recipe, workspace: Workspace) -> None:
    """What torchrun's other processes do: learn their part of what the first one learns, and leave no file behind."""
    while (index := distributed.broadcast(None)) is not None:
        with tempfile.TemporaryDirectory() as scratch:
            weighed = Boost.of(recipe, workspace, index)
            recipe.student.fit(make_training_data(recipe, workspace, workspace.round(index), weighed), Path(scratch))


def make_training_data(recipe: Recipe, workspace: Workspace, folder: RoundFolder, weighed: Boost) -> TrainingData:
    """All rounds up to this one, as the student learns them."""
    task = recipe.task
    fresh = ShardedSamples(task, folder.shard_files())
    earlier = ShardedSamples(task, workspace.earlier_shards(folder.index))
    segments = tuple(_segment(task, one, weighed) for one in (*workspace.before(folder.index), folder))
    return TrainingData(
        fresh=Mapped(fresh, weighed),
        earlier=Mapped(earlier, weighed),
        classes=task.classes,
        seed=derive_seed(recipe.seed, folder.index, "train") % 2**31,
        previous=workspace.round(folder.index - 1).student if folder.index else None,
        segments=segments,
        cache=workspace.tokens,
    )


def _segment(task: Task, folder: RoundFolder, weighed: Boost) -> Segment:
    """A round of a data: its shards, and which of its samples weigh more, decide what is learned of it."""
    files = folder.shard_files()
    key = digest([[shard_content(path) for path in files], weighed.keys.get(folder.index)])
    return Segment(key, lambda: map(weighed, ShardedSamples(task, files)))


def _score(recipe: Recipe, folder: RoundFolder, samples: Sequence[Sample]) -> dict[str, Any]:
    examples = [recipe.task.supervise(sample) for sample in samples]
    probabilities = recipe.student.predict(examples, folder.student)
    return recipe.task.score(samples, probabilities, derive_seed(recipe.seed, "bootstrap"))


def _probe_metrics(recipe: Recipe, workspace: Workspace, index: int) -> dict[str, Any] | None:
    """How the last student did on samples it had not seen: not a test score, its labels are the teacher's."""
    if index == 0:
        return None
    task, predictions = recipe.task, probe(recipe, workspace, index)
    wrong = [prediction.id for prediction in predictions if task.mistakes(prediction)]
    right = len(predictions) - len(wrong)
    per_class = {label: {"n": 0, "right": 0} for label in task.labels}
    for prediction in predictions:
        missed = {mistake.expected for mistake in task.mistakes(prediction)}
        for label in (label for label in task.labels if task.carries(prediction.expected, label)):
            per_class[label]["n"] += 1
            per_class[label]["right"] += label not in missed
    return {
        "n": len(predictions),
        "right": right,
        "accuracy": right / len(predictions) if predictions else None,
        "per_class": per_class,
        **({"wrong": wrong} if recipe.training.boost > 1 else {}),
    }


@dataclass(frozen=True)
class Boost:
    """Samples as a student learns them, heavier where the student before was wrong about them.

    Each sample was predicted once, by the student of the round before its own (`probe`); what that got wrong weighs
    `training.boost` times as much as the rest of its round, in this round and in all later ones, and a round's mean
    weight stays what it was. AdaBoost takes the factor from the error rate; here errors are in part wrong labels of the
    teacher's, which that factor would raise most where they are rarest.
    """

    task: Task
    boost: float
    wrong: frozenset[str]
    """Ids of the samples that weigh more; empty without boosting."""
    means: Mapping[int, float]
    """Round -> what its weights are divided by; empty without boosting."""
    keys: Mapping[int, str]
    """Round -> a digest of what decides its weights; empty without boosting."""
    boosted: int
    """Samples of those rounds."""

    @classmethod
    def of(cls, recipe: Recipe, workspace: Workspace, last: int) -> Boost:
        """For the rounds up to `last`, from their metrics, which outlive a run's folder, and the newest one's probe."""
        boost, boosted = recipe.training.boost, 0
        everywhere: set[str] = set()
        means: dict[int, float] = {}
        keys: dict[int, str] = {}
        for folder in workspace.before(last + 1)[1:] if boost > 1 else ():
            count = len(ShardedSamples(recipe.task, folder.shard_files()))
            if folder.metrics.exists():
                wrong = set(read_json(folder.metrics)["probe"]["wrong"])
            else:
                predictions = read_probe(recipe.task, folder.probe)
                wrong = {prediction.id for prediction in predictions if recipe.task.mistakes(prediction)}
            means[folder.index] = 1 + (boost - 1) * len(wrong) / max(1, count)
            keys[folder.index] = digest([boost, sorted(wrong)])
            everywhere |= wrong
            boosted += count
        return cls(recipe.task, boost, frozenset(everywhere), means, keys, boosted)

    def __call__(self, sample: Sample) -> SequenceExample | TokenExample:
        mean = self.means.get(sample.origin.round)
        if mean is None:
            return self.task.supervise(sample)
        factor = (self.boost if sample.id in self.wrong else 1.0) / mean
        return self.task.supervise(replace(sample, weight=sample.weight * factor))


def texture(recipe: Recipe, folder: RoundFolder, splits: Splits) -> dict[str, Any]:
    """How varied the round's new texts are, and how easily they are told from real ones: seeds, pool, dev, never test."""
    seed = derive_seed(recipe.seed, folder.index, "texture")
    fresh = [
        sample.text for sample in ShardedSamples(recipe.task, folder.shard_files()) if sample.origin.strategy != POOL
    ]
    real = [*(sample.text for sample in (*splits.seeds, *splits.dev)), *splits.pool]
    return {
        "diversity": diversity(fresh, seed),
        "detector": detector(fresh, list(dict.fromkeys(real)), seed) if folder.index else None,
    }
