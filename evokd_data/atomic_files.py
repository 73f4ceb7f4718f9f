"""Files and folders written whole or not at all: written beside their place, synced, then renamed.

A reader never meets half a file, and after a power cut a name stands for all of its content or is absent. Standard library
only: the local Hub uses this module, too.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRAFT = ".draft"
"""Ends the names of files and folders that are being written. One that a killed process left behind can be removed."""


_DISK_ERRORS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)
)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """An error of the disk inside the block names `path`: of a write that fails the system says only that the disk is full.

    Libraries written in Rust, such as safetensors, raise errors of their own, with the system's number in the message.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _system_error(str(error))
        if number in _DISK_ERRORS and getattr(error, "filename", None) is None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _system_error(message: str) -> int | None:
    match = re.search(r"\(os error (\d+)\)", message)
    return int(match[1]) if match else None


def write_json(path: Path, value: Any) -> None:
    """Indented UTF-8 JSON. Raises ValueError for NaN and infinities."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """UTF-8, with line ends as they are in `text`."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to. On leaving the block it is synced and renamed to `path`; on an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp: it makes files that colleagues cannot read, and the umask cannot be read without changing it.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}{DRAFT}")
    try:
        with naming_file(path):
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
        move_into_place(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: `path` appears complete or not at all. An unfinished one of an earlier try is removed."""
    draft = path.with_name(f".{path.name}{DRAFT}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        with naming_file(path):
            yield draft
            for file in draft.rglob("*"):
                if file.is_file():
                    with file.open("rb") as opened:  # a copied model's files may be read-only
                        os.fsync(opened.fileno())
        shutil.rmtree(path, ignore_errors=True)
        move_into_place(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, in place of the link that is there. A reader meets the old one or the new one.

    The link is relative, so that a folder which holds both can be moved.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    draft = link.with_name(f".{link.name}.{secrets.token_hex(8)}{DRAFT}")
    try:
        draft.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
        move_into_place(draft, link)
    finally:
        draft.unlink(missing_ok=True)


def write_private(folder: Path, data: bytes) -> Path:
    """A new file in `folder` with a name of its own, synced, readable by the owner alone."""
    descriptor, name = tempfile.mkstemp(dir=folder)
    with naming_file(Path(name)), os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def move_into_place(synced: Path, target: Path) -> None:
    """Rename a file or folder whose content is synced, and sync the new name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    synced.replace(target)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming_file(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
