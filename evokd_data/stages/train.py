"""Train: the student learns all rounds up to this one. Writes student/."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.digest import derive_seed, digest
from evokd_data.generation.boosting import Boosting
from evokd_data.generation.seed_student import class_names
from evokd_data.recipe import Recipe
from evokd_data.scratch import scratch_folder
from evokd_data.storage.corrected_rounds import corrections_of, withdrawn_rows
from evokd_data.storage.shards import ShardedSamples, Withdrawn, shard_content
from evokd_data.storage.workspace import RoundFolder, Workspace
from evokd_data.students import Segment, TrainingData, distributed

A = TypeVar("A")
B = TypeVar("B")

TRAINING = "training.json"
"""The file in the checkpoint's folder with the figures of the training."""


class Mapped(Sequence[B], Generic[A, B]):
    """A lazy sequence: `function` of each item of another sequence. It is computed at each access and not stored."""

    def __init__(self, items: Sequence[A], function: Callable[[A], B]) -> None:
        self._items = items
        self._function = function

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> B:  # type: ignore[override]
        return self._function(self._items[index])

    def __iter__(self) -> Iterator[B]:
        return map(self._function, self._items)


def train(recipe: Recipe, workspace: Workspace, index: int) -> None:
    """Train the student of round `index`. Its checkpoint appears whole or not at all; one that exists is left alone.

    Raises StudentError when the student cannot be loaded or trained.
    """
    folder = workspace.round(index)
    if folder.student.exists():
        return
    boosting = Boosting.up_to(recipe, workspace, index)
    data = training_data(recipe, workspace, index, boosting)
    with whole_folder(folder.student) as draft:
        started = time.monotonic()
        distributed.broadcast(index)
        figures = recipe.student.fit(data, draft)
        figures = {
            **figures,
            "fresh": len(data.fresh),
            "earlier": len(data.earlier),
            "boosted": boosting.boosted,
            "seconds": round(time.monotonic() - started, 3),
        }
        write_json(draft / TRAINING, figures)


def train_on_other_ranks(recipe: Recipe, workspace: Workspace) -> None:
    """Take part in the training of rank 0, in torchrun's other processes, until rank 0 ends. Writes no file."""
    while (index := distributed.broadcast(None)) is not None:
        with scratch_folder("rank") as scratch:
            boosting = Boosting.up_to(recipe, workspace, index)
            recipe.student.fit(training_data(recipe, workspace, index, boosting), scratch)


def training_data(recipe: Recipe, workspace: Workspace, index: int, boosting: Boosting) -> TrainingData:
    """The samples of all rounds up to `index` that are not withdrawn, as examples; the newest round as `fresh`."""
    task, folder = recipe.task, workspace.round(index)
    withdrawn = withdrawn_rows(workspace, index)
    fresh, earlier = folder.shard_files(), workspace.earlier_shards(index)
    previous = workspace.round(index - 1).student if index else None
    if recipe.student.continues and corrections_of(folder) is not None:
        # The student before has learned the withdrawn rows. So this one begins anew, and everything is fresh to it.
        fresh, earlier, previous = [*earlier, *fresh], [], None
    return TrainingData(
        fresh=Mapped(ShardedSamples(task, fresh, withdrawn), boosting.example),
        earlier=Mapped(ShardedSamples(task, earlier, withdrawn), boosting.example),
        classes=task.classes,
        class_names=class_names(task),
        seed=derive_seed(recipe.seed, index, "train") % 2**31,
        previous=previous,
        segments=tuple(_segment(segment_folder, boosting, withdrawn) for segment_folder in workspace.before(index + 1)),
        cache=workspace.tokens,
    )


def _segment(folder: RoundFolder, boosting: Boosting, withdrawn: Withdrawn) -> Segment:
    """A round as a segment. Its key covers its shards, the weights of its samples and which are withdrawn: these decide what is learned."""
    files = folder.shard_files()
    left_out = sorted(sample_id for round_index, sample_id in withdrawn if round_index == folder.index)
    content = [[shard_content(path) for path in files], boosting.keys.get(folder.index)]
    key = digest([*content, left_out] if left_out else content)
    return Segment(key, lambda: map(boosting.example, ShardedSamples(boosting.task, files, withdrawn)))
