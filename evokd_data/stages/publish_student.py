"""Publish a student: a round's checkpoint as one commit and one tag of a model repository. Writes student.json.

It can be killed and repeated like the publishing of a round: a digest of the round and of the checkpoint's list of files tells
whether this student is published already. The newest student lies at the root of the repository; a round's tag names its student.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.digest import digest, file_digest
from evokd_data.errors import EvokdError, PublishError, RevisionConflict, WorkspaceError
from evokd_data.progress import Progress
from evokd_data.records import Bundle, Revision
from evokd_data.repo_layout import round_tag
from evokd_data.reporting import model_card
from evokd_data.reporting.model_card import StudentFacts
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.stages.publish import public_recipe
from evokd_data.storage.workspace import RoundFolder, Workspace, read_checked, read_json
from evokd_data.students.checkpoint import METADATA_FILE, read_metadata

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub
    from evokd_data.recipe import Recipe

DRAFT = ".student-bundle.draft"  # after a kill, Workspace.lock removes folders with such a name


def push_student(
    recipe: Recipe, workspace: Workspace, index: int, hub: Hub, progress: Progress | None = None
) -> Revision:
    """Publish the student of a complete round to the repository `publish.student`, at the Hub of the recipe's rounds.

    When it is pushed before its round is published, the round's manifest names it. When it is pushed afterwards, its card
    names the round's commit. Raises WorkspaceError when the round is not complete, RevisionConflict when the tag holds
    another student or a later round's student is published already.
    """
    progress = progress or Progress()
    folder = workspace.round(index)
    models = replace(hub, repo_type="model")
    publish = recipe.publish
    assert publish is not None
    assert publish.student is not None
    if not folder.manifest.exists() or not folder.student.exists():
        raise WorkspaceError(f"{folder.student}: no trained student; next: evokd-data train-round {recipe.path}")
    tags = _tags(models, publish.student)
    pushed = read_json(folder.pushed) if folder.pushed.exists() else {}
    if pushed.get("repo") == publish.student and pushed["commit"] == tags.get(folder.tag):
        progress.done("push-student", index, already=True)
        return Revision(pushed["repo"], folder.tag, pushed["commit"], models.address)
    read_metadata(folder.student, recipe.student.name)
    parent = _parent_tag(publish.student, tags, index)
    draft = folder.root / DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    progress.stage("push-student", index, repo=publish.student)
    try:
        bundle = make_bundle(recipe, workspace, folder, draft, parent)
        revision = models.publish(bundle)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    write_json(folder.pushed, {"repo": revision.repo, "tag": revision.tag, "commit": revision.commit})
    progress.done("push-student", index, repo=revision.repo, tag=revision.tag, commit=revision.commit)
    return revision


def _tags(models: Hub, repo: str) -> Mapping[str, str]:
    try:
        return models.refs(repo).tags
    except PublishError:  # there is no repository yet; the publisher raises every other error again
        return {}


def _parent_tag(repo: str, tags: Mapping[str, str], index: int) -> str | None:
    """The tag of the newest student before this one; None when this is the first.

    Raises RevisionConflict for a student older than the newest one: the root of the repository must hold the newest.
    """
    pushed_rounds = sorted(number for tag in tags if (number := repo_layout.round_index(tag)) is not None)
    if pushed_rounds and pushed_rounds[-1] > index and index not in pushed_rounds:
        raise RevisionConflict(
            f"{repo}: holds the student of round {pushed_rounds[-1]}; that of round {index} would take its place at the root. "
            "Push it to another publish.student"
        )
    return next((round_tag(number) for number in reversed(pushed_rounds) if number < index), None)


def make_bundle(recipe: Recipe, workspace: Workspace, folder: RoundFolder, draft: Path, parent: str | None) -> Bundle:
    """A student's commit: the files of its checkpoint, its card, and a manifest whose digest identifies the student."""
    assert recipe.publish is not None
    assert recipe.publish.student is not None
    manifest, metrics = read_json(folder.manifest), read_json(folder.metrics)
    files = {path.name: path for path in sorted(folder.student.iterdir()) if path.is_file()}

    def write(path: str, text: str) -> None:
        files[path] = draft / path
        files[path].parent.mkdir(parents=True, exist_ok=True)
        files[path].write_text(text, encoding="utf-8", newline="")

    revision = folder.tag
    if folder.revision.exists() and (stored := read_json(folder.revision))["repo"] == recipe.publish.repo:
        revision = stored["commit"]
    rounds = [*workspace.before(folder.index), folder]
    rows = [read_json(earlier.manifest)["identity"]["rows"] for earlier in rounds]
    write(repo_layout.RECIPE, public_recipe(workspace.recipe))  # so that whoever has the student knows its task
    write(repo_layout.CARD, model_card.render(recipe, StudentFacts(manifest, metrics, rows, revision)))
    write(repo_layout.metrics(folder.tag), read_checked(folder.metrics))
    # Without card and training figures: they may differ between two attempts to publish the same student.
    identity = {
        "round": folder.index,
        "dataset": {"repo": recipe.publish.repo, "tag": folder.tag, "digest": manifest["digest"]},
        "student": manifest["identity"]["student"],
        "checkpoint": read_json(folder.student / METADATA_FILE)["files"],
    }
    student_manifest: dict[str, Any] = {
        "digest": digest(identity),
        "identity": identity,
        "files": {
            path: {"sha256": file_digest(file), "size": file.stat().st_size} for path, file in sorted(files.items())
        },
    }
    write(repo_layout.manifest(folder.tag), json.dumps(student_manifest, indent=2, ensure_ascii=False) + "\n")
    score = primary_metric(metrics["test"])
    return Bundle(
        repo=recipe.publish.student,
        tag=folder.tag,
        title=f"{folder.tag}: {score.name} {score.value:.2f}, trained on {sum(rows)} samples of {recipe.publish.repo}",
        files=files,
        manifest=student_manifest["digest"],
        parent_tag=parent,
        private=recipe.publish.private,
    )


def fetch_student(recipe: Recipe, folder: RoundFolder, hub: Hub, progress: Progress) -> bool:
    """Fetch the checkpoint that was pushed for a restored round. Returns False when it cannot be fetched.

    A checkpoint that is damaged, or of another kind of student, counts as one that cannot be fetched.
    """
    pushed = read_json(folder.pushed)
    models = replace(hub, repo_type="model")
    try:
        fetched, names = fetch_checkpoint(models, pushed["repo"], pushed["commit"])
        with whole_folder(folder.student) as draft:
            for name in (*names, METADATA_FILE):
                shutil.copyfile(fetched / name, draft / name)
            read_metadata(draft, recipe.student.name)
    except (EvokdError, OSError) as error:
        progress.note(
            f"round {folder.index}: the student of {pushed['repo']} cannot be had, it is trained again: {error}"
        )
        return False
    progress.note(f"round {folder.index}: the student is that of {pushed['repo']}@{pushed['tag']}")
    return True


def fetch_checkpoint(models: Hub, repo: str, commit: str) -> tuple[Path, list[str]]:
    """A folder with the files of a published student at a commit, the recipe among them, and the names of those of its checkpoint.

    Nothing is verified but that the metadata name files beside them. Raises PublishError.
    """
    fetched = models.fetch_files(repo, commit, [METADATA_FILE, repo_layout.RECIPE])
    try:
        names = list(json.loads((fetched / METADATA_FILE).read_bytes())["files"])
        outside = [name for name in names if Path(name).name != name]
    except FileNotFoundError:
        raise PublishError(
            f"{repo}@{commit[:10]} holds no student ({METADATA_FILE} is missing); name one that evokd-data pushed"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(
            f"{repo}@{commit[:10]}: {METADATA_FILE} is damaged ({error}); name another revision"
        ) from None
    if outside:
        raise PublishError(
            f"{repo}@{commit[:10]}: {METADATA_FILE} names {outside[0]!r}, which is no file beside it; do not use this repository"
        )
    return models.fetch_files(repo, commit, [METADATA_FILE, repo_layout.RECIPE, *names]), names
