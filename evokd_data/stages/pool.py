"""Choose real texts to be labelled: those of the pool that the last student is least sure of."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from evokd_data.digest import derive_random
from evokd_data.generation.near_duplicates import MinHashIndex, normal_form
from evokd_data.recipe import Recipe
from evokd_data.records import Origin, Sample
from evokd_data.seeds import Splits
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import POOL
from evokd_data.tasks import Task

log = logging.getLogger(__name__)


def choose(recipe: Recipe, workspace: Workspace, index: int, splits: Splits) -> list[str]:
    """The texts of round `index`, least sure first; fewer than their share when the pool has no more.

    Never one that repeats a text of test or dev, however nearly: the filters would drop it, but only after the teacher
    had read it. Nor one that was kept, or labelled and dropped, before. What is chosen is written into the plan, and
    nothing of it is computed again.
    """
    assert recipe.pool is not None
    wanted = round(recipe.pool.share * recipe.rounds.samples)
    used = {normal_form(text) for text in _used(recipe.task, workspace, index)}
    fitting = [
        text
        for text in splits.pool
        if recipe.filters.min_characters <= len(text) <= recipe.filters.max_characters and normal_form(text) not in used
    ]
    chance = derive_random(recipe.seed, index, "pool")
    looked_at = chance.sample(fitting, min(len(fitting), recipe.pool.candidates))
    doubts = margins(recipe, workspace, index, looked_at)
    order = sorted(range(len(looked_at)), key=lambda place: (doubts[place], looked_at[place]))
    protected = MinHashIndex(recipe.filters.near_duplicates)
    for sample in (*splits.test, *splits.dev):
        protected.add(sample.text, "")
    chosen: dict[str, str] = {}
    left_out = 0
    for place in order:
        if len(chosen) == wanted:
            break
        if protected.find(looked_at[place]):
            left_out += 1
        else:
            chosen.setdefault(normal_form(looked_at[place]), looked_at[place])
    log.info(
        "round %d: %d of %d texts of the pool chosen, %d left out for the test set's sake",
        index, len(chosen), len(fitting), left_out,
    )  # fmt: skip
    return list(chosen.values())


def _used(task: Task, workspace: Workspace, index: int) -> Iterator[str]:
    for folder in workspace.before(index):
        for sample in ShardedSamples(task, folder.shard_files()):
            yield sample.text
        for rejection in read_rejections(folder.rejection_files()):
            if rejection.origin.strategy == POOL:
                yield rejection.text


def margins(recipe: Recipe, workspace: Workspace, index: int, texts: Sequence[str]) -> list[float]:
    """How much likelier the last student finds its answer than its second best (Scheffer et al. 2001); of a text of many
    words their mean, so that long texts are not the unsure ones by their length. Rounded: ties are broken by the text."""
    import numpy as np

    target: Any = recipe.task.target_of(recipe.task.labels[0]) or ()  # a student does not look at it when it predicts
    examples = [recipe.task.supervise(Sample("", text, target, Origin(index, -1, 0, POOL))) for text in texts]
    if not examples:
        return []
    found = []
    for row in recipe.student.predict(examples, workspace.round(index - 1).student):
        best = np.sort(np.atleast_2d(np.asarray(row, dtype=np.float64)), axis=1)
        found.append(round(float((best[:, -1] - best[:, -2]).mean()), 6) if best.size else 1.0)
    return found
