"""One POST to `/commit`, one git commit, one compare-and-swap of the branch.

The body is lines of JSON: a header, then one operation each. Large files were uploaded before and are only named here.
The body is read, checked and its large blobs written first; the repository's lock covers the small blobs, the trees
along the touched paths, the commit and the move of the branch.
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
from evokd_data.localhub.store import HEADS, Batch, Repository, Store, new_commit
from evokd_data.localhub.trees import TreeEdit

PULLS = b"refs/pr/"


@dataclass
class Request:
    """A commit as asked for. `operations` are (verb, path, blob id or None) in the order they came."""

    summary: str
    description: str
    parent: str | None
    operations: list[tuple[str, str, bytes | None]] = field(default_factory=list)
    large: list[tuple[str, Pointer]] = field(default_factory=list)

    @property
    def message(self) -> bytes:
        text = f"{self.summary}\n\n{self.description}" if self.description else self.summary
        return text.encode("utf-8", "replace")


@dataclass(frozen=True)
class Done:
    """`pull` is the number of the pull request that was opened, if one was asked for."""

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
) -> Done:
    """Raises 412 if the branch is no longer at the header's `parentCommit`, 409 if another commit won meanwhile."""
    with store.open(repo_id) as repo:
        batch = Batch(repo)
        wanted = _Intake(repo, lfs, batch, limits).read(body)
    # gc holds this lock alone: what is found present below stays present until the branch names it.
    with store.root.lock("gc", shared=True), store.writing(repo_id) as repo:
        for path, pointer in wanted.large:
            _require(repo, lfs, pointer.oid, pointer.size, path)
        ref = _branch_ref(repo, branch)
        head = repo.refs[ref]
        if wanted.parent and not head.decode().startswith(wanted.parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        batch.repo = repo
        tree = TreeEdit(batch, repo.commit(head).tree)
        for verb, path, blob in wanted.operations:
            if blob is not None:
                tree.put(path, blob)
            elif verb == "deletedFile":
                tree.delete_file(path)
            else:
                tree.delete_folder(path)
        made = new_commit(tree.write(), [head], author, wanted.message)
        batch.add(made)
        batch.flush()
        if pull:
            number = 1 + max((int(name) for name in repo.names(PULLS) if name.isdigit()), default=0)
            repo.set_ref(PULLS + str(number).encode(), None, made.id)
            return Done(made.id.decode(), number)
        if not repo.set_ref(ref, head, made.id):
            raise HubError(409, "Another commit happened at the same time. Please retry.")
    return Done(made.id.decode())


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


def _require(repo: Repository, lfs: LfsStore, oid: str, size: int | None, path: str) -> int:
    """Bytes of the large file `oid`, which this repository must have been given."""
    have = lfs.size(oid) if repo.knows(oid) else None
    if have is None:
        raise bad_request(f"{path}: LFS object {oid} was never uploaded to this repository")
    if size is not None and size != have:
        raise bad_request(f"{path}: LFS object {oid} has {have} bytes, not {size}")
    return have


@dataclass
class _Intake:
    """Reads a commit's body and puts its blobs into `batch`."""

    repo: Repository
    lfs: LfsStore
    batch: Batch
    limits: Limits

    def read(self, body: BinaryIO) -> Request:
        lines = _lines(body, self.limits)
        key, value = next(lines, ("", {}))
        if key != "header":
            raise bad_request("the first line of a commit must be its header")
        parent = value.get("parentCommit")
        if parent is not None and (not isinstance(parent, str) or len(parent) < 7 or not _is_hex(parent)):
            raise bad_request("parentCommit must be at least 7 hex digits of a commit id")
        wanted = Request(_text(value, "summary"), _text(value, "description"), parent)
        if not wanted.summary.strip():
            raise bad_request("a commit needs a summary")
        for key, value in lines:
            if key == "header":
                raise bad_request("a commit has one header")
            path = value.get("path", "")
            path = check_path(path.rstrip("/") if key == "deletedFolder" else path)
            wanted.operations.append((key, path, self._blob(key, value, path, wanted)))
            if len(wanted.operations) > self.limits.commit_operations:
                raise HubError(413, f"a commit may have at most {self.limits.commit_operations} operations")
        return wanted

    def _blob(self, key: str, value: dict[str, Any], path: str, wanted: Request) -> bytes | None:
        if key in ("deletedFile", "deletedFolder"):
            return None
        if key == "file":
            data = _content(value, path)
            pointer = parse_pointer(data)  # a pointer sent as text points all the same
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
            # A copy inside the repository comes without a size.
            pointer = Pointer(oid, _require(self.repo, self.lfs, oid, size, path))
            data = pointer.encode()
        else:
            raise bad_request(f"unknown commit operation {key[:40]!r}")
        if pointer is not None:
            _require(self.repo, self.lfs, pointer.oid, pointer.size, path)
            wanted.large.append((path, pointer))
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
