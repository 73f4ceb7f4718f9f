"""Choose texts of the pool to be labelled: those of which the last student is least sure (active learning)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from evokd_data.digest import derive_random
from evokd_data.generation.near_duplicates import MinHashIndex
from evokd_data.normal_form import normal_form
from evokd_data.recipe import Recipe
from evokd_data.seeds import Splits
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import POOL
from evokd_data.tasks import Task, unlabelled

log = logging.getLogger(__name__)


def choose(recipe: Recipe, workspace: Workspace, index: int, splits: Splits, *, rank: bool = True) -> list[str]:
    """The pool's texts for round `index`, the least sure first. Fewer than their share when the pool has no more. Without `rank` no
    student is asked: as many texts, but others.

    A near-duplicate of a test or dev text is never chosen: the filters would reject it, but only after the teacher had
    read it. A text that became a sample in an earlier round, or was labelled and rejected, is not chosen again. The
    texts are written into the plan, and a rerun reads them from there.
    """
    assert recipe.pool is not None
    count = round(recipe.pool.share * recipe.rounds.samples)
    used = {normal_form(text) for text in _used_texts(recipe.task, workspace, index)}
    usable = [
        text
        for text in splits.pool
        if recipe.filters.min_characters <= len(text) <= recipe.filters.max_characters and normal_form(text) not in used
    ]
    random = derive_random(recipe.seed, index, "pool")
    candidates = random.sample(usable, min(len(usable), recipe.pool.candidates))
    candidate_margins = margins(recipe, workspace, index, candidates) if rank else [0.0] * len(candidates)
    ranked = sorted(zip(candidate_margins, candidates, strict=True))  # of equal margins the text decides
    protected = MinHashIndex(recipe.filters.near_duplicates)
    for sample in (*splits.test, *splits.dev):
        protected.add(sample.text, "")
    chosen: dict[str, str] = {}
    left_out = 0
    for _, text in ranked:
        if len(chosen) == count:
            break
        if protected.find(text):
            left_out += 1
        else:
            chosen.setdefault(normal_form(text), text)
    log.info(
        "round %d: %d of %d texts of the pool chosen, %d left out because they resemble test or dev texts",
        index, len(chosen), len(usable), left_out,
    )  # fmt: skip
    return list(chosen.values())


def _used_texts(task: Task, workspace: Workspace, index: int) -> Iterator[str]:
    for folder in workspace.before(index):
        for sample in ShardedSamples(task, folder.shard_files()):
            yield sample.text
        for rejection in read_rejections(folder.rejection_files()):
            if rejection.origin.strategy == POOL:
                yield rejection.text


def margins(recipe: Recipe, workspace: Workspace, index: int, texts: Sequence[str]) -> list[float]:
    """The margin of each text: the last student's probability of its answer minus that of its second best (Scheffer et
    al. 2001). For tagging, the mean over the words, so that long texts are not less sure because of their length.

    Margins are rounded to 6 decimals, because the last bits depend on the machine.
    """
    import numpy as np

    examples = [unlabelled(recipe.task, text) for text in texts]
    if not examples:
        return []
    values = []
    for row in recipe.student.predict(examples, workspace.round(index - 1).student):
        ascending = np.sort(np.atleast_2d(np.asarray(row, dtype=np.float64)), axis=1)
        values.append(round(float((ascending[:, -1] - ascending[:, -2]).mean()), 6) if ascending.size else 1.0)
    return values
