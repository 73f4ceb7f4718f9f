"""The folder of a Hub, and how anything in it is written so that a crash leaves the old or the new.

repos/{datasets,models}/{ns}/{name}.git   bare repositories, each with hub.json and lfs-known/
lfs/aa/bb/{sha256}                        immutable content, shared by all repositories
xorbs/                                    staging of Xet uploads, deletable
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
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.limits import DEFAULT
from evokd_data.localhub.names import RepoId


@dataclass(frozen=True)
class Root:
    path: Path

    @property
    def repos(self) -> Path:
        return self.path / "repos"

    @property
    def lfs(self) -> Path:
        return self.path / "lfs"

    @property
    def xorbs(self) -> Path:
        return self.path / "xorbs"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens.json"

    def prepare(self) -> Root:
        """Create what is missing; private to the user who runs the server."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.repos, self.lfs, self.xorbs, self.tmp, self.path / "locks"):
            folder.mkdir(exist_ok=True, mode=0o700)
        return self

    def secret(self) -> bytes:
        """The key that signs upload and download links; all servers of this root share it."""
        path = self.path / "secret"
        if not path.exists():
            # link() rather than rename: of two servers starting at once, both must end with the first one's key.
            candidate = write_private(self.tmp, secrets.token_bytes(32))
            with suppress(FileExistsError):
                os.link(candidate, path)
            candidate.unlink()
        return path.read_bytes()

    def require_space(self, size: int) -> None:
        if shutil.disk_usage(self.path).free < size + DEFAULT.free_disk:
            raise HubError(507, "The Hub's disk is full: run `evokd-data hub gc` or free some space")

    @contextmanager
    def lock(self, name: str, *, shared: bool = False, wait_s: float = DEFAULT.lock_wait_s) -> Iterator[None]:
        """Hold the lock `name` against all other threads and processes of this machine.

        The kernel drops it with the process that holds it, so a kill leaves no lock behind.
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
        return f"{repo.kind}--{repo.namespace}--{repo.name}"  # unambiguous: names hold no "--"


def write_durably(root: Root, target: Path, data: bytes) -> None:
    """Replace `target` at once and for good."""
    move_into_place(write_private(root.tmp, data), target)
