"""The store of large files by sha256, and the LFS batch API that names the links to upload and download them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import move_into_place
from evokd_data.localhub.errors import HubError, bad_request
from evokd_data.localhub.limits import Limits
from evokd_data.localhub.names import SHA256
from evokd_data.localhub.root import Root
from evokd_data.localhub.signing import Signer
from evokd_data.localhub.store import Repository

UPLOAD, DOWNLOAD = "lfs-upload", "lfs-download"
_LINK_TTL_S = 6 * 3600  # a slow connection may need hours for one object


class LfsStore:
    """Large files, each named by the sha256 of its content. A file is written whole or not at all and never changes."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def path(self, oid: str) -> Path:
        """The file of the object, present or not."""
        return self._root.lfs / oid[:2] / oid[2:4] / oid

    def size(self, oid: str) -> int | None:
        """The bytes of the object, None if it is not here."""
        try:
            return self.path(oid).stat().st_size
        except FileNotFoundError:
            return None

    def touch(self, oid: str) -> None:
        """Start the grace period of `gc` anew, because somebody is about to commit this object."""
        os.utime(self.path(oid))

    def adopt(self, synced: Path, oid: str) -> None:
        """Move a file into the store. It is synced, and the caller has verified its sha256."""
        synced.chmod(0o600)
        move_into_place(synced, self.path(oid))

    def incoming(self) -> Incoming:
        """A new large file; use it in a `with` block."""
        return Incoming(self, self._root)


class Incoming:
    """A large file that is assembled here. Nothing of it remains unless `finish` succeeds."""

    def __init__(self, store: LfsStore, root: Root) -> None:
        self._store = store
        fd, name = tempfile.mkstemp(dir=root.tmp, prefix="lfs-")
        self._file, self._path = os.fdopen(fd, "wb", buffering=1 << 20), Path(name)
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self, oid: str) -> None:
        """Move the file into the store. Raises HubError 400 if its sha256 is not `oid`."""
        if self._hash.hexdigest() != oid:
            raise bad_request(f"content has sha256 {self._hash.hexdigest()}, not {oid} as announced")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._store.adopt(self._path, oid)


def answer_batch(
    request: dict[str, Any], repo: Repository, lfs: LfsStore, signer: Signer, endpoint: str, limits: Limits
) -> dict[str, Any]:
    """The answer to an LFS batch call. An object without `actions` is one that this repository has already.

    Raises HubError 422, 413 or 409 for a request that cannot be answered at all.
    """
    operation, objects = request.get("operation"), request.get("objects")
    if operation not in ("upload", "download") or not isinstance(objects, list):
        raise HubError(422, "an LFS batch needs an operation, upload or download, and objects")
    if len(objects) > limits.lfs_batch:
        raise HubError(413, f"at most {limits.lfs_batch} objects per batch")
    if request.get("hash_algo", "sha256") != "sha256":
        raise HubError(409, "only sha256 objects are stored here")
    rows = []
    for item in objects:
        oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
        row: dict[str, Any] = {"oid": oid, "size": size}
        rows.append(row)
        if not isinstance(oid, str) or not SHA256.fullmatch(oid) or not isinstance(size, int) or size < 0:
            row["error"] = {"code": 422, "message": "an object needs a sha256 oid and a size in bytes"}
        elif size > limits.lfs_object:
            row["error"] = {"code": 413, "message": f"an object may have at most {limits.lfs_object} bytes"}
        elif (stored_size := lfs.size(oid) if repo.has_large_file(oid) else None) is not None:
            if operation == "upload":
                lfs.touch(oid)
            else:
                row.update(_link(signer, DOWNLOAD, repo, endpoint, oid, stored_size))
        elif operation == "upload":
            row.update(_link(signer, UPLOAD, repo, endpoint, oid, size))
        else:
            row["error"] = {"code": 404, "message": "this repository has no such object"}
    return {"transfer": "basic", "objects": rows, "hash_algo": "sha256"}


def _link(signer: Signer, purpose: str, repo: Repository, endpoint: str, oid: str, size: int) -> dict[str, Any]:
    claim = {"oid": oid, "size": size, "kind": repo.id.kind, "ns": repo.id.namespace, "name": repo.id.name}
    signed = signer.sign(purpose, claim, _LINK_TTL_S)
    if purpose == DOWNLOAD:
        actions = {"download": {"href": f"{endpoint}/_lfs/{oid}?claim={signed}", "expires_in": _LINK_TTL_S}}
    else:
        actions = {
            "upload": {"href": f"{endpoint}/_lfs/{oid}?claim={signed}", "expires_in": _LINK_TTL_S},
            "verify": {"href": f"{endpoint}/_lfs/{oid}/verify?claim={signed}", "expires_in": _LINK_TTL_S},
        }
    return {"authenticated": True, "actions": actions}
