"""Scratch folders in the system's temporary folder, which the next process removes when this one is killed.

A process holds a lock in each of its folders. The system lets go of it when the process ends, however that ends, so a folder whose lock
is free belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "evokd-scratch-"
LOCK, DRAFT = ".lock", ".lock.draft"
UNNAMED_S = 60.0
"""A folder has its lock after microseconds. One that has none after so long is that of a process that was killed meanwhile."""


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """An empty folder of this user's alone, removed at the end of the block. `purpose` is a part of its name."""
    remove_abandoned()
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
    try:
        # Whoever sees the lock finds it locked: it gets its name when it is. Else another process could take it first.
        with _locked(root / DRAFT):
            (root / DRAFT).rename(root / LOCK)
            content = root / "content"
            content.mkdir()
            yield content
    finally:
        shutil.rmtree(root, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the scratch folders of processes of this user that were killed."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Who follows a link would remove what another user chose. A folder without a lock has just been made, unless it is old.
        with suppress(OSError):
            if not root.is_symlink() and root.stat().st_uid == os.getuid():
                if not (root / LOCK).is_file() and time.time() - root.stat().st_mtime < UNNAMED_S:
                    continue
                with _locked(root / LOCK):
                    shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Raises BlockingIOError when another process, or another folder of this one, holds the lock."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
