"""Large files by their sha256, and the LFS batch API that moves them in and out."""

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
_LINK_TTL_S = 6 * 3600  # a slow line may need hours for one object


class LfsStore:
    """Content under its own name: written whole or not at all, never changed."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def path(self, oid: str) -> Path:
        return self._root.lfs / oid[:2] / oid[2:4] / oid

    def size(self, oid: str) -> int | None:
        try:
            return self.path(oid).stat().st_size
        except FileNotFoundError:
            return None

    def touch(self, oid: str) -> None:
        """Start the grace period anew: somebody is about to commit this."""
        os.utime(self.path(oid))

    def adopt(self, synced: Path, oid: str) -> None:
        """Take over a file that is already on disk and whose sha256 the caller has verified."""
        synced.chmod(0o600)
        move_into_place(synced, self.path(oid))

    def incoming(self) -> Incoming:
        return Incoming(self, self._root)


class Incoming:
    """A large file being put together here; nothing of it remains unless `finish` succeeds."""

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
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self, oid: str) -> None:
        if self._hash.hexdigest() != oid:
            raise bad_request(f"content has sha256 {self._hash.hexdigest()}, announced was {oid}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._store.adopt(self._path, oid)


def batch(
    request: dict[str, Any], repo: Repository, lfs: LfsStore, signer: Signer, endpoint: str, limits: Limits
) -> dict[str, Any]:
    """Answer an LFS batch call. No `actions` for an object means that this repository has it already."""
    operation, wanted = request.get("operation"), request.get("objects")
    if operation not in ("upload", "download") or not isinstance(wanted, list):
        raise HubError(422, "an LFS batch needs an operation, upload or download, and objects")
    if len(wanted) > limits.lfs_batch:
        raise HubError(413, f"at most {limits.lfs_batch} objects per batch")
    if request.get("hash_algo", "sha256") != "sha256":
        raise HubError(409, "only sha256 objects are stored here")
    rows = []
    for each in wanted:
        oid, size = (each.get("oid"), each.get("size")) if isinstance(each, dict) else (None, None)
        row: dict[str, Any] = {"oid": oid, "size": size}
        rows.append(row)
        if not isinstance(oid, str) or not SHA256.fullmatch(oid) or not isinstance(size, int) or size < 0:
            row["error"] = {"code": 422, "message": "an object needs a sha256 oid and a size in bytes"}
        elif size > limits.lfs_object:
            row["error"] = {"code": 413, "message": f"an object may have at most {limits.lfs_object} bytes"}
        elif (have := lfs.size(oid) if repo.knows(oid) else None) is not None:
            if operation == "upload":
                lfs.touch(oid)
            else:
                row.update(_link(signer, DOWNLOAD, repo, endpoint, oid, have))
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
