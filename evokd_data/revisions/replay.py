"""Replay: a published round's rows, made again from its journal: no teacher, no accelerator, no test set.

The weaknesses follow from the probe of the round before, the plan from the weaknesses, the prompts from the plan and the rows before, the rows from the answers: the very
strategy and filters that made the round run again, on the recipe, prompts and earlier rows of the revision itself.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.errors import DataError, VerificationError
from evokd_data.generation.filters import FilterPipeline
from evokd_data.generation.scheduler import in_order
from evokd_data.publishers.open_hub import open_hub
from evokd_data.recipe import Recipe, load_published
from evokd_data.records import Draft, GenerationRequest, Rejection, Sample
from evokd_data.repo_layout import round_tag
from evokd_data.revisions.load import fetch_rounds, find_round
from evokd_data.seeds import Splits, load_splits
from evokd_data.settings import short
from evokd_data.stages.generate import make_filter_pipeline
from evokd_data.stages.plan import as_json, find_weaknesses, plan, weaknesses_as_json
from evokd_data.storage import parquet
from evokd_data.storage.journal import NotJournalled, from_rows
from evokd_data.storage.shards import (
    ContentDigest,
    ShardedSamples,
    content_digest,
    probe_schema,
    read_probe,
    row_rejection,
    shard_name,
    write_rows,
    write_shard,
)
from evokd_data.storage.snapshot import Snapshot
from evokd_data.storage.workspace import RoundFolder, Workspace
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.quotas import RequestPlan

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub
    from evokd_data.tasks import Task

SHOWN = 5  # differing rows told one by one
TEST_OVERLAP = "test_overlap"

Fate = Sample | Rejection
"""What became of one text that was asked for."""
Place = tuple[int, int]
"""Which text that was: its request and its position there."""


@dataclass(frozen=True)
class Replayed:
    """A round whose rows were made again and are the published ones. `content` is their digest, `answers` how many of
    the journal were used, `test_overlap` who decided what repeats the test set: "published" or "test set"."""

    repo: str
    round: int
    tag: str
    commit: str
    rows: int
    rejections: int
    answers: int
    content: str
    test_overlap: str
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def replay(
    repo: str,
    round: int | str | None = None,
    *,
    recipe: Recipe | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> Replayed:
    """Make the rows of a round again and compare them, and what was rejected, with what was published; `round` as in
    `load_round`.

    Which texts repeat the test set cannot be found out without it: these decisions are taken from the published
    rejections, unless `recipe` names the data the round was made with (nothing else of it is read).

    Raises VerificationError telling the first rows that differ, or that the round has no journal; DataError when the
    recipe's data are others; PublishError when the round is not there.
    """
    cache = Path(cache_dir) if cache_dir is not None else None
    with open_hub(endpoint, token, cache_dir=cache) as hub:
        snapshot = fetch_round(hub, repo, round)
    index = len(snapshot.rounds) - 1
    told = snapshot.rounds[index]
    published = published_recipe(snapshot)
    splits = None if recipe is None else own_splits(snapshot, published, recipe)
    notes = []
    if published.fingerprint != told.identity["recipe"]:
        notes.append(
            f"{repo_layout.RECIPE} gives another fingerprint here: a path was cut from it, or this version knows more settings"
        )
    if index == 0:
        seeds = (
            parquet.read_samples(published.task, snapshot.paths(repo_layout.DATA, [0]))
            if splits is None
            else splits.seeds
        )
        _compare_seeds(snapshot, published.task, seeds)
        notes.append("round 0 is the seeds: nobody was asked for them")
        found = _Found(rows=told.identity["rows"])
    else:
        if not told.files(repo_layout.JOURNAL) and published.strategy.prompt_templates:  # else nobody was asked
            raise VerificationError(
                f"{snapshot.name}: was published without its journal (publish.journal: false), so its rows cannot be made "
                f"again; that they are as published shows: evokd-data verify {repo} --round {index}"
            )
        with tempfile.TemporaryDirectory(prefix="evokd-replay-") as scratch:
            found = asyncio.run(_replay(snapshot, published, splits, Workspace(Path(scratch)), notes))
        if found.unused:
            notes.append(f"{found.unused} answers of the journal belong to no prompt of the round")
    return Replayed(
        repo=repo,
        round=index,
        tag=round_tag(index),
        commit=snapshot.commit,
        rows=found.rows,
        rejections=found.rejections,
        answers=found.answers,
        content=told.identity["content"],
        test_overlap="published" if splits is None else "test set",
        notes=notes,
    )


def fetch_round(hub: Hub, repo: str, round: int | str | None) -> Snapshot:
    """All that making a round again takes, checked: rows of all rounds, recipe, prompts, its plan, journal and
    rejections, and the probe of the round before."""
    index, revision = find_round(hub, repo, round)
    own = [f"{kind}/{round_tag(index)}/" for kind in (repo_layout.ROUNDS, repo_layout.JOURNAL, repo_layout.REJECTIONS)]
    before = [f"{repo_layout.PROBE}/{round_tag(index - 1)}/"] if index else []
    return fetch_rounds(
        hub, repo, revision, kinds=[repo_layout.DATA], also=[repo_layout.RECIPE, f"{repo_layout.PROMPTS}/", *own, *before]
    )  # fmt: skip


def published_recipe(snapshot: Snapshot, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a revision, with its prompts."""
    prompts = snapshot.folder / repo_layout.PROMPTS
    used = snapshot.rounds[-1].identity["prompts"]
    return load_published(snapshot.folder / repo_layout.RECIPE, prompts if used else None, overrides)


def own_splits(snapshot: Snapshot, published: Recipe, recipe: Recipe) -> Splits:
    """The user's data, found to be what the round was made with. Raises DataError when they are others."""
    splits = load_splits(replace(published, seeds=recipe.seeds, test=recipe.test, dev=recipe.dev, pool=recipe.pool))
    before = snapshot.rounds[-1].identity["inputs"]
    for name, now in splits.digests().items():
        if now != before.get(name):
            raise DataError(
                f"{recipe.path}: {name}: are not the data of {snapshot.name} (digest {now[:12]}, there "
                f"{before.get(name, 'none')[:12]}); "
                "name those, or leave the recipe out"
            )
    return splits


def restore_rows(snapshot: Snapshot, task: Task, folder: RoundFolder) -> None:
    """The shards of a published round, broken where they were. Raises VerificationError when rows are not the round's."""
    told = snapshot.rounds[folder.index]
    rows = parquet.read_samples(task, snapshot.paths(repo_layout.DATA, [folder.index]))
    for number, entry in enumerate(told.manifest["shards"]):
        part = list(islice(rows, entry["rows"]))
        content = write_shard(folder.shards / shard_name(number), task, part, entry["first"], entry["last"])
        if content != entry["content"]:
            raise VerificationError(
                f"{snapshot.name}: the rows of shard {number} of {told.tag} digest to {content[:12]}, its manifest "
                f"says {entry['content'][:12]}; see what is wrong: evokd-data verify {snapshot.repo}"
            )


def restore_probe(snapshot: Snapshot, folder: RoundFolder) -> bool:
    """The predictions that a round was published with; whether it was, and whether there could be any."""
    told = snapshot.rounds[folder.index]
    files = snapshot.paths(repo_layout.PROBE, [folder.index])
    if folder.index == 0 or (told.identity["rows"] and not files):
        return False
    write_rows(folder.probe, probe_schema(), [row for file in files for row in parquet.read_rows(file)])
    return True


def restore_earlier(snapshot: Snapshot, recipe: Recipe, workspace: Workspace) -> Splits:
    """What the last round of a snapshot was made from: the rows before it and its plan. The splits, as far as they are
    published: the seeds."""
    index = len(snapshot.rounds) - 1
    for folder in workspace.before(index):
        restore_rows(snapshot, recipe.task, folder)
    plan_file = workspace.round(index).plan
    plan_file.parent.mkdir(parents=True, exist_ok=True)
    plan_file.write_bytes((snapshot.folder / repo_layout.plan(round_tag(index))).read_bytes())
    return Splits(tuple(ShardedSamples(recipe.task, workspace.round(0).shard_files())), ())


def published_fates(snapshot: Snapshot, task: Task, index: int) -> Iterator[Fate]:
    """Samples and rejections of a round in one, in index order."""
    kept: Iterator[Fate] = parquet.read_samples(task, snapshot.paths(repo_layout.DATA, [index]))
    return heapq.merge(kept, published_rejections(snapshot, index), key=place)


def published_rejections(snapshot: Snapshot, index: int) -> Iterator[Rejection]:
    for file in snapshot.paths(repo_layout.REJECTIONS, [index]):
        yield from map(row_rejection, parquet.read_rows(file))


@dataclass(frozen=True)
class ReplayFilterPipeline:
    """The filters of a round for somebody who has no test set: `overlaps` are the texts that were rejected because of it."""

    recipe: Recipe
    pipeline: FilterPipeline
    overlaps: Mapping[Place, str]

    def apply(self, draft: Draft) -> Fate:
        if self.overlaps.get(place(draft)) != draft.text:
            return self.pipeline.apply(draft)
        # Its own text for a test set: what comes before that filter decides first, as it did then.
        return FilterPipeline(self.recipe.filters, self.recipe.task, [draft.text]).apply(draft)


def replay_filter_pipeline(
    snapshot: Snapshot, recipe: Recipe, splits: Splits | None, earlier: Sequence[Sample]
) -> ReplayFilterPipeline:
    """The filters of a snapshot's last round, with the user's test and dev texts where there are `splits`."""
    overlaps = {}
    if splits is None:
        rejections = published_rejections(snapshot, len(snapshot.rounds) - 1)
        overlaps = {place(one): one.text for one in rejections if one.reason == TEST_OVERLAP}
    return ReplayFilterPipeline(recipe, make_filter_pipeline(recipe, splits or Splits((), ()), earlier), overlaps)


async def make_again(
    recipe: Recipe,
    brief: Brief,
    planned: Sequence[GenerationRequest],
    ask: Ask,
    admit: Callable[[Draft], Fate],
    window: Callable[[], int],
    failed: Callable[[GenerationRequest, NotJournalled], None],
) -> AsyncIterator[Fate]:
    """What becomes of every text of the planned requests, in index order. `failed` is told of requests that the journal
    cannot answer; all others go on."""
    write = recipe.strategy.writer(brief, ask)

    async def attempt(request: GenerationRequest) -> Sequence[Draft] | NotJournalled:
        try:
            return await write(request)
        except NotJournalled as error:
            return error

    async with aclosing(in_order(planned, attempt, window)) as results:
        async for request, drafts in results:
            if isinstance(drafts, NotJournalled):
                failed(request, drafts)
                continue
            for draft in drafts:
                yield admit(draft)


async def pairs(before: Iterator[Fate], now: AsyncIterator[Fate]) -> AsyncIterator[tuple[Fate | None, Fate | None]]:
    """Both in index order, matched by place; None where one side has nothing there."""
    there = next(before, None)
    async for here in now:
        while there is not None and place(there) < place(here):
            yield there, None
            there = next(before, None)
        if there is not None and place(there) == place(here):
            yield there, here
            there = next(before, None)
        else:
            yield None, here
    while there is not None:
        yield there, None
        there = next(before, None)


def place(text: Fate | Draft) -> Place:
    return text.origin.request, text.origin.position


def equal(task: Task, one: Fate | None, other: Fate | None) -> bool:
    """Whether two fates say the same, numbers as precisely as they are stored."""
    if isinstance(one, Sample) and isinstance(other, Sample):
        return content_digest(task, [one]) == content_digest(task, [other])
    return one == other


def told_fate(task: Task, fate: Fate | None) -> str:
    """A fate in words."""
    if fate is None:
        return "nothing"
    if isinstance(fate, Rejection):
        detail = f" {fate.detail}" if fate.detail else ""
        return f"{short(fate.text)} rejected ({fate.reason}{detail})"
    target = json.dumps(task.to_row(fate.target), ensure_ascii=False)
    soft = "" if fate.soft is None else f" {[round(share, 4) for share in fate.soft]}"
    return f"{short(fate.text)} {short(json.loads(target))}{soft}"


@dataclass
class _Found:
    """Counts of a replay."""

    rows: int = 0
    rejections: int = 0
    answers: int = 0
    unused: int = 0


async def _replay(
    snapshot: Snapshot, recipe: Recipe, splits: Splits | None, workspace: Workspace, notes: list[str]
) -> _Found:
    index = len(snapshot.rounds) - 1
    told, task = snapshot.rounds[index], recipe.task
    seeds = restore_earlier(snapshot, recipe, workspace)
    brief, quotas = plan(recipe, workspace, index, splits or seeds)
    problems = []
    stored = json.loads((snapshot.folder / repo_layout.plan(told.tag)).read_bytes())
    if json.loads(json.dumps(as_json(index, brief, list(recipe.strategy.allot(brief))))) != stored:
        problems.append(
            f"{repo_layout.plan(told.tag)}: does not follow from its weaknesses, the rows of {round_tag(index - 1)} and strategy "
            f"{recipe.strategy.name!r}"
        )
    if index > 1 and restore_probe(snapshot, workspace.round(index - 1)):
        problems += _weaknesses_without_ground(snapshot, recipe, workspace, stored["weaknesses"])
    elif index > 1:
        notes.append(
            f"{round_tag(index - 1)} was published without its probe: the weaknesses are as the plan lists them"
        )
    rows = list(parquet.read_journal(snapshot.paths(repo_layout.JOURNAL, [index])))
    journalled, used = from_rows(rows), set[str]()

    async def ask(prompt: Any) -> Any:
        answer = await journalled(prompt)
        used.add(prompt.key)
        return answer

    def failed(request: GenerationRequest, error: NotJournalled) -> None:
        unanswered.append(request.index)
        if len(unanswered) <= SHOWN:
            problems.append(f"request {request.index}: {error}")

    unanswered: list[int] = []
    pipeline = replay_filter_pipeline(snapshot, recipe, splits, ShardedSamples(task, workspace.earlier_shards(index)))
    planned = RequestPlan(quotas, recipe.strategy.per_request, brief.seed, index)
    content, found, differing = ContentDigest(), _Found(), 0
    again = make_again(recipe, brief, planned, ask, pipeline.apply, lambda: 64, failed)
    async for before, now in pairs(published_fates(snapshot, task, index), again):
        if isinstance(now, Sample):
            content.add(task, now)
        found.rejections += isinstance(now, Rejection)
        one = before or now
        assert one is not None
        if place(one)[0] in unanswered or equal(task, before, now):
            continue
        differing += 1
        if differing <= SHOWN:
            problems.append(
                f"request {place(one)[0]}, text {place(one)[1]}: published {told_fate(task, before)}; "
                f"from the journal {told_fate(task, now)}"
            )
    if differing > SHOWN or len(unanswered) > SHOWN:
        problems.append(f"in all {differing} texts differ, {len(unanswered)} requests have no answer")
    if content.hexdigest() != told.identity["content"] and not differing and not unanswered:
        problems.append(
            f"the rows digest to {content.hexdigest()[:12]}, the manifest says {told.identity['content'][:12]}"
        )
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {problem}" for problem in problems))
    found.rows, found.answers, found.unused = content.rows, len(used), len(rows) - len(used)
    return found


def _weaknesses_without_ground(
    snapshot: Snapshot, recipe: Recipe, workspace: Workspace, stored: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """What a plan says of weaknesses that the predictions of the round before do not."""
    last, before = snapshot.rounds[-1], snapshot.rounds[-2]
    source, folder = f"{repo_layout.PROBE}/{before.tag}", workspace.round(before.index)
    try:
        ids = [prediction.id for prediction in read_probe(recipe.task, folder.probe)]
    except (KeyError, TypeError, ValueError) as error:
        yield f"{source}: holds a row that is no prediction ({error!r})"
        return
    if ids != [sample.id for sample in ShardedSamples(recipe.task, folder.shard_files())]:
        yield f"{source}: its predictions are not of the rows of {before.tag}, one each, in their order"
        return
    found = {one["name"]: one for one in weaknesses_as_json(find_weaknesses(recipe, workspace, last.index))}
    listed = {one["name"]: one for one in stored}
    if list(found.items()) == list(listed.items()) and len(listed) == len(stored):
        return
    name = next((name for name in {**listed, **found} if listed.get(name) != found.get(name)), "")
    sides = [_missed(one.get(name)) for one in (listed, found)]
    yield (
        f"{repo_layout.plan(last.tag)}: its weaknesses are not those of the predictions in {source}"
        + (f": {name} {sides[0]}, there {sides[1]}" if sides[0] != sides[1] else f": {name or 'their order'}")
    )


def _missed(weakness: Mapping[str, Any] | None) -> str:
    return f"missed {weakness['missed']} of {weakness['seen']}" if weakness else "none"


def _compare_seeds(snapshot: Snapshot, task: Task, seeds: Iterable[Sample]) -> None:
    content = content_digest(task, seeds)
    if content != (expected := snapshot.rounds[0].identity["content"]):
        raise VerificationError(
            f"{snapshot.name}: the seeds digest to {content[:12]}, the manifest says {expected[:12]}"
        )
