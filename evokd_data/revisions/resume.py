"""Resume: a run goes on from a published round, on a machine that holds none of it.

The round's revision gives the folder of the run: shards, rejections, journals, probes, plans, metrics, manifests of all
rounds so far. What is not published is made again: the checkpoint of the last student, unless it is in a model repository
that the manifest names; where the last round has no probe, from which the next one is planned, that of the student before
too, and the probe. Where training is deterministic they are the ones that were.

With the recipe the rounds were made with, in their repository, the run simply goes on. With another teacher, strategy,
filters, pool, prompts, seed, or another repository, it is a **branch**: it publishes to a repository of its own, which begins
with the rounds it starts from, file by file as they were published; the identity of its first own round says `from`
where. Task, seeds, test, dev and student of a branch are those of the rounds: what is there was made and scored with them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from evokd_data import repo_layout, settings
from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.errors import PublishError, VerificationError, WorkspaceError
from evokd_data.progress import Progress
from evokd_data.publishers.open_hub import LOCAL, open_hub
from evokd_data.recipe import Recipe
from evokd_data.revisions.load import fetch_rounds
from evokd_data.revisions.replay import published_recipe, restore_probe, restore_rows
from evokd_data.stages.probe import probe
from evokd_data.stages.publish import AS_PUBLISHED, PUBLISHED
from evokd_data.stages.publish_student import fetch_student
from evokd_data.stages.train import fit
from evokd_data.storage import parquet
from evokd_data.storage.shards import row_rejection, shard_name, write_rejections
from evokd_data.storage.snapshot import PublishedRound, Snapshot
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json
from evokd_data.strategies import POOL

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub

KEPT = (
    "task",
    "seeds",
    "student",
    "training",
)  # sections of a recipe that a branch shares with the rounds it starts from


@dataclass(frozen=True)
class Start:
    """Where a run goes on from. `branch`: not as the same run."""

    repo: str
    round: int
    tag: str
    commit: str
    digest: str
    branch: bool


def begin(recipe: Recipe, workspace: Workspace, origin: str | None, inputs: Mapping[str, Any]) -> Start | None:
    """Where this run goes on from, found fit for it; None for a run that begins at round 0. Writes nothing.

    `origin` is org/name@round-003, or org/name for its newest round; a folder that was begun from a round remembers it.
    `inputs` are those of `manifest.inputs`. Raises WorkspaceError when recipe, folder and rounds do not go together.
    """
    known = Start(**read_json(workspace.origin)) if workspace.origin.exists() else None
    if origin is None:
        return known
    repo, at, revision = origin.partition("@")
    if known is not None:
        if repo != known.repo or (at and revision not in (known.tag, known.commit, str(known.round))):
            raise WorkspaceError(
                f"{workspace.root}: was begun from {known.repo}@{known.tag}, not from {origin}; give the recipe another name"
            )
        return known
    if workspace.rounds():
        raise WorkspaceError(
            f"{workspace.root}: holds rounds already, they were not begun from {origin}; give the recipe another name, "
            "or leave --from out to go on with them"
        )
    with _hub(recipe) as hub:
        snapshot = fetch_rounds(
            hub, repo, int(revision) if revision.isdecimal() else revision or None, kinds=(), also=_TEXTS
        )
        differing = _differing(snapshot, recipe, inputs)
        elsewhere = recipe.publish is not None and recipe.publish.repo != repo
        last = snapshot.rounds[-1]
        if differing and not elsewhere and recipe.publish is not None:
            raise WorkspaceError(
                f"{recipe.path}: publish.repo: {repo!r} holds rounds of another {_listed(differing)}; "
                "a branch is published to a repository of its own"
            )
        newest = max(hub.refs(repo).rounds())
        if newest != last.index and not elsewhere and recipe.publish is not None:
            raise WorkspaceError(
                f"{repo}: has rounds up to {newest}; go on from there: --from {repo}, or branch off at {last.tag} with another "
                "publish.repo"
            )
    return Start(repo, last.index, last.tag, snapshot.commit, last.manifest["digest"], bool(differing) or elsewhere)


_TEXTS = (repo_layout.RECIPE, f"{repo_layout.PROMPTS}/")


def _differing(snapshot: Snapshot, recipe: Recipe, inputs: Mapping[str, Any]) -> list[str]:
    """What of a recipe is not as it was for the last round. Raises WorkspaceError for what may not differ.

    Settings are compared as this version reads both recipes: one that was not there yet had its default.
    """
    told, published = snapshot.rounds[-1].identity, published_recipe(snapshot)
    before, now = published.identity(), recipe.identity()
    refused = [section for section in KEPT if before.get(section) != now.get(section)]
    splits = {
        split
        for split in {**told["inputs"], **inputs["splits"]}
        if told["inputs"].get(split) != inputs["splits"].get(split)
    }
    refused += sorted(splits - {POOL})
    if not _agree(told["student"], inputs["student"]):
        refused.append("student")
    if refused:
        raise WorkspaceError(
            f"{recipe.path}: {_listed(dict.fromkeys(refused))} are not those of {snapshot.name}, whose rounds were made and "
            "scored with theirs; take them over, or begin at round 0 without --from"
        )
    differing = [section for section in {**before, **now} if before.get(section) != now.get(section)]
    differing += sorted(splits & {POOL} - {*differing})
    teachers = [settings.identity(one.teacher) for one in (published, recipe)]
    for teacher in teachers:
        teacher.pop("model", None)  # the published one may have lost its folder; `identity` names the weights
    if teachers[0] != teachers[1] or not _agree(told["teacher"], inputs["teacher"]):
        differing.append("teacher")
    return [*differing, *(["prompts"] if told["prompts"] != inputs["prompts"] else [])]


def _agree(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether all that was told then is so now; a later version may tell more."""
    return all(key in now and now[key] == value for key, value in before.items())


def _listed(names: Any) -> str:
    return ", ".join(names)


def restore(recipe: Recipe, workspace: Workspace, start: Start, progress: Progress) -> None:
    """The rounds up to `start` in the run's folder, with what the next round needs. Does what is missing of it."""
    folders = [workspace.round(index) for index in range(start.round + 1)]
    if not workspace.origin.exists():
        write_json(workspace.origin, asdict(start))
    missing = [folder for folder in folders if not folder.manifest.exists()]
    if missing:
        with _hub(recipe) as hub:
            snapshot = fetch_rounds(hub, start.repo, start.commit)
            commits = hub.refs(start.repo).rounds() if recipe.publish else {}
            for folder in missing:
                progress.stage("restore", folder.index, repo=start.repo)
                with whole_folder(folder.root) as draft:
                    _restore(snapshot, recipe, RoundFolder(draft, folder.index))
                    if recipe.publish and start.branch:
                        _keep_as_published(hub, snapshot, commits, RoundFolder(draft, folder.index))
                    elif recipe.publish:
                        _keep_revision(recipe, hub, snapshot, commits, RoundFolder(draft, folder.index))
    bring_students(recipe, workspace, start.round, progress)


def bring_students(recipe: Recipe, workspace: Workspace, last: int, progress: Progress) -> None:
    """The student of round `last`, which the next round is probed with, and, where it is missing, the probe of round
    `last`, made by the student before it. Students come from their repository, or are trained again."""
    chained = recipe.student.continues
    probed = last == 0 or workspace.round(last).probe.exists()
    for index in range(0 if chained else last if probed else last - 1, last + 1):
        folder = workspace.round(index)
        if index == last > 0 and not folder.probe.exists():
            progress.stage("probe", index)
            probe(recipe, workspace, index)
        if not folder.student.exists() and not _fetched(recipe, folder, progress):
            progress.stage("train", index)
            fit(recipe, workspace, folder)


def _fetched(recipe: Recipe, folder: RoundFolder, progress: Progress) -> bool:
    if not folder.pushed.exists():
        return False
    with _hub(recipe) as hub:
        return fetch_student(recipe, folder, hub, progress)


def _hub(recipe: Recipe) -> Any:
    """The Hub of the recipe, or the one every command uses."""
    if recipe.publish is None:
        return open_hub(None)
    return open_hub(recipe.publish.endpoint, root=recipe.publish.hub_root)


def _restore(snapshot: Snapshot, recipe: Recipe, folder: RoundFolder) -> None:
    """What the stages of a round left behind."""
    told = snapshot.rounds[folder.index]
    restore_rows(snapshot, recipe.task, folder)
    _restore_rejections(snapshot, told, folder)
    restore_probe(snapshot, folder)
    if answers := snapshot.paths(repo_layout.JOURNAL, [folder.index]):
        folder.journal.mkdir()
        with (folder.journal / "00000.jsonl").open("wb") as file:
            for row in parquet.read_journal(answers):
                file.write(orjson.dumps(row) + b"\n")
    shutil.copyfile(snapshot.folder / repo_layout.plan(told.tag), folder.plan)
    shutil.copyfile(snapshot.folder / repo_layout.metrics(told.tag), folder.metrics)
    manifest, environment = told.manifest, told.manifest["environment"]
    totals = {**manifest["totals"], **environment["tokens"], "requests": told.identity["requests"]}
    if environment.get("engine"):
        totals["engine"] = environment["engine"]
    write_json(folder.generated, {**totals, "seconds": environment["seconds"]["generate"]})
    if "student" in manifest:
        write_json(folder.pushed, manifest["student"])
    own = ("schema", "name", "round", "digest", "identity", "shards", "environment")
    write_json(folder.manifest, {key: manifest[key] for key in own})


def _restore_rejections(snapshot: Snapshot, told: PublishedRound, folder: RoundFolder) -> None:
    """One file for each shard, as generation writes them."""
    rows = (row for file in snapshot.paths(repo_layout.REJECTIONS, [folder.index]) for row in parquet.read_rows(file))
    left = list(map(row_rejection, rows))
    for number, shard in enumerate(told.manifest["shards"]):
        last = number == len(told.manifest["shards"]) - 1
        part = [one for one in left if last or one.origin.request < shard["last"]]
        left = left[len(part) :]
        write_rejections(folder.rejections / shard_name(number), part)


def _keep_revision(
    recipe: Recipe, hub: Hub, snapshot: Snapshot, commits: Mapping[int, str], folder: RoundFolder
) -> None:
    """That the round is published: the next one goes on top of it."""
    assert recipe.publish is not None
    told = snapshot.rounds[folder.index]
    shutil.copyfile(snapshot.folder / repo_layout.manifest(told.tag), folder.root / PUBLISHED)
    endpoint = LOCAL if recipe.publish.endpoint == LOCAL else hub.address
    commit = _commit(snapshot, told, commits)
    write_json(folder.revision, {"repo": snapshot.repo, "tag": told.tag, "commit": commit, "endpoint": endpoint})


def _keep_as_published(hub: Hub, snapshot: Snapshot, commits: Mapping[int, str], folder: RoundFolder) -> None:
    """Every file of the round's commit, to be published once more. Raises VerificationError when one was altered since."""
    from evokd_data.storage.snapshot import altered_files

    told = snapshot.rounds[folder.index]
    commit = _commit(snapshot, told, commits)
    paths = [*told.manifest["files"], repo_layout.manifest(told.tag)]
    fetched = hub.fetch_files(snapshot.repo, commit, paths)
    own = Snapshot(snapshot.repo, told.tag, commit, fetched, (told,))
    if found := dict(altered_files(own, list(told.manifest["files"]))):
        raise VerificationError("\n".join(f"{own.name}: {path}: {problem}" for path, problem in found.items()))
    for path in paths:
        kept = folder.root / AS_PUBLISHED / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fetched / path, kept)


def _commit(snapshot: Snapshot, told: PublishedRound, commits: Mapping[int, str]) -> str:
    if told.index not in commits:
        raise PublishError(f"{snapshot.repo}: the tag {told.tag} is gone; see: evokd-data verify {snapshot.repo}")
    return commits[told.index]
