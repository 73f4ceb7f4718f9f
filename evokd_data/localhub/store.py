"""Repositories: bare git (dulwich), hub.json, and the list of the large files that were uploaded to the repository.

Readers take no lock: a ref names a commit, a commit its trees, a tree its blobs, and commits, trees and blobs never change.
Writers hold the repository's lock (`Store.writing`). Whoever holds it knows that lock files in git's own folder are stale:
a killed server left them there.
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
_LOOSE_AT_MOST = 16  # objects; more than these go into one pack, so that a commit costs few fsyncs and few files
_LARGE = 256 * 1024  # bytes; larger objects are written at once
_IN_MEMORY = 32 * 1024**2  # bytes of smaller objects that wait in memory


class NoSuchRepository(Exception):
    """There is no such repository; perhaps it was deleted."""


class Repository:
    """An open repository, for one thread. Opening it again in another thread is cheap."""

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
        """Whether only callers of its namespace see it."""
        return bool(self.meta["private"])

    def close(self) -> None:
        """Close git's files."""
        self.git.close()

    def resolve(self, revision: str) -> bytes:
        """The id (40 hex digits) of the commit that a revision names.

        A revision is a branch, a tag, a `refs/...` name, a commit id, or at least 7 first digits of one. Raises HubError 404
        RevisionNotFound.
        """
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
            matches = list(self.objects.iter_prefix(revision.encode()))
            commits = [sha for sha in matches if isinstance(self.objects[sha], Commit)]
            if len(commits) == 1:
                return commits[0]
        raise revision_not_found(revision)

    def _commit_of(self, sha: bytes) -> bytes:
        target = self.objects[sha]
        while isinstance(target, Tag):
            target = self.objects[target.object[1]]
        if not isinstance(target, Commit):
            raise KeyError(sha)
        return target.id

    def commit(self, sha: bytes) -> Commit:
        """The commit of that id."""
        commit = self.objects[sha]
        assert isinstance(commit, Commit)
        return commit

    def names(self, prefix: bytes) -> dict[str, str]:
        """Short name -> id of the commit, for every ref below `prefix`, in the order of names; annotated tags are peeled."""
        refs = self.refs.as_dict(prefix)
        return {name.decode(): self._commit_of(sha).decode() for name, sha in sorted(refs.items())}

    def read_blob(self, sha: bytes) -> bytes:
        """The content of the blob of that id."""
        kind, data = self.objects.get_raw(sha)
        assert kind == Blob.type_num
        return data

    # --- large files that were uploaded to this repository -----------------------------------------------------
    # All repositories share one store of large files. To know a sha256 must not be enough to read the content of another
    # repository: an object belongs to a repository only after its bytes were uploaded there.

    def has_large_file(self, oid: str) -> bool:
        """Whether the object belongs to this repository; `LfsStore` tells whether its content is there."""
        return self._mark(oid).exists()

    def add_large_file(self, oid: str) -> None:
        """Note that the object belongs to this repository."""
        mark = self._mark(oid)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def remove_large_file(self, oid: str) -> None:
        """Note that the object does not belong to this repository any more."""
        self._mark(oid).unlink(missing_ok=True)

    def _mark(self, oid: str) -> Path:
        return self.path / "lfs-known" / oid[:2] / oid

    # --- writing ---------------------------------------------------------------------------------------------------

    def set_ref(self, name: bytes, old: bytes | None, new: bytes) -> bool:
        """Move a ref from `old` to `new`, None standing for no ref; False if it was not at `old`. Synced on return.

        Raises HubError 409 when another ref excludes the name.
        """
        try:
            moved = self.refs.set_if_equals(name, old, new) if old else self.refs.add_if_new(name, new)
        except OSError as exc:  # refs/heads/a and refs/heads/a/b exclude each other
            raise HubError(409, f"{name.decode()} conflicts with an existing branch or tag") from exc
        if moved:
            sync_folder((self.path / os.fsdecode(name)).parent)
        return moved

    def delete_ref(self, name: bytes) -> bool:
        """Delete a branch or tag by its full name; False if there is none."""
        return self.refs.remove_if_equals(name, None) if name in self.refs else False

    def clear_stale_locks(self) -> int:
        """Remove git's own *.lock files and return their number. The caller must hold the repository's lock."""
        stale = [*self.path.glob("*.lock"), *(self.path / "objects" / "pack").glob("*.lock")]
        stale += (self.path / "refs").rglob("*.lock")
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)


class ObjectBatch:
    """The new git objects of one commit, to be written into the object store of `repo`."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self._waiting: dict[bytes, ShaFile] = {}
        self._bytes = 0

    def add(self, obj: ShaFile) -> bytes:
        """Write the object now, or with `flush` if it is small. Returns its id."""
        size = obj.raw_length()
        if size > _LARGE or self._bytes + size > _IN_MEMORY:
            self._write(obj)
        elif obj.id not in self._waiting:
            self._waiting[obj.id] = obj
            self._bytes += size
        return obj.id

    def tree(self, sha: bytes) -> Tree:
        """The tree of that id, which the repository has already."""
        tree = self.repo.objects[sha]
        assert isinstance(tree, Tree)
        return tree

    def flush(self) -> None:
        """Write and sync the objects that wait. The caller holds the repository's lock; no ref names the objects yet.

        The names of the files reach the disk together with the ref: a filesystem keeps renames in order in one journal, and
        `set_ref` syncs the last rename. To sync each folder here would cost more than everything else.
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
        """Write a loose object and rename it into place. dulwich would take a lock file, on which a second writer fails."""
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
        """The folder of the repository, present or not."""
        return self.root.repos / repo_id.kind / repo_id.namespace / f"{repo_id.name}.git"

    @contextmanager
    def open(self, repo_id: RepoId) -> Iterator[Repository]:
        """The repository, open inside the block. Raises NoSuchRepository."""
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
        """The repository with its lock held, so that no other process of this machine writes to it.

        Raises NoSuchRepository, and HubError 503 when the lock is not free in time.
        """
        with self.root.lock(self.root.repo_lock(repo_id)), self.open(repo_id) as repo:
            repo.clear_stale_locks()
            yield repo

    def private(self, repo_id: RepoId) -> bool:
        """Whether the repository is private. Raises NoSuchRepository."""
        try:
            return bool(json.loads((self.path(repo_id) / "hub.json").read_bytes())["private"])
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchRepository(str(repo_id)) from None

    def create(self, repo_id: RepoId, *, private: bool, first_files: dict[str, bytes], author: bytes) -> bool:
        """Create a repository with one commit that holds `first_files`; False if the repository exists already."""
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
            batch = ObjectBatch(repo)
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
        """Delete a repository; False if there is none. Its large files stay until `gc` removes them."""
        with self.root.lock(self.root.repo_lock(repo_id)):
            trash = Path(tempfile.mkdtemp(dir=self.root.tmp, prefix="trash-"))
            try:
                self.path(repo_id).rename(trash / "repo")
            except FileNotFoundError:
                return False
            finally:
                shutil.rmtree(trash, ignore_errors=True)
        return True

    def set_private(self, repo_id: RepoId, private: bool) -> None:
        """Make the repository private or public. Raises NoSuchRepository."""
        with self.writing(repo_id) as repo:
            write_durably(self.root, repo.path / "hub.json", json.dumps({**repo.meta, "private": private}).encode())

    def all(self, kind: str | None = None) -> list[RepoId]:
        """The ids of all repositories of a kind, or of every kind, sorted by path."""
        return [
            RepoId(folder, path.parent.name, path.name.removesuffix(".git"))
            for folder in ([kind] if kind else KINDS)
            for path in sorted((self.root.repos / folder).glob("*/*.git"))
            if is_name(path.parent.name) and is_name(path.stem)
        ]


def new_commit(tree: bytes, parents: list[bytes], author: bytes, message: bytes) -> Commit:
    """A commit object of this second, in UTC; `author` is "Name <address>"."""
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
    """An annotated tag of the commit `target`."""
    tag = Tag()
    tag.name = name
    tag.object = (Commit, target)
    tag.tagger = author
    tag.tag_time = int(time.time())
    tag.tag_timezone = 0
    tag.message = message
    return tag


def iso_date(timestamp: float) -> str:
    """A Unix time in UTC, in the only form that huggingface_hub parses."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
