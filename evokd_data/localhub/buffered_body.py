"""A request body, in memory while it is small and otherwise in a file of the root's tmp folder."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from evokd_data.localhub.errors import HubError, disk_full
from evokd_data.localhub.root import Root

IN_MEMORY = 1024 * 1024
CHECK_SPACE_EVERY = 16 * 1024 * 1024
"""Bytes between two looks at the disk: other writers fill it, too, and a body may not say how long it is."""


class BufferedBody:
    """Is written chunk by chunk, then read any number of times. `size` counts the bytes that were written.

    `limit`: the bytes it may have. `on_disk`: in a file from the first byte on, whatever its size.
    """

    def __init__(self, root: Root, limit: int, *, on_disk: bool = False) -> None:
        self._root = root
        self._limit = limit
        self._on_disk = on_disk
        self._memory = io.BytesIO()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._hash = hashlib.sha256()
        self.size = self._checked_at = 0

    @property
    def sha256(self) -> str:
        """The digest of the bytes that were written."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append a chunk. Raises HubError 413 beyond the limit, 507 when the disk is full."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise HubError(413, f"The request is larger than {self._limit} bytes")
        self._hash.update(chunk)
        if self._file is None and (self._on_disk or self.size > IN_MEMORY):
            self._root.require_space(self.size)
            fd, name = tempfile.mkstemp(dir=self._root.tmp, prefix="body-")
            self._file, self._path = os.fdopen(fd, "w+b"), Path(name)
            self._file.write(self._memory.getbuffer())
            self._memory = io.BytesIO()
        try:
            if self._file is not None and self.size - self._checked_at > CHECK_SPACE_EVERY:
                self._checked_at = self.size
                self._root.require_space(0)
            (self._file or self._memory).write(chunk)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise disk_full() from None

    def read(self) -> bytes:
        """All bytes."""
        with self.open() as body:
            return body.read()

    def open(self) -> BinaryIO:
        """A reader of its own, at the first byte."""
        if self._file is None:
            return io.BytesIO(self._memory.getvalue())
        self._file.flush()
        assert self._path is not None
        return self._path.open("rb")

    def take_file(self) -> Path:
        """The synced file; the caller owns it from now on. Only for bodies made with `on_disk`."""
        if self._file is None:
            self._on_disk = True
            self.write(b"")
        assert self._file is not None and self._path is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path, self._path = self._path, None
        return path

    def close(self) -> None:
        """Remove the file, unless it was taken."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
