"""The formats of the Xet upload protocol. Complete uploads by hf_xet are in test_commits.py."""

from __future__ import annotations

import hashlib
import io
import random
import struct

import lz4.frame
import pytest

from evokd_data.atomic_files import write_private
from evokd_data.localhub import xet
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.lfs import LfsStore
from evokd_data.localhub.limits import Limits
from evokd_data.localhub.root import Root

LIMITS = Limits()
XORB = "0" * 63 + "1"


def _raw(text):
    return struct.pack("<4Q", *(int(text[i : i + 16], 16) for i in range(0, 64, 16)))


def _group(data):
    return b"".join(data[lane::4] for lane in range(4))


def _chunk(data, scheme):
    packed = [data, lz4.frame.compress(data), lz4.frame.compress(_group(data))][scheme]
    return struct.pack("<I", len(packed) << 8) + struct.pack("<I", scheme | len(data) << 8) + packed


def _shard(terms, sha256, flags=xet._HAS_METADATA | xet._HAS_VERIFICATION):
    out = xet._SHARD_MAGIC + struct.pack("<QQ", 2, 0)
    out += b"\1" * 32 + struct.pack("<II8x", flags, len(terms))
    for xorb, first, last, size in terms:
        out += _raw(xorb) + struct.pack("<IIII", 0, size, first, last)
    out += (b"\0" * 48 * len(terms) if flags & xet._HAS_VERIFICATION else b"") + _raw(sha256) + b"\0" * 16
    return out + b"\xff" * 32 + b"\0" * 16


@pytest.fixture
def upload_xet(tmp_path):
    root = Root(tmp_path / "hub").prepare()
    staging, lfs = xet.Staging(root), LfsStore(root)
    address = staging.address("alice")

    def upload(chunks, terms, sha256, footer=b"", **shard):
        staging.add(address, XORB, write_private(root.tmp, b"".join(chunks) + footer))
        oids = xet.store_files(io.BytesIO(_shard(terms, sha256, **shard)), staging, address, lfs, LIMITS)
        return [lfs.path(oid).read_bytes() for oid in oids]

    yield upload
    assert list(root.tmp.iterdir()) == []  # no unfinished file is left over


@pytest.mark.parametrize("scheme", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000, 128 * 1024])
def test_every_compression_of_a_chunk_comes_back(upload_xet, scheme, size):
    data = random.Random(size).randbytes(size // 2) + b"a" * (size - size // 2)
    whole = b"first" + data
    chunks = [_chunk(b"first", 0), _chunk(data, scheme), _chunk(b"unused", 1)]
    sha256 = hashlib.sha256(whole).hexdigest()
    assert upload_xet(chunks, [(XORB, 0, 2, len(whole))], sha256, footer=b"XETBLOB" + b"\0" * 50) == [whole]


def test_the_terms_of_a_file_are_joined_in_order(upload_xet):
    chunks = [_chunk(bytes([65 + i]) * 10, i % 3) for i in range(4)]
    whole = b"C" * 10 + b"D" * 10 + b"A" * 10 + b"C" * 10
    sha256 = hashlib.sha256(whole).hexdigest()
    assert upload_xet(chunks, [(XORB, 2, 4, 20), (XORB, 0, 1, 10), (XORB, 2, 3, 10)], sha256) == [whole]


@pytest.mark.parametrize(
    ("terms", "shard", "reason"),
    [
        ([(XORB, 0, 1, 10)], {}, "sha256"),
        ([(XORB, 0, 3, 10)], {}, "has 2 chunks"),
        ([(XORB, 1, 1, 0)], {}, "has 2 chunks"),
        ([(XORB, 0, 1, 11)], {}, "not 11 as announced"),
        (["f" * 64 and ("e" * 64, 0, 1, 10)], {}, "unknown xorb"),
        ([(XORB, 0, 1, 10)], {"flags": 0}, "without its sha256"),
    ],
)
def test_a_shard_that_does_not_match_its_chunks_is_refused(upload_xet, terms, shard, reason):
    with pytest.raises(HubError, match=reason):
        upload_xet([_chunk(b"A" * 10, 0), _chunk(b"B" * 10, 1)], terms, "a" * 64, **shard)


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (struct.pack("<II", 5 << 8, 5 << 8) + b"abc", "truncated xorb"),
        (struct.pack("<II", 3 << 8, 9 | 3 << 8) + b"abc", "unknown chunk compression"),
        (struct.pack("<II", 8 << 8, 1 | 8 << 8) + b"abcdefgh", "lz4"),
        (struct.pack("<II", 3 << 8, 1 << 26) + b"abc", "at most 131072"),
        (_chunk(b"a" * 100_000, 1)[:5] + b"\x0a\0\0" + _chunk(b"a" * 100_000, 1)[8:], "header says 10"),
    ],
)
def test_a_broken_chunk_is_refused(upload_xet, chunk, reason):
    with pytest.raises(HubError, match=reason):
        upload_xet([chunk], [(XORB, 0, 1, 3)], "a" * 64)


@pytest.mark.parametrize(
    "body", [b"", b"x" * 48, xet._SHARD_MAGIC + struct.pack("<QQ", 3, 0), _shard([], "a" * 64)[:60]]
)
def test_a_malformed_shard_is_refused(body):
    with pytest.raises(HubError, match="shard"):
        list(xet.read_shard(io.BytesIO(body), LIMITS))


def test_each_user_has_another_address_and_rotation_changes_them(tmp_path):
    staging = xet.Staging(Root(tmp_path).prepare())
    alice = staging.address("alice")
    assert staging.address("alice") == alice != staging.address("bob")
    staging.rotate()
    assert staging.address("alice") != alice
