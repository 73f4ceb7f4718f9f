"""The folder of a Hub. Everything in it is written so that a crash leaves either the old content or the new one.

repos/{datasets,models}/{ns}/{name}.git   bare repositories, each with hub.json and lfs-known/
lfs/aa/bb/{sha256}                        immutable content, shared by all repositories
xorbs/                                    staging of Xet uploads, can be deleted
tmp/  locks/  secret  tokens.json
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from evokd_data.atomic_files import move_into_place, write_private
from evokd_data.localhub.errors import HubError, disk_full
from evokd_data.localhub.limits import DEFAULT
from evokd_data.localhub.names import RepoId


@dataclass(frozen=True)
class Root:
    """The folder `path`, its parts and its locks."""

    path: Path

    @property
    def repos(self) -> Path:
        """Bare repositories, by kind and namespace."""
        return self.path / "repos"

    @property
    def lfs(self) -> Path:
        """Large files, by sha256."""
        return self.path / "lfs"

    @property
    def xorbs(self) -> Path:
        """Staged Xet uploads, by CAS address."""
        return self.path / "xorbs"

    @property
    def tmp(self) -> Path:
        """Files that are being written, on the same filesystem as their targets."""
        return self.path / "tmp"

    @property
    def tokens(self) -> Path:
        """The file of token hashes; see `auth`."""
        return self.path / "tokens.json"

    def prepare(self) -> Root:
        """Create the missing folders, readable by the owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.repos, self.lfs, self.xorbs, self.tmp, self.path / "locks"):
            folder.mkdir(exist_ok=True, mode=0o700)
        return self

    def secret(self) -> bytes:
        """The key that signs upload and download links, 32 random bytes. All servers of this root share it."""
        path = self.path / "secret"
        if not path.exists():
            # link() rather than rename: when two servers start at once, both must end with the key of the first.
            candidate = write_private(self.tmp, secrets.token_bytes(32))
            with suppress(FileExistsError):
                os.link(candidate, path)
            candidate.unlink()
        return path.read_bytes()

    def require_space(self, size: int) -> None:
        """Raise HubError 507 unless `size` bytes fit on the disk and `Limits.free_disk` more stay free."""
        if shutil.disk_usage(self.path).free < size + DEFAULT.free_disk:
            raise disk_full()

    @contextmanager
    def lock(self, name: str, *, shared: bool = False, wait_s: float = DEFAULT.lock_wait_s) -> Iterator[None]:
        """Hold the lock `name` against all other threads and processes of this machine; `shared` with other sharers.

        The kernel releases the lock when the process ends, so that a killed process leaves no lock behind. Raises HubError
        503 after `wait_s` seconds.
        """
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + wait_s
        with (self.path / "locks" / f"{name}.lock").open("ab") as handle:
            pause = 0.001
            while True:
                try:
                    fcntl.flock(handle, mode | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        message = f"busy: {name} is being written by another request"
                        raise HubError(503, message, headers={"Retry-After": "2"}) from None
                    time.sleep(pause)
                    pause = min(pause * 2, 0.02)
            yield

    def repo_lock(self, repo: RepoId) -> str:
        """The name of a repository's lock."""
        return f"{repo.kind}--{repo.namespace}--{repo.name}"  # unambiguous: names hold no "--"


def write_durably(root: Root, target: Path, data: bytes) -> None:
    """Replace the content of `target` as a whole, and return when it is on disk."""
    move_into_place(write_private(root.tmp, data), target)
