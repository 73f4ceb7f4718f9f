"""Write-only Xet ingest: what hf_xet uploads becomes an ordinary large file under its sha256.

huggingface_hub from 1.20 on uploads through hf_xet whenever that is installed and never falls back, so a Hub that
default clients can write to must take these calls. A client sends *xorbs* (runs of compressed chunks), then a *shard*
that says of which chunks each file is made; on the shard we put the files together, check each sha256, and keep them.
Formats: xet-core's specification (spec/xorb.md, spec/shard.md). Downloads need none of this: no answer of ours
carries `X-Xet-Hash`, so clients download over plain HTTP.

hf_xet remembers for each CAS address which chunks it has sent. The address therefore carries a random instance id
that changes whenever staged xorbs are removed, else clients would refer to chunks that are gone.
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
    """Uploaded xorbs, one folder per CAS address: instance id and user, so that users cannot reach each other's."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._instance = root.xorbs / "instance"

    def address(self, user: str) -> str:
        if not self._instance.exists():
            self.rotate()
        return f"{self._instance.read_text()}-{hashlib.sha256(user.encode()).hexdigest()[:12]}"

    def rotate(self) -> None:
        write_durably(self._root, self._instance, secrets.token_hex(8).encode())

    def path(self, address: str, xorb: str) -> Path:
        return self._root.xorbs / address / xorb[:2] / xorb

    def add(self, address: str, xorb: str, synced: Path) -> bool:
        """Keep a xorb; False if it replaced one of that name. The later wins: it may mend a damaged one."""
        target = self.path(address, xorb)
        fresh = not target.exists()
        move_into_place(synced, target)
        return fresh

    def collect(self, older_than_s: float) -> tuple[int, int]:
        """Remove what no running upload can need. Returns files and bytes."""
        horizon = time.time() - older_than_s
        current = self._instance.read_text() if self._instance.exists() else ""
        folders = [folder for folder in self._root.xorbs.iterdir() if folder.is_dir()]
        if any(_newest(folder, oldest=True) <= horizon for folder in folders if folder.name.startswith(f"{current}-")):
            self.rotate()  # uploads under way finish at the old address, which a later call removes
            current = self._instance.read_text()
        files = size = 0
        for folder in folders:
            if not folder.name.startswith(f"{current}-") and _newest(folder) <= horizon:
                for xorb in [path for path in folder.rglob("*") if path.is_file()]:
                    files, size = files + 1, size + xorb.stat().st_size
                    xorb.unlink()
                for inner in sorted(folder.rglob("*"), reverse=True):
                    inner.rmdir()
                folder.rmdir()
        return files, size


def _newest(folder: Path, *, oldest: bool = False) -> float:
    times = [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]
    return (min if oldest else max)(times, default=0.0)


@dataclass
class XetFile:
    """A file of a shard: its sha256 and its terms, (xorb, first chunk, chunk after the last, bytes)."""

    sha256: str
    terms: list[tuple[str, int, int, int]] = field(default_factory=list)


def take_shard(body: BinaryIO, staging: Staging, address: str, lfs: LfsStore, limits: Limits) -> list[str]:
    """Put every file of the shard together and into the LFS store. Returns their sha256s."""
    index: dict[str, list[int]] = {}
    taken = []
    for file in read_shard(body, limits):
        if sum(term[3] for term in file.terms) > limits.lfs_object:
            raise bad_request(f"an object may have at most {limits.lfs_object} bytes")
        # Put together even if the store has it: the shard must prove that its sender has the content.
        with lfs.incoming() as incoming:
            for xorb, first, last, size in file.terms:
                _append(incoming, staging.path(address, xorb), xorb, first, last, size, index, limits)
            incoming.finish(file.sha256)
        taken.append(file.sha256)
    return taken


def _append(
    out: Incoming, path: Path, xorb: str, first: int, last: int, size: int, index: dict[str, list[int]], limits: Limits
) -> None:
    """Write chunks `first` to `last - 1` of a xorb; `index` keeps the chunk offsets of xorbs seen before."""
    before = out.size
    try:
        with path.open("rb") as handle:
            offsets = index.get(xorb)
            if offsets is None:
                offsets = index[xorb] = _chunk_offsets(handle)
            if not first < last < len(offsets):
                raise bad_request(f"xorb {xorb} has {len(offsets) - 1} chunks, wanted were {first} to {last}")
            handle.seek(offsets[first])
            run = handle.read(offsets[last] - offsets[first])
    except FileNotFoundError:
        raise bad_request(f"unknown xorb {xorb}") from None
    for position in (offset - offsets[first] for offset in offsets[first:last]):
        out.write(_decode(run, position, limits))
    if out.size - before != size:
        raise bad_request(f"a term of xorb {xorb} has {out.size - before} bytes, announced were {size}")


def _chunk_offsets(xorb: BinaryIO) -> list[int]:
    """Where each chunk starts, and where the last one ends. A footer, if any, does not start with version 0."""
    data = xorb.read()
    offsets, position = [0], 0
    while position + 8 <= len(data) and data[position] == 0:
        position += 8 + int.from_bytes(data[position + 1 : position + 4], "little")
        if position > len(data):
            raise bad_request("truncated xorb")
        offsets.append(position)
    return offsets


def _decode(run: bytes, position: int, limits: Limits) -> bytes:
    """One chunk: version, packed size (3 bytes), scheme, size (3 bytes), packed bytes."""
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
            # Bounded by the announced size: a small frame must not unpack into gigabytes.
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
    """Undo byte grouping: all first bytes of four, then all second bytes, ... -> the bytes in order."""
    out = bytearray(len(grouped))
    start = 0
    for lane in range(4):
        count = (len(grouped) - lane + 3) // 4
        out[lane::4] = grouped[start : start + count]
        start += count
    return bytes(out)


def read_shard(body: BinaryIO, limits: Limits) -> Iterator[XetFile]:
    """The files of a shard. What follows them (which chunks a xorb has) matters for global deduplication only."""
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
    """Xet prints a hash as four little-endian 64-bit numbers."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def _record(body: BinaryIO) -> bytes:
    record = body.read(_RECORD)
    if len(record) != _RECORD:
        raise bad_request("truncated shard")
    return record
