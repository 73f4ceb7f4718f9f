"""Uploads by the Xet protocol: each file that hf_xet uploads becomes an ordinary large file under its sha256.

huggingface_hub from 1.20 on uploads through hf_xet whenever that is installed, and never falls back. A Hub that default
clients can write to must therefore take these calls. A client sends *xorbs* (runs of compressed chunks), then a *shard* that
lists the chunks of each file. On the shard, the server assembles the files, checks each sha256, and stores them. The formats
are those of xet-core's specification (spec/xorb.md, spec/shard.md). Downloads do not use Xet: no answer of this Hub carries
`X-Xet-Hash`, so clients download over plain HTTP.

hf_xet remembers for each CAS address which chunks it has sent. The address therefore contains a random instance id, which
changes whenever staged xorbs are removed. Otherwise clients would refer to chunks that were removed.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from evokd_data.atomic_files import move_into_place
from evokd_data.localhub.errors import bad_request
from evokd_data.localhub.lfs import Incoming, LfsStore
from evokd_data.localhub.limits import Limits
from evokd_data.localhub.root import Root, write_durably

WRITE = "xet-write"
TOKEN_TTL_S = 3600
_SHARD_MAGIC = bytes.fromhex("48465265706f4d6574614461746100556967456a7b815783a5bdd95ccdd14aa9")
_SHARD_VERSION = 2
_RECORD = 48  # bytes; every record of a shard
_LAST = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30
_NONE, _LZ4, _GROUPED_LZ4 = range(3)


class Staging:
    """Uploaded xorbs, in one folder per CAS address.

    An address is the instance id and a hash of the user, so that users cannot reach each other's xorbs.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._instance = root.xorbs / "instance"

    def address(self, user: str) -> str:
        """The CAS address of a user; the first call of a new Hub makes the instance id."""
        if not self._instance.exists():
            self.rotate()
        return f"{self._instance.read_text()}-{hashlib.sha256(user.encode()).hexdigest()[:12]}"

    def rotate(self) -> None:
        """Make a new instance id, so that clients send their chunks anew."""
        write_durably(self._root, self._instance, secrets.token_hex(8).encode())

    def path(self, address: str, xorb: str) -> Path:
        """The file of a xorb, present or not."""
        return self._root.xorbs / address / xorb[:2] / xorb

    def add(self, address: str, xorb: str, synced: Path) -> bool:
        """Store a xorb; False if it replaced one of that name, which may have been damaged."""
        target = self.path(address, xorb)
        fresh = not target.exists()
        move_into_place(synced, target)
        return fresh

    def collect(self, older_than_s: float) -> tuple[int, int]:
        """Remove the xorbs that no running upload can need. Returns how many files and bytes were removed."""
        horizon = time.time() - older_than_s
        current = self._instance.read_text() if self._instance.exists() else ""
        folders = [folder for folder in self._root.xorbs.iterdir() if folder.is_dir()]
        in_use = [folder for folder in folders if folder.name.startswith(f"{current}-")]
        if any(min(_file_times(folder), default=0.0) <= horizon for folder in in_use):
            self.rotate()  # running uploads finish at the old address, which a later call removes
            current = self._instance.read_text()
        files = size = 0
        for folder in folders:
            if not folder.name.startswith(f"{current}-") and max(_file_times(folder), default=0.0) <= horizon:
                for xorb in [path for path in folder.rglob("*") if path.is_file()]:
                    files, size = files + 1, size + xorb.stat().st_size
                    xorb.unlink()
                for inner in sorted(folder.rglob("*"), reverse=True):
                    inner.rmdir()
                folder.rmdir()
        return files, size


def _file_times(folder: Path) -> list[float]:
    return [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]


@dataclass
class XetFile:
    """A file of a shard: its sha256, and its terms in order (xorb, first chunk, chunk after the last, bytes)."""

    sha256: str
    terms: list[tuple[str, int, int, int]] = field(default_factory=list)


def store_files(body: BinaryIO, staging: Staging, address: str, lfs: LfsStore, limits: Limits) -> list[str]:
    """Assemble every file of a shard and put it into the LFS store. Returns the sha256 of each, in the shard's order.

    Raises HubError 400 for a shard that is malformed, or names missing chunks, or a sha256 that its chunks do not have.
    """
    index: dict[str, list[int]] = {}
    oids = []
    for file in read_shard(body, limits):
        if sum(term[3] for term in file.terms) > limits.lfs_object:
            raise bad_request(f"an object may have at most {limits.lfs_object} bytes")
        # Assembled even if the store has the file: the shard must prove that its sender has the content.
        with lfs.incoming() as incoming:
            for xorb, first, last, size in file.terms:
                _append(incoming, staging.path(address, xorb), xorb, first, last, size, index, limits)
            incoming.finish(file.sha256)
        oids.append(file.sha256)
    return oids


def _append(
    out: Incoming, path: Path, xorb: str, first: int, last: int, size: int, index: dict[str, list[int]], limits: Limits
) -> None:
    """Write chunks `first` to `last - 1` of a xorb. `index` collects the chunk offsets of each xorb that was read."""
    size_before = out.size
    try:
        with path.open("rb") as handle:
            offsets = index.get(xorb)
            if offsets is None:
                offsets = index[xorb] = _chunk_offsets(handle)
            if not first < last < len(offsets):
                raise bad_request(f"xorb {xorb} has {len(offsets) - 1} chunks, a term asks for [{first}, {last})")
            handle.seek(offsets[first])
            run = handle.read(offsets[last] - offsets[first])
    except FileNotFoundError:
        raise bad_request(f"unknown xorb {xorb}") from None
    for position in (offset - offsets[first] for offset in offsets[first:last]):
        out.write(_decode(run, position, limits))
    if out.size - size_before != size:
        raise bad_request(f"a term of xorb {xorb} has {out.size - size_before} bytes, not {size} as announced")


def _chunk_offsets(xorb: BinaryIO) -> list[int]:
    """The offset of each chunk, and of the end of the last one. A chunk starts with version 0; a footer does not."""
    data = xorb.read()
    offsets, position = [0], 0
    while position + 8 <= len(data) and data[position] == 0:
        position += 8 + int.from_bytes(data[position + 1 : position + 4], "little")
        if position > len(data):
            raise bad_request("truncated xorb")
        offsets.append(position)
    return offsets


def _decode(run: bytes, position: int, limits: Limits) -> bytes:
    """Unpack one chunk: version (1 byte), packed size (3), scheme (1), size (3), packed bytes."""
    import lz4.frame

    packed_size = int.from_bytes(run[position + 1 : position + 4], "little")
    scheme = run[position + 4]
    size = int.from_bytes(run[position + 5 : position + 8], "little")
    if size > limits.xet_chunk:
        raise bad_request(f"a chunk may have at most {limits.xet_chunk} bytes")
    packed = run[position + 8 : position + 8 + packed_size]
    if scheme == _NONE:
        data = packed
    elif scheme in (_LZ4, _GROUPED_LZ4):
        try:
            # At most the announced size: a small frame must not unpack into gigabytes.
            data = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size + 1)
        except (RuntimeError, EOFError) as exc:
            raise bad_request(f"broken lz4 chunk: {exc}") from None
        if scheme == _GROUPED_LZ4 and len(data) == size:
            data = _ungroup(data)
    else:
        raise bad_request(f"unknown chunk compression {scheme}")
    if len(data) != size:
        raise bad_request(f"a chunk has {len(data)} bytes, its header says {size}")
    return data


def _ungroup(grouped: bytes) -> bytes:
    """Undo byte grouping, which puts the first byte of every four first, then every second byte, and so on."""
    out = bytearray(len(grouped))
    start = 0
    for lane in range(4):
        count = (len(grouped) - lane + 3) // 4
        out[lane::4] = grouped[start : start + count]
        start += count
    return bytes(out)


def read_shard(body: BinaryIO, limits: Limits) -> Iterator[XetFile]:
    """The files of a shard. What follows them (the chunks of each xorb) serves only global deduplication.

    Raises HubError 400 for a shard that is malformed or of another version.
    """
    header = _record(body)
    version = int.from_bytes(header[32:40], "little")
    if header[:32] != _SHARD_MAGIC or version != _SHARD_VERSION:
        raise bad_request(f"not a shard of version {_SHARD_VERSION}: this hf_xet may be newer than this Hub")
    terms_left = limits.xet_file_terms
    while (head := _record(body))[:32] != _LAST:
        flags, count = struct.unpack_from("<II", head, 32)
        terms_left -= count
        if terms_left < 0:
            raise bad_request(f"a shard may have at most {limits.xet_file_terms} terms")
        file = XetFile("")
        for _ in range(count):
            term = _record(body)
            _, size, first, last = struct.unpack_from("<IIII", term, 32)
            file.terms.append((hash_text(term[:32]), first, last, size))
        if flags & _HAS_VERIFICATION:
            for _ in range(count):
                _record(body)
        if not flags & _HAS_METADATA:
            raise bad_request("a file of this shard comes without its sha256")
        file.sha256 = hash_text(_record(body)[:32])
        yield file


def hash_text(raw: bytes) -> str:
    """A hash of 32 bytes as Xet prints it: four little-endian 64-bit numbers in hex."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def _record(body: BinaryIO) -> bytes:
    record = body.read(_RECORD)
    if len(record) != _RECORD:
        raise bad_request("truncated shard")
    return record
