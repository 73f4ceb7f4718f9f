"""Git LFS pointer files: the few lines of text that a git tree has in place of a large file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evokd_data.localhub.names import SHA256

MAX_POINTER = 1024
_VERSION = b"version https://git-lfs.github.com/spec/v1\n"
_FIELDS = re.compile(rb"^oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})$", re.MULTILINE)


@dataclass(frozen=True)
class Pointer:
    """Names a large file: `oid` is the sha256 of its content, `size` the number of its bytes."""

    oid: str
    size: int

    def encode(self) -> bytes:
        """The pointer file."""
        assert SHA256.fullmatch(self.oid)
        return _VERSION + f"oid sha256:{self.oid}\nsize {self.size}\n".encode()


def parse_pointer(blob: bytes) -> Pointer | None:
    """The pointer that a file holds, or None if the file is no pointer."""
    if len(blob) > MAX_POINTER or not blob.startswith(_VERSION):
        return None
    match = _FIELDS.search(blob)
    return Pointer(match[1].decode(), int(match[2])) if match else None
