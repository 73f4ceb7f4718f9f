"""Replay: make the rows of a published round again from its journal, without teacher, accelerator or test set.

The round's own strategy and filters run again, on the recipe, prompts and earlier rows of the revision. Each step follows from
published data: weaknesses from the probe of the round before, the plan from the weaknesses, prompts from the plan and earlier
rows, rows from the journal's answers.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.errors import VerificationError
from evokd_data.publishers.open_hub import open_hub
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, GenerationRequest, Prompt, Quota, Rejection, Sample
from evokd_data.repo_layout import round_tag
from evokd_data.revisions.corrections import replay_corrections
from evokd_data.revisions.rebuild import (
    MAX_EXAMPLES,
    describe_fate,
    equal_fates,
    fetch_round,
    own_splits,
    pair_fates,
    published_fates,
    published_recipe,
    regenerate,
    replay_filter_pipeline,
    restore_earlier,
    restore_probe,
    text_key,
)
from evokd_data.runner import Runner
from evokd_data.scratch import scratch_folder
from evokd_data.seeds import Splits
from evokd_data.stages.exam import is_exam, labelling_of, summary
from evokd_data.stages.plan import as_json, find_weaknesses, plan, read_labelling, weaknesses_as_json
from evokd_data.storage import parquet
from evokd_data.storage.journal import NotJournalled, from_rows
from evokd_data.storage.shards import ContentDigest, ShardedSamples, content_digest, read_probe
from evokd_data.storage.snapshot import Snapshot, of_known_form
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import Brief
from evokd_data.strategies.quotas import RequestPlan, kind_of, refill

if TYPE_CHECKING:
    from evokd_data.tasks import Task

WINDOW = 64  # requests in flight: the journal answers at once


@dataclass(frozen=True)
class Replayed:
    """A round whose rows were made again and equal the published ones.

    `content` is their digest, `answers` the number of the journal's answers that were used. `test_overlap` tells from
    where it is known which texts repeat the test set: "published" or "test set".
    """

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
        """All fields as a table for JSON."""
        return asdict(self)


def replay(
    repo: str,
    round: int | str | None = None,
    *,
    recipe: Recipe | None = None,
    overrides: tuple[str, ...] = (),
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> Replayed:
    """Make the rows and rejections of a round again and compare them with the published ones; `round` as in `load_round`.

    Which texts repeat the test set cannot be found without the test set. These decisions are taken from the published
    rejections, unless `recipe` names the data that the round was made with. Of the rest of `recipe` only what a published
    recipe does not decide is used (see `published_recipe`), such as files of the strategy; `overrides` can name these, too.

    Raises VerificationError with the first rows that differ, or when the round has no journal; DataError when the
    recipe names other data; RecipeError when the round needs a file that the user did not name; PublishError when there is
    no such round.
    """
    cache = Path(cache_dir) if cache_dir is not None else None
    with open_hub(endpoint, token, cache_dir=cache) as hub:
        snapshot = fetch_round(hub, repo, round)
    with of_known_form(snapshot.name):
        return _replay_snapshot(repo, snapshot, recipe, overrides)


def _replay_snapshot(repo: str, snapshot: Snapshot, recipe: Recipe | None, overrides: tuple[str, ...]) -> Replayed:
    index = len(snapshot.rounds) - 1
    published = snapshot.rounds[index]
    taken = published_recipe(snapshot, overrides, recipe)
    taken.require(("strategy",), snapshot.name, "in the file of --recipe or with --set")
    its_recipe = taken.recipe
    splits = None if recipe is None else own_splits(snapshot, its_recipe, recipe)
    notes = []
    if its_recipe.fingerprint != published.identity["recipe"]:
        notes.append(
            f"{repo_layout.RECIPE} gives another fingerprint here: a path was cut from it, or this version knows more settings"
        )
    if index == 0:
        seeds = (
            parquet.read_samples(its_recipe.task, snapshot.paths(repo_layout.DATA, [0]))
            if splits is None
            else splits.seeds
        )
        _compare_seeds(snapshot, its_recipe.task, seeds)
        notes.append("round 0 is the seeds: nobody was asked for them")
        counts = _Counts(rows=published.identity["rows"])
    elif snapshot.corrections(index) is not None:
        counts = _Counts(rows=replay_corrections(snapshot, its_recipe.task))
        notes.append("the round is a person's corrections: no teacher was asked")
    else:
        # Without prompt templates the strategy asked nothing, so there is no journal.
        if not published.files(repo_layout.JOURNAL) and its_recipe.strategy.prompt_templates:
            raise VerificationError(
                f"{snapshot.name}: was published without its journal (publish.journal: false), so its rows cannot be made "
                f"again; that they are as published shows: evokd-data verify {repo} --round {index}"
            )
        with scratch_folder("replay") as scratch, Runner() as loop:
            counts = loop.run(_replay(snapshot, its_recipe, splits, Workspace(scratch), notes))
        if counts.unused:
            notes.append(f"{counts.unused} answers of the journal belong to no prompt of the round")
    return Replayed(
        repo=repo,
        round=index,
        tag=round_tag(index),
        commit=snapshot.commit,
        rows=counts.rows,
        rejections=counts.rejections,
        answers=counts.answers,
        content=published.identity["content"],
        test_overlap="published" if splits is None else "test set",
        notes=notes,
    )


@dataclass
class _Counts:
    """Counts of a replay. `unused` are answers of the journal that no prompt asked for."""

    rows: int = 0
    rejections: int = 0
    answers: int = 0
    unused: int = 0


async def _replay(
    snapshot: Snapshot, recipe: Recipe, splits: Splits | None, workspace: Workspace, notes: list[str]
) -> _Counts:
    """Raises VerificationError with all problems. Adds to `notes` what could not be checked."""
    index = len(snapshot.rounds) - 1
    seeds = restore_earlier(snapshot, recipe, workspace)
    brief, waves = plan(recipe, workspace, index, splits or seeds)
    problems = list(_plan_problems(snapshot, recipe, workspace, brief, notes))
    counts = await _compare_rows(snapshot, recipe, splits, workspace, brief, waves, problems)
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {problem}" for problem in problems))
    return counts


def _exam_problems(snapshot: Snapshot, recipe: Recipe, stored: Mapping[str, Any]) -> Iterator[str]:
    """Where the plan does not follow from the published exam."""
    paths = [repo_layout.exam(published.tag) for published in snapshot.rounds]
    taken = [path for path in paths if (snapshot.folder / path).exists()]
    if not taken or stored.get("exam") is None or "labelling" not in stored:
        return
    content = snapshot.json(taken[-1])
    if summary(content) != stored["exam"] or labelling_of(recipe, content) != read_labelling(stored):
        yield f"{taken[-1]}: the plan's labelling does not follow from it"


def _plan_problems(
    snapshot: Snapshot, recipe: Recipe, workspace: Workspace, brief: Brief, notes: list[str]
) -> Iterator[str]:
    """Where the published plan does not follow from its weaknesses, and these not from the probe of the round before."""
    index = len(snapshot.rounds) - 1
    path = repo_layout.plan(round_tag(index))
    stored = snapshot.json(path)
    follows = json.loads(json.dumps(as_json(index, brief, list(recipe.strategy.allot(brief)))))
    if {**follows, "exam": stored.get("exam"), "refills": stored.get("refills")} != stored:
        yield (
            f"{path}: does not follow from its weaknesses, the rows of {round_tag(index - 1)} and strategy "
            f"{recipe.strategy.name!r}"
        )
    yield from _exam_problems(snapshot, recipe, stored)
    if index > 1 and restore_probe(snapshot, workspace.round(index - 1)):
        yield from _weakness_problems(snapshot, recipe, workspace, stored)
    elif index > 1:
        notes.append(
            f"{round_tag(index - 1)} was published without its probe: the weaknesses are as the plan lists them"
        )


async def _compare_rows(
    snapshot: Snapshot,
    recipe: Recipe,
    splits: Splits | None,
    workspace: Workspace,
    brief: Brief,
    waves: Sequence[Sequence[Quota]],
    problems: list[str],
) -> _Counts:
    """Make the rows again and add every difference from the published ones to `problems`."""
    index, published, task = len(snapshot.rounds) - 1, snapshot.rounds[-1], recipe.task
    journal = parquet.read_journal(snapshot.paths(repo_layout.JOURNAL, [index]))
    rows = [row for row in journal if not is_exam(row["key"])]
    journalled, used_keys = from_rows(rows), set[str]()
    unanswered: list[int] = []

    async def ask(prompt: Prompt) -> Completion:
        answer = await journalled(prompt)
        used_keys.add(prompt.key)
        return answer

    def on_unanswered(request: GenerationRequest, error: NotJournalled) -> None:
        unanswered.append(request.index)
        if len(unanswered) <= MAX_EXAMPLES:
            problems.append(f"request {request.index}: {error}")

    pipeline = replay_filter_pipeline(snapshot, recipe, splits, brief.earlier, sum(quota.samples for quota in waves[0]))
    planned = RequestPlan(waves, recipe.strategy.per_request, brief.seed, index)
    accepted: list[Counter[Quota]] = [Counter() for _ in waves]
    content, rejections, differing = ContentDigest(), 0, 0
    regenerated = regenerate(recipe, brief, planned, ask, pipeline, lambda: WINDOW, on_unanswered)
    async for before, after in pair_fates(published_fates(snapshot, task, index), regenerated):
        if isinstance(after, Sample):
            content.add(task, after)
            wave = bisect_right(planned.wave_ends, after.origin.request)
            accepted[wave][kind_of(planned[after.origin.request].quota)] += 1
        rejections += isinstance(after, Rejection)
        fate = before or after
        assert fate is not None
        request, position = text_key(fate)
        if request in unanswered or equal_fates(task, before, after):
            continue
        differing += 1
        if differing <= MAX_EXAMPLES:
            problems.append(
                f"request {request}, text {position}: published {describe_fate(task, before)}; "
                f"from the journal {describe_fate(task, after)}"
            )
    if not differing and not unanswered:
        problems += _refill_problems(snapshot, recipe, waves, accepted)
    if differing > MAX_EXAMPLES or len(unanswered) > MAX_EXAMPLES:
        problems.append(f"in all {differing} texts differ, {len(unanswered)} requests have no answer")
    expected = published.identity["content"]
    if content.hexdigest() != expected and not differing and not unanswered:
        problems.append(f"the rows digest to {content.hexdigest()[:12]}, the manifest says {expected[:12]}")
    answered = len({(row["key"], row["prompt"]) for row in rows})  # a refusal that was asked again is there twice
    return _Counts(content.rows, rejections, len(used_keys), answered - len(used_keys))


def _refill_problems(
    snapshot: Snapshot, recipe: Recipe, waves: Sequence[Sequence[Quota]], accepted: Sequence[Counter[Quota]]
) -> Iterator[str]:
    """Where a wave of quotas does not follow from the waves before it and from what was kept of them."""
    sums = accumulate(accepted)
    for number, accepted_so_far in enumerate(sums, 1):
        follows = refill(waves[:number], accepted_so_far, recipe.rounds.ask_at_most)
        if follows != list(waves[number] if number < len(waves) else []):
            path = repo_layout.plan(round_tag(len(snapshot.rounds) - 1))
            yield f"{path}: refill {number} does not follow from the texts that were kept before it"


def _weakness_problems(
    snapshot: Snapshot, recipe: Recipe, workspace: Workspace, plan: Mapping[str, Any]
) -> Iterator[str]:
    """Where a plan's weaknesses do not follow from the predictions of the round before."""
    newest, before = snapshot.rounds[-1], snapshot.rounds[-2]
    source, folder = f"{repo_layout.PROBE}/{before.tag}", workspace.round(before.index)
    try:
        ids = [prediction.id for prediction in read_probe(recipe.task, folder.probe)]
    except (KeyError, TypeError, ValueError) as error:
        yield f"{source}: holds a row that is no prediction ({error!r})"
        return
    if ids != [sample.id for sample in ShardedSamples(recipe.task, folder.shard_files())]:
        yield f"{source}: its predictions are not of the rows of {before.tag}, one each, in their order"
        return
    stored = plan["weaknesses"]
    try:
        weaknesses = weaknesses_as_json(find_weaknesses(recipe, workspace, newest.index, plan.get("exam")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"{repo_layout.plan(newest.tag)}: its exam cannot be read ({error!r})"
        return
    recomputed = {weakness["name"]: weakness for weakness in weaknesses}
    listed = {weakness["name"]: weakness for weakness in stored}
    if list(recomputed.items()) == list(listed.items()) and len(listed) == len(stored):
        return
    name = next((name for name in {**listed, **recomputed} if listed.get(name) != recomputed.get(name)), "")
    sides = [_missed(side.get(name)) for side in (listed, recomputed)]
    yield (
        f"{repo_layout.plan(newest.tag)}: its weaknesses are not those of the predictions in {source}"
        + (f": {name} {sides[0]}, there {sides[1]}" if sides[0] != sides[1] else f": {name or 'their order'}")
    )


def _missed(weakness: Mapping[str, Any] | None) -> str:
    return f"missed {weakness['missed']} of {weakness['seen']}" if weakness else "none"


def _compare_seeds(snapshot: Snapshot, task: Task, seeds: Iterable[Sample]) -> None:
    """Raises VerificationError when the seeds differ from round 0 of the snapshot."""
    content = content_digest(task, seeds)
    if content != (expected := snapshot.rounds[0].identity["content"]):
        raise VerificationError(
            f"{snapshot.name}: the seeds digest to {content[:12]}, the manifest says {expected[:12]}"
        )
