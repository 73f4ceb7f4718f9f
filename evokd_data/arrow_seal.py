"""A checksum inside an Arrow IPC file: a letter that changes on the disk is seen when the file is read again.

The checksum is an entry of the schema's metadata. The format holds the schema twice, in front of the rows and in the footer
behind them. It is the XXH3 (128 bits) of the file with zeros in both places, so it covers every byte and lies in the same file: there is
no moment at which one of the two is missing. Files of earlier versions have none.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from xxhash import xxh3_128

from evokd_data.errors import WorkspaceError

MAGIC = b"ARROW1"
KEY = "evokd.seal"
_PREFIX = b"xxh3-of-file:"
_LENGTH = 32
UNSEALED = (_PREFIX + b"0" * _LENGTH).decode()
"""The value under `KEY` in the schema of a file that is to be sealed."""


def seal(path: Path) -> None:
    """Write the checksum into a complete file whose schema has UNSEALED under KEY."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        places = _places(data)
        checksum = _checksum(data, places)
        for place in places:
            data[place : place + _LENGTH] = checksum.encode()


def check_seal(path: Path) -> bool:
    """Whether the file has a checksum. A file that agrees with its checksum is read once a process, and again when its time or size has
    changed.

    Raises WorkspaceError when the file differs from its checksum, OSError when it cannot be read.
    """
    stat = path.stat()
    state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    if _agreed.get(path) == state:
        return True
    if has_checksum := stat.st_size >= 32 and _agrees(path):
        if len(_agreed) >= REMEMBERED:
            _agreed.clear()
        _agreed[path] = state
    return has_checksum


REMEMBERED = 65536
_agreed: dict[Path, tuple[int, ...]] = {}
"""Files that agreed with their checksum, and their time, size and inode then. A file without a checksum is never among them: its end
may have been torn off, and what is read at another time may be another content."""


def _agrees(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[-len(MAGIC) :] != MAGIC:
            return False  # no whole Arrow file: whoever opens it says so
        places = _places(data)
        if not places:
            return False
        if len(places) != 2 or any(
            data[place : place + _LENGTH] != _checksum(data, places).encode() for place in places
        ):
            raise WorkspaceError(f"{path}: was altered since it was written: it differs from the checksum in it")
    return True


def _places(data: mmap.mmap) -> list[int]:
    """The offsets of the checksum in the schema in front and in the footer. The rows, which may hold any text, are not searched."""
    (front,) = struct.unpack_from("<i", data, 12)  # after the magic bytes and the mark of a message
    (footer,) = struct.unpack_from("<i", data, len(data) - 10)  # before the closing magic bytes
    end = len(data) - 10
    spans = ((16, 16 + front), (end - footer, end))
    offsets = [data.find(_PREFIX, max(0, start), min(stop, len(data))) for start, stop in spans]
    return [offset + len(_PREFIX) for offset in offsets if offset >= 0]


def _checksum(data: mmap.mmap, places: list[int]) -> str:
    checksum, start = xxh3_128(), 0
    with memoryview(data) as view:
        for place in places:
            with view[start:place] as part:
                checksum.update(part)
            checksum.update(b"0" * _LENGTH)
            start = place + _LENGTH
        with view[start:] as part:
            checksum.update(part)
    return checksum.hexdigest()
