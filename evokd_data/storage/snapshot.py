"""Snapshot: a published revision on disk, its manifests, the files they list, and the problems of both.

A published manifest is the round's manifest with four or five more keys:

    totals     {asked, kept, rejected: {reason: count}}
    files      path -> {sha256, size[, rows]} of every file of the round's commit except the manifest itself
    student    {repo, tag, commit} of the round's student in a model repository, when it was pushed before the round
    previous   {tag, sha256 of the published manifest} of the round before
    seal       checksum: the digest of all other keys

So the newest manifest vouches, through this chain, for every byte of every round. Nothing here asks a Hub.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.digest import digest, file_digest
from evokd_data.errors import VerificationError
from evokd_data.repo_layout import round_tag
from evokd_data.storage.file_forms import check_form
from evokd_data.yaml_files import load_yaml, read_yaml_text

if TYPE_CHECKING:
    from evokd_data.tasks import Task

SCHEMA_VERSIONS = ("1",)
MAX_COUNT = 2**48
"""More than any file has bytes. A manifest with a larger or a negative number was not written by this program."""


def with_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its checksum, stored under "seal"."""
    bare = {key: value for key, value in manifest.items() if key != "seal"}
    return {**bare, "seal": digest(bare)}


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a published manifest. There is only one form, so that even changed white space is detected."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class PublishedRound:
    """One round of a revision, as its manifest describes it. `sha256` is the digest of the manifest's file."""

    index: int
    manifest: Mapping[str, Any]
    sha256: str
    broken: bool = False
    """The manifest was altered after it was published; `manifest` is empty."""

    @property
    def tag(self) -> str:
        """The round's tag, such as "round-003"."""
        return round_tag(self.index)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The digested part of the manifest (see `stages.manifest`)."""
        return self.manifest["identity"]

    def files(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The round's Parquet files of one kind (`repo_layout.DATA`, ...), in row order."""
        prefix = f"{kind}/{self.tag}/"
        return {path: entry for path, entry in sorted(self.manifest["files"].items()) if path.startswith(prefix)}

    @property
    def bytes(self) -> int:
        """The size of all files of the round's commit, except the manifest."""
        return sum(entry["size"] for entry in self.manifest["files"].values())


@dataclass(frozen=True)
class Snapshot:
    """The files of one revision in `folder`. It holds all files that were asked for and none of another commit."""

    repo: str
    revision: str
    commit: str
    folder: Path
    rounds: tuple[PublishedRound, ...]

    @cached_property
    def files(self) -> dict[str, Mapping[str, Any]]:
        """path -> {sha256, size[, rows]} of every file of the revision except manifests.

        Where a later round replaced a file, the entry is that of the newest round. Broken rounds are left out.
        """
        intact = (published for published in self.rounds if not published.broken)
        return {path: entry for published in intact for path, entry in published.manifest["files"].items()}

    def metrics(self, index: int) -> dict[str, Any]:
        """The metrics of round `index`."""
        return self.json(repo_layout.metrics(round_tag(index)))

    def json(self, path: str) -> Any:
        """The value in a JSON file of the revision. Raises VerificationError when it is none."""
        try:
            return json.loads((self.folder / path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise VerificationError(f"{self.name}: {path}: is no JSON ({type(error).__name__})") from None

    def paths(self, kind: str, indices: Sequence[int]) -> list[Path]:
        """The Parquet files of some rounds, in row order."""
        return [self.folder / path for index in indices for path in self.rounds[index].files(kind)]

    def live_files(self, indices: Iterable[int]) -> list[str]:
        """The data files of some rounds as they are valid at this revision, without withdrawn rows, in row order."""
        return repo_layout.live_files([published.manifest["files"] for published in self.rounds], indices)

    def corrections(self, index: int) -> list[dict[str, Any]] | None:
        """The corrections of round `index`, whose plan must have been fetched; None for a round of another kind.

        Raises VerificationError when they have another form than this program writes.
        """
        published = self.rounds[index]
        if "withdrawn" not in published.identity:
            return None
        plan = repo_layout.plan(published.tag)
        content = self.json(plan)
        try:
            check_form("plan.json", content)
            corrections: list[dict[str, Any]] = content["corrections"]
        except (ValueError, KeyError) as error:
            raise VerificationError(f"{self.name}: {plan}: is no plan of corrections ({error})") from None
        return corrections

    @property
    def name(self) -> str:
        """The revision as messages name it: "org/name@round-003"."""
        return f"{self.repo}@{self.revision}"


@contextmanager
def of_known_form(name: str) -> Iterator[None]:
    """Inside the block published files are read whose content nothing has checked but its digest.

    Raises VerificationError when they have another form than this program writes.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError) as error:
        raise VerificationError(
            f"{name}: holds something of another form than evokd-data writes ({type(error).__name__}: {error}); ask who "
            "published it, or take another round"
        ) from error


def read_snapshot(repo: str, revision: str, commit: str, folder: Path, index: int) -> tuple[Snapshot, list[str]]:
    """The snapshot of rounds 0..index in `folder`, and the problems of its manifests and of the chain that they form.

    Raises VerificationError when a manifest is missing or of another version, because then nothing else can be checked.
    """
    problems: list[str] = []
    rounds: list[PublishedRound] = []
    for number in range(index + 1):
        path = repo_layout.manifest(round_tag(number))
        name = f"{repo}@{revision}: {path}"
        try:
            data = (folder / path).read_bytes()
        except FileNotFoundError:
            raise VerificationError(f"{name}: is missing; this is no revision with rounds 0 to {index}") from None
        sha256 = hashlib.sha256(data).hexdigest()
        manifest = without_checksum(data)
        if manifest is None:
            problems.append(f"{path}: altered since it was published: its checksum (seal) is wrong")
            rounds.append(PublishedRound(number, {}, sha256, broken=True))
            continue
        if manifest["schema"] not in SCHEMA_VERSIONS:
            raise VerificationError(
                f"{name}: schema version {manifest['schema']!r}, this version knows {', '.join(SCHEMA_VERSIONS)}; "
                "use the version of evokd-data that published it"
            )
        rounds.append(PublishedRound(number, manifest, sha256))
        try:
            if outside := next((path for path in manifest["files"] if not _is_inside(path)), None):
                raise VerificationError(f"{name}: names the file {outside!r}, which lies outside of the repository")
            problems += [
                f"{path}: {problem}" for problem in _manifest_problems(rounds[-1], rounds[-2] if number else None)
            ]
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise VerificationError(f"{name}: is no manifest of a published round ({error!r})") from None
    return Snapshot(repo, revision, commit, folder, tuple(rounds)), problems


def without_checksum(data: bytes) -> dict[str, Any] | None:
    """The manifest in a published file, when its checksum is right; None for anything else."""
    try:
        manifest = json.loads(data)
        bare = {key: value for key, value in manifest.items() if key != "seal"}
        intact = manifest["seal"] == digest(bare) and encode_manifest(manifest) == data and "schema" in manifest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return manifest if intact else None


def _is_inside(path: str) -> bool:
    """Whether a path in a manifest stays in the snapshot's folder. Such a file is read, and removed when it is damaged."""
    return not ({"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path)


def _manifest_problems(published: PublishedRound, before: PublishedRound | None) -> Iterator[str]:
    """Problems of a manifest. Raises KeyError, TypeError or AttributeError when it is not one of a published round."""
    manifest, identity = published.manifest, published.identity
    if not (manifest["round"] == identity["round"] == published.index):
        yield f"tells of round {manifest['round']}, not {published.index}"
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
    counts = [identity["rows"], manifest["totals"]["asked"], *manifest["totals"]["rejected"].values()]
    for entry in manifest["files"].values():
        entry["sha256"]
        counts += [entry["size"], entry.get("rows", 0)]
    counts += [shard[key] for shard in manifest["shards"] for key in ("first", "last", "rows")]
    if wrong := [count for count in counts if type(count) is not int or not 0 <= count <= MAX_COUNT]:
        yield f"holds {wrong[0]!r:.40}, which is no count"
    if identity["rows"] != sum(entry["rows"] for entry in published.files(repo_layout.DATA).values()):
        yield f"its files do not hold the {identity['rows']} rows of its identity"


def altered_files(
    snapshot: Snapshot, paths: Sequence[str], on_file: Callable[[str], None] | None = None
) -> Iterator[tuple[str, str]]:
    """(path, problem) for each file that differs from its manifest, in the order of `paths`. Every byte is read.

    `on_file` is called with each path when its result is there.
    """

    def file_problem(path: str) -> str:
        entry, file = snapshot.files[path], snapshot.folder / path
        if not file.is_file():
            return "is missing"
        if (size := file.stat().st_size) != entry["size"]:
            return f"has {size} bytes, its manifest says {entry['size']}"
        if (sha256 := file_digest(file)) != entry["sha256"]:
            return f"differs from its manifest (sha256 {sha256[:12]} != {entry['sha256'][:12]})"
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter's lock
        checks = [pool.submit(file_problem, path) for path in paths]
        for path, check in zip(paths, checks, strict=True):
            if on_file is not None:
                on_file(path)
            if problem := check.result():
                yield path, problem


def load_task(recipe: Path) -> Task:
    """The task of a published recipe. The files and models that the recipe names need not be on this machine.

    Raises VerificationError when the file is not a recipe, or has settings that this version does not know.
    """
    from evokd_data import settings
    from evokd_data.registry import resolve
    from evokd_data.tasks import TASKS

    try:
        table = load_yaml(read_yaml_text(recipe))["task"]
        kind = table.pop("type")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(
            f"{recipe}: is no recipe with a task ({type(error).__name__}); download it again"
        ) from None
    task, problems = settings.build(resolve(TASKS, kind), table, "task")
    if task is None:
        raise VerificationError(f"{recipe}: {'; '.join(problems)}; use the version of evokd-data that published it")
    return task
