"""Commits: each POST to `/commit` makes one git commit and moves the branch by one compare-and-swap.

The body is lines of JSON: first a header, then one operation a line. Large files were uploaded before; the commit only names
them. The body is read and checked, and its large blobs are written, before the repository's lock is taken. The lock covers
the small blobs, the trees on the changed paths, the commit, and the move of the branch.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from dulwich.objects import Blob

from evokd_data.localhub.card import read_card
from evokd_data.localhub.errors import HubError, bad_request, revision_not_found
from evokd_data.localhub.lfs import LfsStore
from evokd_data.localhub.limits import Limits
from evokd_data.localhub.names import SHA256, RepoId, check_path
from evokd_data.localhub.pointers import Pointer, parse_pointer
from evokd_data.localhub.store import HEADS, ObjectBatch, Repository, Store, new_commit
from evokd_data.localhub.trees import TreeEdit

PULLS = b"refs/pr/"


@dataclass
class CommitRequest:
    """The commit that a client asks for.

    `operations` are (key of the operation, path, blob id or None for a deletion) in the order of the body. `large` are the
    large files that it names, by path. `parent` is at least 7 first digits of the commit that the branch must be at.
    """

    summary: str
    description: str
    parent: str | None
    operations: list[tuple[str, str, bytes | None]] = field(default_factory=list)
    large: list[tuple[str, Pointer]] = field(default_factory=list)

    @property
    def message(self) -> bytes:
        """The commit message in UTF-8."""
        text = f"{self.summary}\n\n{self.description}" if self.description else self.summary
        return text.encode("utf-8", "replace")


@dataclass(frozen=True)
class CommitResult:
    """The id of the new commit. `pull` is the number of the pull request, if the client asked for one."""

    commit: str
    pull: int | None = None


def commit(
    store: Store,
    lfs: LfsStore,
    repo_id: RepoId,
    branch: str,
    body: BinaryIO,
    author: bytes,
    limits: Limits,
    *,
    pull: bool,
) -> CommitResult:
    """Make the commit that `body` describes, on the branch or, with `pull`, on a new pull request.

    Raises HubError: 412 if the branch is not at the header's `parentCommit`, 409 if another commit came first, 413 for a
    body beyond the limits, 404 for a branch or a file to delete that is not there, 400 for everything else in the body.
    """
    with store.open(repo_id) as repo:
        batch = ObjectBatch(repo)
        request = _RequestReader(repo, lfs, batch, limits).read(body)
    # gc takes this lock exclusively: a large file that is present now stays until the branch names it.
    with store.root.lock("gc", shared=True), store.writing(repo_id) as repo:
        for path, pointer in request.large:
            _check_large_file(repo, lfs, pointer.oid, pointer.size, path)
        ref = _branch_ref(repo, branch)
        head = repo.refs[ref]
        if request.parent and not head.decode().startswith(request.parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        batch.repo = repo
        tree = TreeEdit(batch, repo.commit(head).tree)
        for verb, path, blob in request.operations:
            if blob is not None:
                tree.put(path, blob)
            elif verb == "deletedFile":
                tree.delete_file(path)
            else:
                tree.delete_folder(path)
        new = new_commit(tree.write(), [head], author, request.message)
        batch.add(new)
        batch.flush()
        if pull:
            number = 1 + max((int(name) for name in repo.names(PULLS) if name.isdigit()), default=0)
            repo.set_ref(PULLS + str(number).encode(), None, new.id)
            return CommitResult(new.id.decode(), number)
        if not repo.set_ref(ref, head, new.id):
            raise HubError(409, "Another commit happened at the same time. Please retry.")
    return CommitResult(new.id.decode())


def _branch_ref(repo: Repository, branch: str) -> bytes:
    name = branch.encode("utf-8", "replace")
    for ref in (HEADS + name, name if name.startswith(PULLS) else None):
        if ref is not None and ref in repo.refs:
            return ref
    try:
        repo.resolve(branch)
    except HubError:
        raise revision_not_found(branch) from None
    raise bad_request(f"{branch!r} is not a branch: commits go to branches only")


def _check_large_file(repo: Repository, lfs: LfsStore, oid: str, size: int | None, path: str) -> int:
    """The bytes of the large file `oid`. Raises HubError 400 unless it belongs to the repository and has `size` bytes."""
    stored_size = lfs.size(oid) if repo.has_large_file(oid) else None
    if stored_size is None:
        raise bad_request(f"{path}: LFS object {oid} was never uploaded to this repository")
    if size is not None and size != stored_size:
        raise bad_request(f"{path}: LFS object {oid} has {stored_size} bytes, not {size}")
    return stored_size


@dataclass
class _RequestReader:
    """Reads the body of a commit and puts its blobs into `batch`."""

    repo: Repository
    lfs: LfsStore
    batch: ObjectBatch
    limits: Limits

    def read(self, body: BinaryIO) -> CommitRequest:
        """The request. Raises HubError 400 or 413."""
        lines = _lines(body, self.limits)
        key, value = next(lines, ("", {}))
        if key != "header":
            raise bad_request("the first line of a commit must be its header")
        parent = value.get("parentCommit")
        if parent is not None and (not isinstance(parent, str) or len(parent) < 7 or not _is_hex(parent)):
            raise bad_request("parentCommit must be at least 7 hex digits of a commit id")
        request = CommitRequest(_text(value, "summary"), _text(value, "description"), parent)
        if not request.summary.strip():
            raise bad_request("a commit needs a summary")
        for key, value in lines:
            if key == "header":
                raise bad_request("a commit has one header")
            path = value.get("path", "")
            path = check_path(path.rstrip("/") if key == "deletedFolder" else path)
            request.operations.append((key, path, self._blob(key, value, path, request)))
            if len(request.operations) > self.limits.commit_operations:
                raise HubError(413, f"a commit may have at most {self.limits.commit_operations} operations")
        return request

    def _blob(self, key: str, value: dict[str, Any], path: str, request: CommitRequest) -> bytes | None:
        if key in ("deletedFile", "deletedFolder"):
            return None
        if key == "file":
            data = _content(value, path)
            pointer = parse_pointer(data)  # a file whose text is a pointer names a large file, too
            if path == "README.md":
                _, problem = read_card(data.decode("utf-8", "replace"))
                if problem:
                    raise bad_request(problem)
        elif key == "lfsFile":
            oid, size = value.get("oid"), value.get("size")
            if value.get("algo", "sha256") != "sha256" or not isinstance(oid, str) or not SHA256.fullmatch(oid):
                raise bad_request(f"{path}: lfsFile needs a sha256 oid")
            if size is not None and (not isinstance(size, int) or size < 0):
                raise bad_request(f"{path}: size must be a number of bytes")
            # The copy of a file of this repository comes without a size.
            pointer = Pointer(oid, _check_large_file(self.repo, self.lfs, oid, size, path))
            data = pointer.encode()
        else:
            raise bad_request(f"unknown commit operation {key[:40]!r}")
        if pointer is not None:
            _check_large_file(self.repo, self.lfs, pointer.oid, pointer.size, path)
            request.large.append((path, pointer))
        return self.batch.add(Blob.from_string(data))


def _content(value: dict[str, Any], path: str) -> bytes:
    content = value.get("content")
    if not isinstance(content, str):
        raise bad_request(f"{path}: content must be text")
    if value.get("encoding", "utf-8") != "base64":
        return content.encode("utf-8", "replace")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise bad_request(f"{path}: content is not base64: {exc}") from None


def _lines(body: BinaryIO, limits: Limits) -> Iterator[tuple[str, dict[str, Any]]]:
    """The key and the value of each line."""
    while line := body.readline(limits.commit_line + 1):
        if len(line) > limits.commit_line:
            raise HubError(
                413, f"a line of a commit may have at most {limits.commit_line} bytes; send large files as LFS"
            )
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key, value = row["key"], row["value"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise bad_request('each line of a commit must be JSON: {"key": ..., "value": {...}}') from None
        if not isinstance(key, str) or not isinstance(value, dict) or not isinstance(value.get("path", ""), str):
            raise bad_request(f"malformed commit operation {str(key)[:40]!r}")
        yield key, value


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key) or ""
    if not isinstance(text, str) or len(text) > 65536:
        raise bad_request(f"{key} must be text of at most 65536 characters")
    return text


def _is_hex(text: str) -> bool:
    return len(text) <= 40 and all(c in "0123456789abcdef" for c in text)
