"""Git trees: listed as the Hub lists them, and edited so that only folders on changed paths are read and written."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dulwich.objects import Tree

from evokd_data.localhub.errors import bad_request, entry_not_found
from evokd_data.localhub.pointers import Pointer, parse_pointer
from evokd_data.localhub.store import ObjectBatch, Repository

_FILE, _FOLDER = 0o100644, 0o040000


@dataclass(frozen=True)
class Entry:
    """A file or folder at one commit. `oid` is git's id; `size` is the size of the content, also for a large file."""

    path: str
    oid: str
    folder: bool = False
    size: int = 0
    lfs: Pointer | None = None

    @property
    def etag(self) -> str:
        """The id of the content. Clients name their cached copy by it."""
        return self.lfs.oid if self.lfs else self.oid

    def as_json(self) -> dict[str, Any]:
        """The entry as the API lists it."""
        row: dict[str, Any] = {
            "type": "directory" if self.folder else "file",
            "oid": self.oid,
            "size": self.size,
            "path": self.path,
        }
        if self.lfs:
            row["lfs"] = {"oid": self.lfs.oid, "size": self.lfs.size, "pointerSize": len(self.lfs.encode())}
        return row


class Listing:
    """The files of one commit."""

    def __init__(self, repo: Repository, commit: bytes) -> None:
        self._repo = repo
        self.commit = commit
        self._root = repo.commit(commit).tree

    def entries(self, folder: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        """The entries of `folder`, in path order within each folder; with `recursive` those of its folders, too.

        Raises HubError 404 EntryNotFound if it is no folder.
        """
        sha = self._root
        if folder:
            mode, sha = self._find(folder) or (0, b"")
            if not stat.S_ISDIR(mode):
                raise entry_not_found(f"{folder} does not exist on {self.commit.decode()!r}", self.commit.decode())
        yield from self._walk(sha, f"{folder}/" if folder else "", recursive)

    def get(self, path: str) -> Entry | None:
        """The file or folder of that path, None if there is none."""
        item = self._find(path)
        return self._entry(path, *item) if item else None

    def read(self, path: str) -> bytes | None:
        """The content of a file as git has it (of a large file the pointer), None if there is no file of that path."""
        mode, sha = self._find(path) or (0, b"")
        return self._repo.read_blob(sha) if stat.S_ISREG(mode) else None

    def _find(self, path: str) -> tuple[int, bytes] | None:
        """Mode and id of a file or folder."""
        mode, sha = _FOLDER, self._root
        for part in path.split("/"):
            if not stat.S_ISDIR(mode):
                return None
            tree: Any = self._repo.objects[sha]
            try:
                mode, sha = tree[part.encode("utf-8", "replace")]
            except KeyError:
                return None
        return mode, sha

    def _walk(self, sha: bytes, prefix: str, recursive: bool) -> Iterator[Entry]:
        tree = self._repo.objects[sha]
        assert isinstance(tree, Tree)
        for item in tree.iteritems(name_order=True):
            path = prefix + item.path.decode("utf-8", "replace")
            yield self._entry(path, item.mode, item.sha)
            if recursive and stat.S_ISDIR(item.mode):
                yield from self._walk(item.sha, f"{path}/", recursive)

    def _entry(self, path: str, mode: int, sha: bytes) -> Entry:
        if stat.S_ISDIR(mode):
            return Entry(path, sha.decode(), folder=True)
        size, pointer = _measure(self._repo, sha)
        return Entry(path, sha.decode(), size=pointer.size if pointer else size, lfs=pointer)


# Blob id -> (its size in bytes, its pointer). A blob never changes, so the cache needs no repository and no expiry.
_measured: dict[bytes, tuple[int, Pointer | None]] = {}


def _measure(repo: Repository, sha: bytes) -> tuple[int, Pointer | None]:
    measured = _measured.get(sha)
    if measured is None:
        data = repo.read_blob(sha)
        if len(_measured) >= 200_000:
            _measured.clear()
        measured = _measured[sha] = (len(data), parse_pointer(data))
    return measured


def pointers(repo: Repository, tree: bytes, visited: set[bytes]) -> Iterator[Pointer]:
    """The large files below a tree. Leaves out the trees in `visited`, and adds each tree to it."""
    if tree in visited:
        return
    visited.add(tree)
    for item in repo.objects[tree].iteritems():
        if stat.S_ISDIR(item.mode):
            yield from pointers(repo, item.sha, visited)
        elif (pointer := _measure(repo, item.sha)[1]) is not None:
            yield pointer


class TreeEdit:
    """A tree that is being edited. A folder is read when a path leads through it, and written only if it changed."""

    def __init__(self, batch: ObjectBatch, sha: bytes | None) -> None:
        self._batch = batch
        self._sha = sha
        self._items: dict[bytes, tuple[int, bytes] | TreeEdit] | None = None if sha else {}

    def put(self, path: str, blob: bytes) -> None:
        """Add or replace a file. Raises HubError 400 if a folder has the path, or a file the path of one of its folders."""
        folder, name = self._descend(path, create=True)
        if folder._is_folder(name):
            raise bad_request(f"{path!r} is a folder, it cannot become a file in the same commit")
        folder._changed_items()[name] = (_FILE, blob)

    def delete_file(self, path: str) -> None:
        """Delete a file. Raises HubError 404 EntryNotFound."""
        folder, name = self._descend(path)
        if name not in folder._load() or folder._is_folder(name):
            raise entry_not_found(f"A file with this name doesn't exist: {path}")
        del folder._changed_items()[name]

    def delete_folder(self, path: str) -> None:
        """Delete a folder with all files in it. Raises HubError 404 EntryNotFound."""
        folder, name = self._descend(path)
        if not folder._is_folder(name):
            raise entry_not_found(f"A folder with this name doesn't exist: {path}")
        del folder._changed_items()[name]

    def write(self) -> bytes:
        """Write the tree and return its id. Leaves out folders that became empty: git has no empty folders."""
        if self._sha is not None:
            return self._sha
        tree: Any = Tree()
        for name, item in self._load().items():
            if not isinstance(item, TreeEdit):
                tree[name] = item
            elif item._sha is not None or not item._empty():
                tree[name] = (_FOLDER, item.write())
        return self._batch.add(tree)

    def _empty(self) -> bool:
        return all(isinstance(item, TreeEdit) and item._sha is None and item._empty() for item in self._load().values())

    def _descend(self, path: str, *, create: bool = False) -> tuple[TreeEdit, bytes]:
        """The folder of the last segment of `path`, and that segment. Marks every folder on the way as changed."""
        folder: TreeEdit = self
        *folders, name = path.encode().split(b"/")
        for part in folders:
            item = folder._load().get(part)
            if item is None and create:
                item = TreeEdit(self._batch, None)
            elif isinstance(item, tuple) and stat.S_ISDIR(item[0]):
                item = TreeEdit(self._batch, item[1])
            elif isinstance(item, tuple) and create:
                raise bad_request(f"{part.decode()!r} in {path!r} is a file, it cannot hold another")
            if not isinstance(item, TreeEdit):
                raise entry_not_found(f"A file with this name doesn't exist: {path}")
            folder._changed_items()[part] = item
            folder = item
        return folder, name

    def _is_folder(self, name: bytes) -> bool:
        item = self._load().get(name)
        return isinstance(item, TreeEdit) or (item is not None and stat.S_ISDIR(item[0]))

    def _load(self) -> dict[bytes, tuple[int, bytes] | TreeEdit]:
        if self._items is None:
            assert self._sha is not None
            self._items = {item.path: (item.mode, item.sha) for item in self._batch.tree(self._sha).iteritems()}
        return self._items

    def _changed_items(self) -> dict[bytes, tuple[int, bytes] | TreeEdit]:
        """The items, to be changed: marks the tree as changed."""
        items = self._load()
        self._sha = None
        return items
