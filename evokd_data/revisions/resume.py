"""Resume: a run goes on from a published round, on a machine that has no file of the run.

The revision of the round restores the run's folder: shards, rejections, journals, probes, plans, metrics and manifests of all
rounds so far. The rest is made again: the checkpoint of the last student, unless it is in a model repository that the manifest
names; and, where the last round was published without its probe, the checkpoint of the student before, and the probe, because
the next plan needs it. They equal the original ones where training is deterministic.

With the recipe and the repository of the published rounds, the run simply goes on. With another teacher, strategy, pool, filters,
prompts or seed, or another repository, it is a **branch**. A branch publishes to a repository of its own, which begins with the
published rounds, file by file. The identity of its first own round names the round from which it starts (`from`). A branch
shares task, seeds, test, dev and student with the published rounds, because these were made and scored with them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout, settings
from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.errors import PublishError, VerificationError, WorkspaceError
from evokd_data.progress import Progress
from evokd_data.published_recipe import PublishedRecipe
from evokd_data.publishers.open_hub import LOCAL, open_hub
from evokd_data.recipe import Recipe
from evokd_data.revisions.load import fetch_rounds
from evokd_data.revisions.rebuild import published_recipe, published_rejections, restore_probe, restore_rows
from evokd_data.stages.probe import probe
from evokd_data.stages.publish import AS_PUBLISHED, PUBLISHED
from evokd_data.stages.publish_student import fetch_student
from evokd_data.stages.train import train
from evokd_data.storage import parquet
from evokd_data.storage.journal_lines import encode_line
from evokd_data.storage.shards import shard_name, write_rejections
from evokd_data.storage.snapshot import PublishedRound, Snapshot, altered_files
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json, write_checked_json, write_checked_text
from evokd_data.strategies import POOL

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub

SHARED_SECTIONS = ("task", "seeds", "student", "training")
"""Sections of a recipe that a branch shares with the rounds from which it starts."""


@dataclass(frozen=True)
class Start:
    """The published round that a run goes on from. `branch`: the run is a branch, and not the same run."""

    repo: str
    round: int
    tag: str
    commit: str
    digest: str
    branch: bool


def begin(recipe: Recipe, workspace: Workspace, origin: str | None, inputs: Mapping[str, Any]) -> Start | None:
    """The published round that this run goes on from, after checks; None for a run that begins at round 0. Writes nothing.

    `origin` is org/name@round-003, or org/name for its newest round. A folder that was begun from a round remembers it.
    `inputs` are those of `manifest.inputs`. Raises WorkspaceError when the rounds do not fit the recipe or the folder.
    """
    start = Start(**read_json(workspace.origin)) if workspace.origin.exists() else None
    if origin is None:
        return start
    repo, at, revision = origin.partition("@")
    if start is not None:
        if repo != start.repo or (at and revision not in (start.tag, start.commit, str(start.round))):
            raise WorkspaceError(
                f"{workspace.root}: was begun from {start.repo}@{start.tag}, not from {origin}; give the recipe another name"
            )
        return start
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
        other_repo = recipe.publish is not None and recipe.publish.repo != repo
        newest = snapshot.rounds[-1]
        if differing and not other_repo and recipe.publish is not None:
            raise WorkspaceError(
                f"{recipe.path}: publish.repo: {repo!r} holds rounds of another {_listed(differing)}; "
                "a branch is published to a repository of its own"
            )
        newest_on_hub = max(hub.refs(repo).rounds())
        if newest_on_hub != newest.index and not other_repo and recipe.publish is not None:
            raise WorkspaceError(
                f"{repo}: has rounds up to {newest_on_hub}; go on from there: --from {repo}, or branch off at {newest.tag} with "
                "another publish.repo"
            )
    is_branch = bool(differing) or other_repo
    return Start(repo, newest.index, newest.tag, snapshot.commit, newest.manifest["digest"], is_branch)


_TEXTS = (repo_layout.RECIPE, f"{repo_layout.PROMPTS}/")


def _differing(snapshot: Snapshot, recipe: Recipe, inputs: Mapping[str, Any]) -> list[str]:
    """The parts of a recipe that differ from the published recipe. Raises WorkspaceError when a branch may not differ there.

    Settings are compared as this version reads both recipes: a setting that did not exist then has its default.
    """
    identity, taken = snapshot.rounds[-1].identity, published_recipe(snapshot, user_recipe=recipe)
    published = taken.recipe
    before, after = published.identity(), recipe.identity()
    refused = [section for section in SHARED_SECTIONS if before.get(section) != after.get(section)]
    splits = {
        split
        for split in {**identity["inputs"], **inputs["splits"]}
        if identity["inputs"].get(split) != inputs["splits"].get(split)
    }
    refused += sorted(splits - {POOL})
    if not _agree(identity["student"], inputs["student"]):
        refused.append("student")
    if refused:
        raise WorkspaceError(
            f"{recipe.path}: {_listed(dict.fromkeys(refused))} are not those of {snapshot.name}, whose rounds were made and "
            "scored with theirs; take them over, or begin at round 0 without --from"
        )
    differing = [section for section in {**before, **after} if before.get(section) != after.get(section)]
    differing += sorted(splits & {POOL} - {*differing})
    teachers = [settings.identity(compared.teacher) for compared in (published, recipe)]
    for teacher in teachers:
        teacher.pop(
            "model", None
        )  # of a folder, only the last part of the path is published; `identity` names the weights
    if teachers[0] != teachers[1] or not _agree(identity["teacher"], inputs["teacher"]):
        differing.append("teacher")
    differing += [section for section in _withheld_differences(taken, recipe) if section not in differing]
    return [*differing, *(["prompts"] if identity["prompts"] != inputs["prompts"] else [])]


def _withheld_differences(taken: PublishedRecipe, recipe: Recipe) -> Iterator[str]:
    """The sections in which a setting was published that only a user's recipe decides, and the user's is another.

    The published value is compared and not used. The content of a file cannot be compared: it counts as another.
    """
    for path, value in taken.withheld.items():
        section, name = path.split(".")
        plug = getattr(recipe, section)
        # A pool wraps the strategy of the recipe. A section that the user does not have differs as a whole.
        compared = settings.identity(getattr(plug, "base", plug)) if plug is not None else {}
        if name != "model" and path in taken.answered and name in compared and compared[name] != value:
            yield section


def _agree(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether `after` contains every entry of `before`. A later version may add keys."""
    return all(key in after and after[key] == value for key, value in before.items())


def _listed(names: Any) -> str:
    return ", ".join(names)


def restore(recipe: Recipe, workspace: Workspace, start: Start, progress: Progress) -> None:
    """Restore the rounds up to `start` in the run's folder, with all that the next round needs.

    What is there already is left alone. Raises VerificationError when a published file was altered, PublishError when the
    Hub cannot be used.
    """
    folders = [workspace.round(index) for index in range(start.round + 1)]
    if not workspace.origin.exists():
        write_checked_json(workspace.origin, asdict(start))
    missing = [folder for folder in folders if not folder.manifest.exists()]
    if missing:
        with _hub(recipe) as hub:
            snapshot = fetch_rounds(hub, start.repo, start.commit)
            commits = hub.refs(start.repo).rounds() if recipe.publish else {}
            for folder in missing:
                progress.stage("restore", folder.index, repo=start.repo)
                with whole_folder(folder.root) as draft:
                    draft_folder = RoundFolder(draft, folder.index)
                    _restore_round(snapshot, recipe, draft_folder)
                    if recipe.publish and start.branch:
                        _copy_published_files(hub, snapshot, commits, draft_folder)
                    elif recipe.publish:
                        _write_revision(recipe, hub, snapshot, commits, draft_folder)
    restore_students(recipe, workspace, start.round, progress)


def restore_students(recipe: Recipe, workspace: Workspace, last: int, progress: Progress) -> None:
    """Restore the student of round `last`, which makes the next probe, and the probe of round `last` when it is missing.

    A missing probe is made by the student before. A student whose training continues the one before needs all of them.
    Students are fetched from their repository, or trained again.
    """
    has_probe = last == 0 or workspace.round(last).probe.exists()
    first = 0 if recipe.student.continues else last if has_probe else last - 1
    for index in range(first, last + 1):
        folder = workspace.round(index)
        if index == last > 0 and not folder.probe.exists():
            progress.stage("probe", index)
            probe(recipe, workspace, index)
        if not folder.student.exists() and not _fetch_student(recipe, folder, progress):
            progress.stage("train", index)
            train(recipe, workspace, index)


def _fetch_student(recipe: Recipe, folder: RoundFolder, progress: Progress) -> bool:
    if not folder.pushed.exists():
        return False
    with _hub(recipe) as hub:
        return fetch_student(recipe, folder, hub, progress)


def _hub(recipe: Recipe) -> Any:
    """The Hub of the recipe's `publish` section, else the default Hub of all commands."""
    if recipe.publish is None:
        return open_hub(None)
    return open_hub(recipe.publish.endpoint, root=recipe.publish.hub_root)


def _restore_round(snapshot: Snapshot, recipe: Recipe, folder: RoundFolder) -> None:
    """Write the files that the stages of a round write, except the checkpoint."""
    published = snapshot.rounds[folder.index]
    restore_rows(snapshot, recipe.task, folder)
    _restore_rejections(snapshot, published, folder)
    restore_probe(snapshot, folder)
    if journal_files := snapshot.paths(repo_layout.JOURNAL, [folder.index]):
        folder.journal.mkdir()
        with (folder.journal / "00000.jsonl").open("wb") as file:
            for row in parquet.read_journal(journal_files):
                file.write(encode_line(row))
    for path, copy in ((repo_layout.plan, folder.plan), (repo_layout.metrics, folder.metrics)):
        write_checked_text(copy, (snapshot.folder / path(published.tag)).read_text(encoding="utf-8"))
    if (exam := snapshot.folder / repo_layout.exam(published.tag)).exists():
        write_checked_text(folder.exam, exam.read_text(encoding="utf-8"))
    manifest, environment = published.manifest, published.manifest["environment"]
    totals = {**manifest["totals"], **environment["tokens"], "requests": published.identity["requests"]}
    if environment.get("engine"):
        totals["engine"] = environment["engine"]
    write_checked_json(folder.generated, {**totals, "seconds": environment["seconds"]["generate"]})
    if "student" in manifest:
        write_json(folder.pushed, manifest["student"])
    keys = ("schema", "name", "round", "digest", "identity", "shards", "environment")
    write_checked_json(folder.manifest, {key: manifest[key] for key in keys})


def _restore_rejections(snapshot: Snapshot, published: PublishedRound, folder: RoundFolder) -> None:
    """Write one file for each shard, as generation does."""
    remaining = list(published_rejections(snapshot, folder.index))
    shards = published.manifest["shards"]
    for number, shard in enumerate(shards):
        is_last = number == len(shards) - 1
        of_shard = [rejection for rejection in remaining if is_last or rejection.origin.request < shard["last"]]
        remaining = remaining[len(of_shard) :]
        write_rejections(folder.rejections / shard_name(number), of_shard)


def _write_revision(
    recipe: Recipe, hub: Hub, snapshot: Snapshot, commits: Mapping[int, str], folder: RoundFolder
) -> None:
    """Record that the round is published, so that the next round is published on top of it."""
    assert recipe.publish is not None
    published = snapshot.rounds[folder.index]
    shutil.copyfile(snapshot.folder / repo_layout.manifest(published.tag), folder.root / PUBLISHED)
    endpoint = LOCAL if recipe.publish.endpoint == LOCAL else hub.address
    commit = _commit_of(snapshot, published, commits)
    write_json(folder.revision, {"repo": snapshot.repo, "tag": published.tag, "commit": commit, "endpoint": endpoint})


def _copy_published_files(hub: Hub, snapshot: Snapshot, commits: Mapping[int, str], folder: RoundFolder) -> None:
    """Copy every file of the round's commit, to publish them in the branch's repository.

    Raises VerificationError when a file was altered after it was published.
    """
    published = snapshot.rounds[folder.index]
    commit = _commit_of(snapshot, published, commits)
    paths = [*published.manifest["files"], repo_layout.manifest(published.tag)]
    fetched = hub.fetch_files(snapshot.repo, commit, paths)
    at_commit = Snapshot(snapshot.repo, published.tag, commit, fetched, (published,))
    if problems := dict(altered_files(at_commit, list(published.manifest["files"]))):
        raise VerificationError("\n".join(f"{at_commit.name}: {path}: {text}" for path, text in problems.items()))
    for path in paths:
        copy = folder.root / AS_PUBLISHED / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fetched / path, copy)


def _commit_of(snapshot: Snapshot, published: PublishedRound, commits: Mapping[int, str]) -> str:
    if published.index not in commits:
        raise PublishError(f"{snapshot.repo}: the tag {published.tag} is gone; see: evokd-data verify {snapshot.repo}")
    return commits[published.index]
