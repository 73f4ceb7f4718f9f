"""Git trees, read as the Hub lists them and edited along the touched paths only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dulwich.objects import Tree

from evokd_data.localhub.errors import bad_request, entry_not_found
from evokd_data.localhub.pointers import Pointer, parse_pointer
from evokd_data.localhub.store import Batch, Repository

_FILE, _FOLDER = 0o100644, 0o040000


@dataclass(frozen=True)
class Entry:
    """A file or folder at one commit. `oid` is git's; `size` is that of the content, also for large files."""

    path: str
    oid: str
    folder: bool = False
    size: int = 0
    lfs: Pointer | None = None

    @property
    def etag(self) -> str:
        """Identifies the content: clients name their cached copy by it."""
        return self.lfs.oid if self.lfs else self.oid

    def as_json(self) -> dict[str, Any]:
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
        """What is in `folder`, in path order within each folder. Raises EntryNotFound if it is no folder."""
        sha = self._root
        if folder:
            found = self._find(folder)
            if found is None or not stat.S_ISDIR(found[0]):
                raise entry_not_found(f"{folder} does not exist on {self.commit.decode()!r}", self.commit.decode())
            sha = found[1]
        yield from self._walk(sha, f"{folder}/" if folder else "", recursive)

    def get(self, path: str) -> Entry | None:
        found = self._find(path)
        return self._entry(path, *found) if found else None

    def read(self, path: str) -> bytes | None:
        """A small regular file's bytes, None if there is none of that path."""
        found = self._find(path)
        return self._repo.read_blob(found[1]) if found and stat.S_ISREG(found[0]) else None

    def _find(self, path: str) -> tuple[int, bytes] | None:
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


# Blob id -> (its bytes, its pointer). An id means one content for ever, so the cache needs no repository and no expiry.
_measured: dict[bytes, tuple[int, Pointer | None]] = {}


def _measure(repo: Repository, sha: bytes) -> tuple[int, Pointer | None]:
    known = _measured.get(sha)
    if known is None:
        data = repo.read_blob(sha)
        if len(_measured) >= 200_000:
            _measured.clear()
        known = _measured[sha] = (len(data), parse_pointer(data))
    return known


def pointers(repo: Repository, tree: bytes, seen: set[bytes]) -> Iterator[Pointer]:
    """The large files below a tree, leaving out the folders in `seen` and adding to it those visited."""
    if tree in seen:
        return
    seen.add(tree)
    for item in repo.objects[tree].iteritems():
        if stat.S_ISDIR(item.mode):
            yield from pointers(repo, item.sha, seen)
        elif (found := _measure(repo, item.sha)[1]) is not None:
            yield found


class TreeEdit:
    """A tree under change. Folders are read when a path leads through them and written only if it changed them."""

    def __init__(self, batch: Batch, sha: bytes | None) -> None:
        self._batch = batch
        self._sha = sha
        self._items: dict[bytes, tuple[int, bytes] | TreeEdit] | None = None if sha else {}

    def put(self, path: str, blob: bytes) -> None:
        folder, name = self._descend(path, create=True)
        if folder._is_folder(name):
            raise bad_request(f"{path!r} is a folder, it cannot become a file in the same commit")
        folder._own()[name] = (_FILE, blob)

    def delete_file(self, path: str) -> None:
        folder, name = self._descend(path)
        if name not in folder._load() or folder._is_folder(name):
            raise entry_not_found(f"A file with this name doesn't exist: {path}")
        del folder._own()[name]

    def delete_folder(self, path: str) -> None:
        folder, name = self._descend(path)
        if not folder._is_folder(name):
            raise entry_not_found(f"A folder with this name doesn't exist: {path}")
        del folder._own()[name]

    def write(self) -> bytes:
        """The id of the tree; folders that became empty are left out, as git has none."""
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
        """The folder that holds the last segment of `path`, every folder on the way marked as changed."""
        here: TreeEdit = self
        *folders, name = path.encode().split(b"/")
        for part in folders:
            item = here._load().get(part)
            if item is None and create:
                item = TreeEdit(self._batch, None)
            elif isinstance(item, tuple) and stat.S_ISDIR(item[0]):
                item = TreeEdit(self._batch, item[1])
            elif isinstance(item, tuple) and create:
                raise bad_request(f"{part.decode()!r} in {path!r} is a file, it cannot hold another")
            if not isinstance(item, TreeEdit):
                raise entry_not_found(f"A file with this name doesn't exist: {path}")
            here._own()[part] = item
            here = item
        return here, name

    def _is_folder(self, name: bytes) -> bool:
        item = self._load().get(name)
        return isinstance(item, TreeEdit) or (item is not None and stat.S_ISDIR(item[0]))

    def _load(self) -> dict[bytes, tuple[int, bytes] | TreeEdit]:
        if self._items is None:
            assert self._sha is not None
            self._items = {item.path: (item.mode, item.sha) for item in self._batch.tree(self._sha).iteritems()}
        return self._items

    def _own(self) -> dict[bytes, tuple[int, bytes] | TreeEdit]:
        items = self._load()
        self._sha = None
        return items
