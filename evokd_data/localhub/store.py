"""Repositories: bare git (dulwich) plus two things of ours, hub.json and the list of large files it was given.

Readers take no lock: a ref names a commit, a commit its trees, a tree its blobs, and none of the latter ever changes.
Writers hold the repository's lock (`Store.writing`), which is also when locks that a killed server left in git's own
folder are known to be stale.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.repo import Repo

from evokd_data.atomic_files import sync_folder, write_private
from evokd_data.localhub.errors import HubError, revision_not_found
from evokd_data.localhub.names import HEX40, KINDS, RepoId, is_name, is_ref
from evokd_data.localhub.root import Root, write_durably

HEADS = b"refs/heads/"
TAGS = b"refs/tags/"
_LOOSE_AT_MOST = 16  # objects; more of them go into one pack, so that a commit costs few fsyncs and few files
_LARGE = 256 * 1024  # bytes; larger blobs are written at once rather than held in memory
_IN_MEMORY = 32 * 1024**2  # bytes of smaller ones held


class NoSuchRepository(Exception):
    """Never made, or deleted."""


class Repository:
    """One repository, open. Not to be shared between threads: opening another is cheap."""

    def __init__(self, root: Root, repo_id: RepoId, path: Path) -> None:
        self.root = root
        self.id = repo_id
        self.path = path
        self.meta: dict[str, Any] = json.loads((path / "hub.json").read_bytes())
        self.git = Repo(str(path))
        # Any: dulwich tells ids and ref names apart by type, here both are plain bytes.
        self.objects: Any = self.git.object_store
        self.refs: Any = self.git.refs

    @property
    def private(self) -> bool:
        return bool(self.meta["private"])

    def close(self) -> None:
        self.git.close()

    def resolve(self, revision: str) -> bytes:
        """The commit (40 hex) that a branch, tag, `refs/...` name, commit id or its first 7+ digits stands for."""
        if revision == "HEAD":
            revision = "main"
        if is_ref(revision):
            name = revision.encode()
            for candidate in (HEADS + name, TAGS + name, *([name] if name.startswith(b"refs/") else [])):
                with suppress(KeyError):
                    return self._commit_of(self.refs[candidate])
        if HEX40.fullmatch(revision):
            with suppress(KeyError):
                return self._commit_of(revision.encode())
        elif 7 <= len(revision) < 40 and all(c in "0123456789abcdef" for c in revision):
            found = list(self.objects.iter_prefix(revision.encode()))
            commits = [sha for sha in found if isinstance(self.objects[sha], Commit)]
            if len(commits) == 1:
                return commits[0]
        raise revision_not_found(revision)

    def _commit_of(self, sha: bytes) -> bytes:
        found = self.objects[sha]
        while isinstance(found, Tag):
            found = self.objects[found.object[1]]
        if not isinstance(found, Commit):
            raise KeyError(sha)
        return found.id

    def commit(self, sha: bytes) -> Commit:
        found = self.objects[sha]
        assert isinstance(found, Commit)
        return found

    def names(self, prefix: bytes) -> dict[str, str]:
        """Short name -> commit, for every ref below `prefix`; annotated tags are peeled."""
        refs = self.refs.as_dict(prefix)
        return {name.decode(): self._commit_of(sha).decode() for name, sha in sorted(refs.items())}

    def read_blob(self, sha: bytes) -> bytes:
        kind, data = self.objects.get_raw(sha)
        assert kind == Blob.type_num
        return data

    # --- large files this repository was given -----------------------------------------------------------------
    # The store is shared, so knowing a sha256 must not be enough to read another repository's content: an object
    # belongs to a repository once somebody has sent its bytes there.

    def knows(self, oid: str) -> bool:
        return self._mark(oid).exists()

    def remember(self, oid: str) -> None:
        mark = self._mark(oid)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def forget(self, oid: str) -> None:
        self._mark(oid).unlink(missing_ok=True)

    def _mark(self, oid: str) -> Path:
        return self.path / "lfs-known" / oid[:2] / oid

    # --- writing ---------------------------------------------------------------------------------------------------

    def set_ref(self, name: bytes, old: bytes | None, new: bytes) -> bool:
        """Compare-and-swap, on disk when it returns. `old` None: the ref must not exist yet."""
        try:
            done = self.refs.set_if_equals(name, old, new) if old else self.refs.add_if_new(name, new)
        except OSError as exc:  # refs/heads/a and refs/heads/a/b exclude each other
            raise HubError(409, f"{name.decode()} conflicts with an existing branch or tag") from exc
        if done:
            sync_folder((self.path / os.fsdecode(name)).parent)
        return done

    def delete_ref(self, name: bytes) -> bool:
        return self.refs.remove_if_equals(name, None) if name in self.refs else False

    def clear_stale_locks(self) -> int:
        """Remove git's own *.lock files. Only right while holding the repository's lock."""
        stale = [*self.path.glob("*.lock"), *(self.path / "objects" / "pack").glob("*.lock")]
        stale += (self.path / "refs").rglob("*.lock")
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)


class Batch:
    """Git objects of one commit on their way to the object store of `repo`."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self._waiting: dict[bytes, ShaFile] = {}
        self._bytes = 0

    def add(self, obj: ShaFile) -> bytes:
        size = obj.raw_length()
        if size > _LARGE or self._bytes + size > _IN_MEMORY:
            self._write(obj)
        elif obj.id not in self._waiting:
            self._waiting[obj.id] = obj
            self._bytes += size
        return obj.id

    def tree(self, sha: bytes) -> Tree:
        found = self.repo.objects[sha]
        assert isinstance(found, Tree)
        return found

    def flush(self) -> None:
        """Written and synced, and still invisible: no ref leads here yet. Call it holding the repository's lock.

        The names of these files reach the disk with the ref: filesystems keep the order of renames in one journal,
        and `set_ref` syncs the last of them. A sync of each folder here would cost more than all the rest.
        """
        waiting = list(self._waiting.values())
        if len(waiting) > _LOOSE_AT_MOST:
            self.repo.objects.add_objects([(obj, None) for obj in waiting])
        else:
            for obj in waiting:
                self._write(obj)
        self._waiting.clear()
        self._bytes = 0

    def _write(self, obj: ShaFile) -> None:
        """A loose object by rename. dulwich's own way takes a lock file, over which two writers of one blob trip."""
        name = obj.id.decode()
        target = self.repo.path / "objects" / name[:2] / name[2:]
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            synced = write_private(self.repo.root.tmp, obj.as_legacy_object())
            synced.chmod(0o444)
            synced.replace(target)


class Store:
    """All repositories of a root."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def path(self, repo_id: RepoId) -> Path:
        return self.root.repos / repo_id.kind / repo_id.namespace / f"{repo_id.name}.git"

    @contextmanager
    def open(self, repo_id: RepoId) -> Iterator[Repository]:
        """Raises NoSuchRepository."""
        try:
            repo = Repository(self.root, repo_id, self.path(repo_id))
        except (FileNotFoundError, NotADirectoryError, NotGitRepository):
            raise NoSuchRepository(str(repo_id)) from None
        try:
            yield repo
        finally:
            repo.close()

    @contextmanager
    def writing(self, repo_id: RepoId) -> Iterator[Repository]:
        """The repository, with every other writer of this machine kept out."""
        with self.root.lock(self.root.repo_lock(repo_id)), self.open(repo_id) as repo:
            repo.clear_stale_locks()
            yield repo

    def private(self, repo_id: RepoId) -> bool:
        """Raises NoSuchRepository."""
        try:
            return bool(json.loads((self.path(repo_id) / "hub.json").read_bytes())["private"])
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchRepository(str(repo_id)) from None

    def create(self, repo_id: RepoId, *, private: bool, first_files: dict[str, bytes], author: bytes) -> bool:
        """A new repository with one commit holding `first_files`; False if it exists already."""
        target = self.path(repo_id)
        if target.exists():
            return False
        building = Path(tempfile.mkdtemp(dir=self.root.tmp, prefix="repo-"))
        try:
            git = Repo.init_bare(str(building), default_branch=b"main")
            config = git.get_config()
            config.set((b"core",), b"fsyncObjectFiles", True)
            config.write_to_path()
            git.close()
            meta = {"private": private, "created": datetime.now(UTC).isoformat(timespec="seconds")}
            (building / "hub.json").write_text(json.dumps(meta))
            repo = Repository(self.root, repo_id, building)
            batch = Batch(repo)
            tree = Tree()
            for name, content in first_files.items():
                tree[name.encode()] = (0o100644, ObjectID(batch.add(Blob.from_string(content))))
            first = new_commit(batch.add(tree), [], author, b"initial commit")
            batch.add(first)
            batch.flush()
            repo.set_ref(HEADS + b"main", None, first.id)
            repo.close()
            with self.root.lock(self.root.repo_lock(repo_id)):
                if target.exists():
                    return False
                target.parent.mkdir(parents=True, exist_ok=True)
                building.rename(target)
                sync_folder(target.parent)
            return True
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def delete(self, repo_id: RepoId) -> bool:
        """The repository disappears at once; its large files stay until `gc` finds them unreferenced."""
        with self.root.lock(self.root.repo_lock(repo_id)):
            trash = Path(tempfile.mkdtemp(dir=self.root.tmp, prefix="trash-"))
            try:
                self.path(repo_id).rename(trash / "gone")
            except FileNotFoundError:
                return False
            finally:
                shutil.rmtree(trash, ignore_errors=True)
        return True

    def set_private(self, repo_id: RepoId, private: bool) -> None:
        with self.writing(repo_id) as repo:
            write_durably(self.root, repo.path / "hub.json", json.dumps({**repo.meta, "private": private}).encode())

    def all(self, kind: str | None = None) -> list[RepoId]:
        found = []
        for each in [kind] if kind else KINDS:
            for path in sorted((self.root.repos / each).glob("*/*.git")):
                if is_name(path.parent.name) and is_name(path.stem):
                    found.append(RepoId(each, path.parent.name, path.name.removesuffix(".git")))
        return found


def new_commit(tree: bytes, parents: list[bytes], author: bytes, message: bytes) -> Commit:
    commit = Commit()
    commit.tree = tree
    commit.parents = [ObjectID(parent) for parent in parents]
    commit.author = commit.committer = author
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = message
    return commit


def new_tag(name: bytes, target: bytes, author: bytes, message: bytes) -> Tag:
    tag = Tag()
    tag.name = name
    tag.object = (Commit, target)
    tag.tagger = author
    tag.tag_time = int(time.time())
    tag.tag_timezone = 0
    tag.message = message
    return tag


def iso_date(timestamp: float) -> str:
    """The one form of a date that huggingface_hub parses."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
