"""Rebuilding a published round from its revision: what replay, reproduce and resume have in common.

It fetches what a round was made from, restores earlier rounds into a run folder, runs the round's own strategy and filters
again, and compares the fates of texts (samples and rejections) with the published ones.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from evokd_data import repo_layout
from evokd_data.errors import DataError, VerificationError
from evokd_data.generation.filters import FilterPipeline
from evokd_data.generation.scheduler import in_order
from evokd_data.published_recipe import PublishedRecipe, load_published
from evokd_data.recipe import Recipe
from evokd_data.records import Draft, GenerationRequest, Rejection, Sample
from evokd_data.repo_layout import round_tag
from evokd_data.revisions.load import fetch_rounds, find_round
from evokd_data.seeds import Splits, load_splits
from evokd_data.settings import short
from evokd_data.stages.generate import make_filter_pipeline
from evokd_data.storage import parquet
from evokd_data.storage.journal import NotJournalled
from evokd_data.storage.shards import (
    ShardedSamples,
    content_digest,
    probe_schema,
    row_rejection,
    shard_name,
    write_rows,
    write_shard,
)
from evokd_data.storage.snapshot import Snapshot
from evokd_data.storage.workspace import RoundFolder, Workspace
from evokd_data.strategies import Ask, Brief

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub
    from evokd_data.tasks import Task

MAX_EXAMPLES = 5  # differences of one kind that are reported one by one
TEST_OVERLAP = "test_overlap"

Fate = Sample | Rejection
"""What became of one text that was asked for."""
TextKey = tuple[int, int]
"""Identifies a text in a round: the index of its request, and its position among the texts of the request."""


def fetch_round(hub: Hub, repo: str, round: int | str | None) -> Snapshot:
    """A verified snapshot with all that a round was made from: the rows of all rounds, the recipe, the prompts, the round's
    plan, journal and rejections, and the probe of the round before, and the plans of all rounds. `round` as in `load.load_round`."""
    index, revision = find_round(hub, repo, round)
    kinds = (repo_layout.ROUNDS, repo_layout.JOURNAL, repo_layout.REJECTIONS)
    own_folders = [f"{kind}/{round_tag(index)}/" for kind in kinds]
    earlier_folders = [f"{repo_layout.PROBE}/{round_tag(index - 1)}/"] if index else []
    plans = [repo_layout.plan(round_tag(earlier)) for earlier in range(index)]
    prefixes = [repo_layout.RECIPE, f"{repo_layout.PROMPTS}/", *plans, *own_folders, *earlier_folders]
    return fetch_rounds(hub, repo, revision, kinds=[repo_layout.DATA], also=prefixes)


def published_recipe(
    snapshot: Snapshot, overrides: Iterable[str] = (), user_recipe: Recipe | None = None
) -> PublishedRecipe:
    """The recipe of a revision, with its prompts; `overrides` and `user_recipe` as in `load_published`.

    Raises RecipeError when this version cannot read it.
    """
    prompts = snapshot.folder / repo_layout.PROMPTS
    used = snapshot.rounds[-1].identity["prompts"]
    return load_published(snapshot.folder / repo_layout.RECIPE, prompts if used else None, overrides, user_recipe)


def own_splits(snapshot: Snapshot, published: Recipe, recipe: Recipe) -> Splits:
    """The data that the user's `recipe` names. Raises DataError when the round was made with other data."""
    splits = load_splits(replace(published, seeds=recipe.seeds, test=recipe.test, dev=recipe.dev, pool=recipe.pool))
    published_digests = snapshot.rounds[-1].identity["inputs"]
    for name, digest in splits.digests().items():
        if digest != published_digests.get(name):
            raise DataError(
                f"{recipe.path}: {name}: are not the data of {snapshot.name} (digest {digest[:12]}, there "
                f"{published_digests.get(name, 'none')[:12]}); "
                "name those, or leave the recipe out"
            )
    return splits


def restore_rows(snapshot: Snapshot, task: Task, folder: RoundFolder) -> None:
    """Write the shards of a published round into `folder`, divided as they were.

    Raises VerificationError when the rows of a shard differ from the round's manifest.
    """
    published = snapshot.rounds[folder.index]
    rows = parquet.read_samples(task, snapshot.paths(repo_layout.DATA, [folder.index]))
    for number, entry in enumerate(published.manifest["shards"]):
        samples = list(islice(rows, entry["rows"]))
        content = write_shard(folder.shards / shard_name(number), task, samples, entry["first"], entry["last"])
        if content != entry["content"]:
            raise VerificationError(
                f"{snapshot.name}: the rows of shard {number} of {published.tag} digest to {content[:12]}, its manifest "
                f"says {entry['content'][:12]}; see what is wrong: evokd-data verify {snapshot.repo}"
            )


def restore_probe(snapshot: Snapshot, folder: RoundFolder) -> bool:
    """Write the probe of a published round into `folder`. Returns False when the round was published without one.

    Round 0 has no probe. A round without rows has an empty one.
    """
    published = snapshot.rounds[folder.index]
    files = snapshot.paths(repo_layout.PROBE, [folder.index])
    if folder.index == 0 or (published.identity["rows"] and not files):
        return False
    write_rows(folder.probe, probe_schema(), [row for file in files for row in parquet.read_rows(file)])
    return True


def restore_earlier(snapshot: Snapshot, recipe: Recipe, workspace: Workspace) -> Splits:
    """Write what the last round of a snapshot was made from: the rows of the rounds before it, what these withdraw, and
    its plan.

    Returns the published splits: the seeds alone.
    """
    index = len(snapshot.rounds) - 1
    for folder in workspace.before(index):
        restore_rows(snapshot, recipe.task, folder)
    corrected = [folder for folder in workspace.before(index) if snapshot.corrections(folder.index) is not None]
    for folder in (*corrected, workspace.round(index)):
        folder.plan.parent.mkdir(parents=True, exist_ok=True)
        folder.plan.write_bytes((snapshot.folder / repo_layout.plan(folder.tag)).read_bytes())
    return Splits(tuple(ShardedSamples(recipe.task, workspace.round(0).shard_files())), ())


def published_fates(snapshot: Snapshot, task: Task, index: int) -> Iterator[Fate]:
    """The samples and rejections of a published round, merged, in index order."""
    samples: Iterator[Fate] = parquet.read_samples(task, snapshot.paths(repo_layout.DATA, [index]))
    return heapq.merge(samples, published_rejections(snapshot, index), key=text_key)


def published_rejections(snapshot: Snapshot, index: int) -> Iterator[Rejection]:
    """The rejections of a published round, in index order."""
    for file in snapshot.paths(repo_layout.REJECTIONS, [index]):
        yield from map(row_rejection, parquet.read_rows(file))


def replay_filter_pipeline(
    snapshot: Snapshot, recipe: Recipe, splits: Splits | None, earlier: Sequence[Sample], limit: int
) -> FilterPipeline:
    """The filters of a snapshot's last round, which is full with `limit` texts. They know the user's test and dev texts when `splits`
    are given; otherwise which texts were rejected because they repeat one."""
    overlaps: dict[TextKey, str] = {}
    if splits is None:
        rejections = published_rejections(snapshot, len(snapshot.rounds) - 1)
        overlaps = {text_key(rejection): rejection.text for rejection in rejections if rejection.reason == TEST_OVERLAP}
    return make_filter_pipeline(recipe, splits or Splits((), ()), earlier, limit=limit, overlaps=overlaps)


async def regenerate(
    recipe: Recipe,
    brief: Brief,
    planned: Sequence[GenerationRequest],
    ask: Ask,
    pipeline: FilterPipeline,
    window: Callable[[], int],
    on_unanswered: Callable[[GenerationRequest, NotJournalled], None],
) -> AsyncIterator[Fate]:
    """The fate of every text of the planned requests, in index order.

    `on_unanswered` is called with each request for which the journal has no answer; the others go on.
    """
    brief = replace(brief, check_texts=pipeline.text_filters.problems)
    write = recipe.strategy.writer(brief, ask)

    async def attempt(request: GenerationRequest) -> Sequence[Draft] | NotJournalled:
        try:
            return await write(request)
        except NotJournalled as error:
            return error

    async with aclosing(in_order(planned, attempt, window)) as results:
        async for request, drafts in results:
            if isinstance(drafts, NotJournalled):
                on_unanswered(request, drafts)
                continue
            for draft in drafts:
                yield pipeline.apply(draft)


async def pair_fates(
    published: Iterator[Fate], regenerated: AsyncIterator[Fate]
) -> AsyncIterator[tuple[Fate | None, Fate | None]]:
    """(published, regenerated) fate of each text, in index order. None where one side has no such text.

    Both arguments must be in index order.
    """
    before = next(published, None)
    async for after in regenerated:
        while before is not None and text_key(before) < text_key(after):
            yield before, None
            before = next(published, None)
        if before is not None and text_key(before) == text_key(after):
            yield before, after
            before = next(published, None)
        else:
            yield None, after
    while before is not None:
        yield before, None
        before = next(published, None)


def text_key(text: Fate | Draft) -> TextKey:
    """The key of a text in its round."""
    return text.origin.request, text.origin.position


def equal_fates(task: Task, before: Fate | None, after: Fate | None) -> bool:
    """Whether two fates are equal. Numbers are compared with the precision with which they are stored."""
    if isinstance(before, Sample) and isinstance(after, Sample):
        return content_digest(task, [before]) == content_digest(task, [after])
    return before == after


def describe_fate(task: Task, fate: Fate | None) -> str:
    """A fate for messages."""
    if fate is None:
        return "nothing"
    if isinstance(fate, Rejection):
        detail = f" {fate.detail}" if fate.detail else ""
        return f"{short(fate.text)} rejected ({fate.reason}{detail})"
    target = json.dumps(task.to_row(fate.target), ensure_ascii=False)
    soft = "" if fate.soft is None else f" {[round(share, 4) for share in fate.soft]}"
    return f"{short(fate.text)} {short(json.loads(target))}{soft}"
