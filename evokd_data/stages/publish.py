"""Publish a round: its files as one commit and one tag. Writes published.json and revision.json.

It can be killed and repeated at any moment: the content of the commit depends only on the round's files, the publisher looks at
the repository first, and revision.json is written when tag and commit have been seen on the Hub.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.atomic_files import write_json, write_text
from evokd_data.digest import file_digest
from evokd_data.errors import PublishError, RevisionConflict, VerificationError, WorkspaceError
from evokd_data.progress import Progress
from evokd_data.publishers.open_hub import LOCAL, open_hub
from evokd_data.records import Bundle, Revision
from evokd_data.redaction import redact
from evokd_data.reporting import dataset_card
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.storage import parquet
from evokd_data.storage.corrected_rounds import corrections_of, withdrawn_by, withdrawn_rows
from evokd_data.storage.shards import content_digest
from evokd_data.storage.snapshot import PublishedRound, encode_manifest, with_checksum, without_checksum
from evokd_data.storage.workspace import RoundFolder, Workspace, read_checked, read_json
from evokd_data.yaml_files import dump_yaml, load_yaml_with_lines

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub
    from evokd_data.recipe import Recipe

DRAFT = ".bundle.draft"  # after a kill, Workspace.lock removes folders with such a name
PUBLISHED = "published.json"
"""The round's manifest as the Hub has it."""
AS_PUBLISHED = "as-published"
"""A folder in a round that was restored from another repository: every file of the round's commit there."""


@dataclass
class Publication:
    """The repository that a recipe publishes to, open inside its `with` block."""

    recipe: Recipe
    hub: Hub
    progress: Progress
    _tags: dict[str, str] | None = field(default=None, init=False)

    @staticmethod
    @contextmanager
    def of(recipe: Recipe, progress: Progress | None = None) -> Iterator[Publication | None]:
        """The publication of a recipe; None when the recipe has no `publish` section.

        Raises PublishError when the Hub cannot be reached or the token may not write there. So a run learns this before
        it begins.
        """
        publish = recipe.publish
        progress = progress or Progress()
        if publish is None:
            yield None
            return
        with open_hub(publish.endpoint, root=publish.hub_root, create=True, note=progress.note) as hub:
            hub.check(publish.repo)
            if publish.student is not None:
                replace(hub, repo_type="model").check(publish.student)
            yield Publication(recipe, hub, progress)

    @property
    def repo(self) -> str:
        """The repository of the rounds: `publish.repo`."""
        assert self.recipe.publish is not None
        return self.recipe.publish.repo

    @property
    def endpoint(self) -> str:
        """The Hub as revision.json names it: "local" for a local Hub, because its port changes."""
        assert self.recipe.publish is not None
        return LOCAL if self.recipe.publish.endpoint == LOCAL else self.hub.address

    def publish(self, workspace: Workspace, index: int) -> Revision:
        """Publish round `index` and every earlier round that is not published yet. Returns the revision of round `index`.

        Raises RevisionConflict when somebody else published to the repository, PublishError when the Hub cannot be used.
        """
        revision = None
        for number in range(index + 1):
            folder = workspace.round(number)
            revision = self._published_revision(folder)
            if revision is None:
                revision = self._publish(workspace, folder)
            elif number == index:
                self.progress.done("publish", number, already=True, repo=self.repo, commit=revision.commit)
        assert revision is not None
        return revision

    def _published_revision(self, folder: RoundFolder) -> Revision | None:
        """The revision in revision.json; None when there is none or the Hub's tag names another commit."""
        if not folder.revision.exists() or not (folder.root / PUBLISHED).exists():
            return None
        stored = read_json(folder.revision)
        if (stored["repo"], stored.get("endpoint")) != (self.repo, self.endpoint):
            return None
        if self._hub_tags().get(folder.tag) != stored["commit"]:
            return None  # the publisher then sets the missing tag, or raises a conflict
        return Revision(self.repo, folder.tag, stored["commit"], self.endpoint)

    def _hub_tags(self) -> dict[str, str]:
        """Tag -> commit on the Hub, asked for once."""
        if self._tags is None:
            try:
                self._tags = dict(self.hub.refs(self.repo).tags)
            except PublishError:  # there is no repository yet; the publisher raises every other error again
                self._tags = {}
        return self._tags

    def _publish(self, workspace: Workspace, folder: RoundFolder) -> Revision:
        self.progress.stage("publish", folder.index, repo=self.repo)
        draft = folder.root / DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        try:
            bundle = make_bundle(self.recipe, workspace, folder, draft)
            revision = replace(self.hub.publish(bundle), endpoint=self.endpoint)
            self._keep_manifest(folder, revision, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        write_json(
            folder.revision,
            {"repo": revision.repo, "tag": revision.tag, "commit": revision.commit, "endpoint": revision.endpoint},
        )
        self._hub_tags()[folder.tag] = revision.commit
        self.progress.done("publish", folder.index, repo=self.repo, tag=revision.tag, commit=revision.commit)
        return revision

    def _keep_manifest(self, folder: RoundFolder, revision: Revision, draft: Path) -> None:
        """Write published.json as the Hub has it: the commit may be that of an earlier attempt with other versions."""
        path = repo_layout.manifest(folder.tag)
        for target in (draft / "fetched", draft / "again"):  # twice, because a download may be damaged
            data = (self.hub.fetch_files(self.repo, revision.commit, [path], target) / path).read_bytes()
            if (manifest := without_checksum(data)) is not None:
                break
        else:
            raise VerificationError(
                f"{self.repo}@{folder.tag}: {path} comes back altered; look with: evokd-data verify {self.repo} "
                f"--round {folder.index}"
            )
        if manifest["digest"] != read_json(folder.manifest)["digest"]:
            raise RevisionConflict(
                f"{self.repo}@{folder.tag}: the manifest there is of another round than {folder.root}"
            )
        write_text(folder.root / PUBLISHED, data.decode())


def make_bundle(recipe: Recipe, workspace: Workspace, folder: RoundFolder, draft: Path) -> Bundle:
    """The round's commit: Parquet files, recipe, prompts, plan, metrics, card, and the manifest that lists them.

    The files are written below `draft`. Raises VerificationError when the shards differ from the round's manifest.
    """
    assert recipe.publish is not None
    manifest, metrics = read_json(folder.manifest), read_json(folder.metrics)
    totals, corrections = read_json(folder.generated), corrections_of(folder)
    content = f"{manifest['identity']['rows']} samples" if corrections is None else f"{len(corrections)} corrections"
    score = primary_metric(metrics["test"])
    files: dict[str, Path] = {}
    bundle = Bundle(
        repo=recipe.publish.repo,
        tag=folder.tag,
        title=f"{folder.tag}: {content}, {score.name} {score.value:.2f}",
        files=files,
        manifest=manifest["digest"],
        parent_tag=workspace.round(folder.index - 1).tag if folder.index else None,
        private=recipe.publish.private,
    )
    if (originals := folder.root / AS_PUBLISHED).is_dir():
        files.update({path.relative_to(originals).as_posix(): path for path in originals.rglob("*") if path.is_file()})
        return bundle
    rows = _add_parquet_files(recipe, folder, draft, files)
    if corrections is not None:
        _add_live_files(recipe, workspace, folder, draft, files, rows)

    def write(path: str, text: str) -> None:
        files[path] = draft / "texts" / path
        files[path].parent.mkdir(parents=True, exist_ok=True)
        files[path].write_text(text, encoding="utf-8", newline="")

    write(repo_layout.RECIPE, public_recipe(workspace.recipe))
    for name, source in recipe.templates().sources(recipe.strategy.prompt_templates).items():
        write(f"{repo_layout.PROMPTS}/{name}", source)
    write(repo_layout.plan(folder.tag), read_checked(folder.plan))
    write(repo_layout.metrics(folder.tag), read_checked(folder.metrics))
    if folder.exam.exists():
        write(repo_layout.exam(folder.tag), read_checked(folder.exam))

    def entries() -> dict[str, dict[str, Any]]:
        return {path: _entry(file, rows.get(path)) for path, file in sorted(files.items())}

    published = {
        **manifest,
        "environment": _public(manifest["environment"]),
        "totals": {
            key: totals[key]
            for key in ("asked", "kept", "rejected", "label_prompts_saved", "left_out", "corrections")
            if key in totals
        },
        **({"student": read_json(folder.pushed)} if folder.pushed.exists() else {}),
        "files": entries(),
    }
    rounds = [_facts(earlier) for earlier in workspace.before(folder.index)]
    rounds.append(dataset_card.RoundFacts(published, metrics, read_json(folder.plan)))
    write(repo_layout.CARD, dataset_card.render(recipe, recipe.publish.repo, rounds))
    write(repo_layout.CURVE, dataset_card.learning_curve(recipe, rounds))
    published["files"] = entries()
    published["previous"] = _previous(workspace.round(folder.index - 1)) if folder.index else None
    write(repo_layout.manifest(folder.tag), encode_manifest(with_checksum(published)).decode())
    return bundle


def _add_parquet_files(recipe: Recipe, folder: RoundFolder, draft: Path, files: dict[str, Path]) -> dict[str, int]:
    """Write the round's Parquet files below `draft` and add them to `files`. Returns the number of rows of each."""
    assert recipe.publish is not None
    rows: dict[str, int] = {}

    def add(kind: str, paths: list[Path]) -> None:
        for number, path in enumerate(paths):
            name = repo_layout.parquet_file(kind, folder.tag, repo_layout.SPLIT, number, len(paths))
            files[name], rows[name] = path, parquet.count_rows(path)

    samples = parquet.write_samples(recipe.task, folder.shard_files(), draft / "samples")
    content = content_digest(recipe.task, parquet.read_samples(recipe.task, samples))
    expected = read_json(folder.manifest)["identity"]["content"]
    if content != expected:
        raise VerificationError(
            f"{folder.shards}: its rows (content {content[:12]}) are not those the round's manifest tells of "
            f"({expected[:12]}); restore the shards, or remove {folder.root} and later rounds"
        )
    add(repo_layout.DATA, samples)
    add(repo_layout.REJECTIONS, parquet.write_rejections(folder.rejection_files(), draft / "rejections"))
    add(repo_layout.PROBE, parquet.write_probe(folder.probe, draft / "probe"))
    if recipe.publish.journal:
        add(repo_layout.JOURNAL, parquet.write_journal(folder.journal, draft / "journal"))
    return rows


def _add_live_files(
    recipe: Recipe, workspace: Workspace, folder: RoundFolder, draft: Path, files: dict[str, Path], rows: dict[str, int]
) -> None:
    """Add the earlier rounds' files, written again without withdrawn rows, from which a row is withdrawn by this round."""
    newly = withdrawn_by(corrections_of(folder) or ())
    withdrawn = withdrawn_rows(workspace, folder.index)
    for index in sorted({round_index for round_index, _ in newly}):
        earlier = workspace.round(index)
        published = PublishedRound(index, _published_manifest(earlier), "").files(repo_layout.DATA)
        row_counts = [entry["rows"] for entry in published.values()]
        into = draft / "live" / earlier.tag
        written = parquet.write_live_samples(recipe.task, earlier.shard_files(), row_counts, newly, withdrawn, into)
        for number, path in written.items():
            name = repo_layout.live_file(folder.tag, list(published)[number])
            files[name], rows[name] = path, parquet.count_rows(path)


def _entry(file: Path, rows: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"sha256": file_digest(file), "size": file.stat().st_size}
    return entry if rows is None else {**entry, "rows": rows}


def _facts(folder: RoundFolder) -> dataset_card.RoundFacts:
    return dataset_card.RoundFacts(_published_manifest(folder), read_json(folder.metrics), read_json(folder.plan))


def _published_manifest(folder: RoundFolder) -> dict[str, Any]:
    """published.json. Raises WorkspaceError when it was altered: the next round's manifest would rest on another one."""
    path = folder.root / PUBLISHED
    manifest = without_checksum(path.read_bytes())
    if manifest is None:
        raise WorkspaceError(
            f"{path}: was altered since the round was published; remove {folder.revision} and publish again"
        )
    return manifest


def _previous(folder: RoundFolder) -> dict[str, str]:
    _published_manifest(folder)
    return {"tag": folder.tag, "sha256": file_digest(folder.root / PUBLISHED)}


def public_recipe(path: Path) -> str:
    """A workspace's recipe without what belongs to this machine: of an absolute path only the last part stays, and the Hub's
    address is left out. Task and card are the user's own words and stay as they are."""
    table = load_yaml_with_lines(path.read_text(encoding="utf-8"))
    for key in table:
        if key not in ("task", "card"):
            table[key] = _public(table[key])
    if isinstance(table.get("card"), Mapping) and table["card"].get("comparison"):
        table["card"]["comparison"] = _public(table["card"]["comparison"])
    for key in ("endpoint", "hub_root"):
        if isinstance(table.get("publish"), Mapping):
            table["publish"].pop(key, None)
    return dump_yaml(table)


_ABSOLUTE = re.compile(r"^(?:/|~|[A-Za-z]:[\\/])[^\n]*[\\/](?=[^\\/\n]*$)|^(?:file://)[^\n]*/")


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    if isinstance(value, str):
        return redact(_ABSOLUTE.sub("", value))
    return value
