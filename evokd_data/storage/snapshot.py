"""A published revision on disk: its manifests, the files they promise, and what is wrong with either.

A published manifest is the round's own with four keys more, or five:

    totals     {asked, kept, rejected: {reason: count}}
    files      path -> {sha256, size[, rows]} of every file of the round's commit but the manifest itself
    student    {repo, tag, commit} of its student in a model repository, when that was pushed before
    previous   {tag, sha256 of the published manifest} of the round before
    seal       digest of all the rest

so the newest manifest answers, link by link, for every byte of every round. Nothing here asks a Hub.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.digest import digest, file_digest
from evokd_data.errors import VerificationError
from evokd_data.repo_layout import round_tag
from evokd_data.yaml_files import load_yaml

if TYPE_CHECKING:
    from evokd_data.tasks import Task

SCHEMA_VERSIONS = ("1",)


def with_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its seal."""
    bare = {key: value for key, value in manifest.items() if key != "seal"}
    return {**bare, "seal": digest(bare)}


def encoded(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as it is published: one form only, so that not even white space can change unseen."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class PublishedRound:
    """One round of a revision, as its manifest tells it."""

    index: int
    manifest: Mapping[str, Any]
    sha256: str
    broken: bool = False
    """Altered since it was published: nothing in `manifest` is to be relied on."""

    @property
    def tag(self) -> str:
        return round_tag(self.index)

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.manifest["identity"]

    def files(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The round's Parquet files of one kind (`repo_layout.DATA`, ...), in row order."""
        prefix = f"{kind}/{self.tag}/"
        return {path: entry for path, entry in sorted(self.manifest["files"].items()) if path.startswith(prefix)}

    @property
    def bytes(self) -> int:
        """What the round's commit added."""
        return sum(entry["size"] for entry in self.manifest["files"].values())


@dataclass(frozen=True)
class Snapshot:
    """The files of one revision in `folder`: all that were asked for, none of another commit."""

    repo: str
    revision: str
    commit: str
    folder: Path
    rounds: tuple[PublishedRound, ...]

    @cached_property
    def files(self) -> dict[str, Mapping[str, Any]]:
        """What every file of the revision must be, manifests excepted; where rounds replace a file, the newest counts."""
        sound = (one for one in self.rounds if not one.broken)
        return {path: entry for one in sound for path, entry in one.manifest["files"].items()}

    def metrics(self, index: int) -> dict[str, Any]:
        return json.loads((self.folder / repo_layout.metrics(round_tag(index))).read_bytes())

    def paths(self, kind: str, indices: Sequence[int]) -> list[Path]:
        """The Parquet files of some rounds, in row order."""
        return [self.folder / path for index in indices for path in self.rounds[index].files(kind)]

    @property
    def where(self) -> str:
        return f"{self.repo}@{self.revision}"


def read(repo: str, revision: str, commit: str, folder: Path, index: int) -> tuple[Snapshot, list[str]]:
    """The manifests of rounds 0..index, with what is wrong with them and with the chain they form.

    Raises VerificationError when one is missing or of another version: then nothing more can be said.
    """
    problems: list[str] = []
    rounds: list[PublishedRound] = []
    for number in range(index + 1):
        path = repo_layout.manifest(round_tag(number))
        where = f"{repo}@{revision}: {path}"
        try:
            data = (folder / path).read_bytes()
        except FileNotFoundError:
            raise VerificationError(f"{where}: is missing; this is no revision with rounds 0 to {index}") from None
        sha256 = hashlib.sha256(data).hexdigest()
        manifest = without_checksum(data)
        if manifest is None:
            problems.append(f"{path}: altered since it was published: its seal is broken")
            rounds.append(PublishedRound(number, {}, sha256, broken=True))
            continue
        if manifest["schema"] not in SCHEMA_VERSIONS:
            raise VerificationError(
                f"{where}: schema version {manifest['schema']!r}, this version knows {', '.join(SCHEMA_VERSIONS)}; "
                "use the version of evokd-data that published it"
            )
        rounds.append(PublishedRound(number, manifest, sha256))
        if strange := next((path for path in manifest.get("files", ()) if not _inside(path)), None):
            raise VerificationError(f"{where}: names the file {strange!r}, which lies outside of the repository")
        try:
            found = list(_wrong(rounds[-1], rounds[-2] if number else None))
        except (KeyError, TypeError, AttributeError) as error:
            raise VerificationError(f"{where}: is no manifest of a published round ({error!r})") from None
        problems += [f"{path}: {problem}" for problem in found]
    return Snapshot(repo, revision, commit, folder, tuple(rounds)), problems


def without_checksum(data: bytes) -> dict[str, Any] | None:
    """A manifest whose seal holds; None for anything else."""
    try:
        manifest = json.loads(data)
        bare = {key: value for key, value in manifest.items() if key != "seal"}
        whole = manifest["seal"] == digest(bare) and encoded(manifest) == data and "schema" in manifest
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def _inside(path: str) -> bool:
    """Whether a path of a manifest stays in its folder: it is read, and when damaged removed."""
    return not ({"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path)


def _wrong(one: PublishedRound, before: PublishedRound | None) -> Iterator[str]:
    manifest, identity = one.manifest, one.identity
    if not (manifest["round"] == identity["round"] == one.index):
        yield f"tells of round {manifest['round']}, not {one.index}"
    if manifest["digest"] != digest(identity):
        yield f"its digest {manifest['digest'][:12]} is not that of its identity ({digest(identity)[:12]})"
    if not (before and before.broken) and identity["parent"] != (before.manifest["digest"] if before else None):
        yield f"its parent {str(identity['parent'])[:12]} is not the round before"
    if manifest["previous"] != ({"tag": before.tag, "sha256": before.sha256} if before else None):
        yield f"rests on another manifest of {before.tag if before else 'a round before'} than the one here"
    for key in ("content", "rejections", "plan", "prompts"):
        identity[key]
    for key in ("asked", "rejected"):
        manifest["totals"][key]
    for entry in manifest["files"].values():
        entry["sha256"], entry["size"]
    if identity["rows"] != sum(entry["rows"] for entry in one.files(repo_layout.DATA).values()):
        yield f"its files do not hold the {identity['rows']} rows of its identity"


def altered(
    snapshot: Snapshot, paths: Sequence[str], seen: Callable[[str], None] | None = None
) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) for each file that is not what a manifest says: every byte of it is read."""

    def wrong(path: str) -> str:
        entry, file = snapshot.files[path], snapshot.folder / path
        if not file.is_file():
            return "is missing"
        if (size := file.stat().st_size) != entry["size"]:
            return f"has {size} bytes, its manifest says {entry['size']}"
        if (found := file_digest(file)) != entry["sha256"]:
            return f"differs from its manifest (sha256 {found[:12]} != {entry['sha256'][:12]})"
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # digests are made without the interpreter's lock
        checked = [pool.submit(wrong, path) for path in paths]
        for path, problem in zip(paths, checked, strict=True):
            if seen is not None:
                seen(path)
            if found := problem.result():
                yield path, found


def load_task(recipe: Path) -> Task:
    """The task of a published recipe: its files and models may be elsewhere, and are not looked for."""
    from evokd_data import settings
    from evokd_data.registry import resolve
    from evokd_data.tasks import TASKS

    try:
        table = load_yaml(recipe.read_text(encoding="utf-8"))["task"]
        kind = table.pop("type")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(
            f"{recipe}: is no recipe with a task ({type(error).__name__}); download it again"
        ) from None
    made, problems = settings.build(resolve(TASKS, kind), table, "task")
    if made is None:
        raise VerificationError(f"{recipe}: {'; '.join(problems)}; use the version of evokd-data that published it")
    return made
