"""Was this text, or nearly this one, here before? Flat in memory: 200 bytes a text at most, the rest is on disk.

MinHash signatures over character 5-grams (Broder 1997; rensa's implementation) cut into bands; texts that agree in one
band are candidates and verified by the signatures' estimated Jaccard similarity. A band is kept as 32 bits, with the
text's number, in sorted arrays; a Bloom filter before them (Bloom 1970) spares nearly all searches. Signatures and names
lie in a scratch file without a name, read for candidates alone. Two bands that share their 32 bits by chance cost a read.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import tempfile
import unicodedata
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from operator import itemgetter, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    import numpy as np

    Words = np.ndarray[Any, np.dtype[np.uint32]]

PERMUTATIONS = 128  # standard error of an estimated similarity of 0.85: 0.03
FOUND = 0.99  # probability that a pair as alike as the threshold becomes a candidate
SHINGLE = 5  # characters
MINHASH_SEED = 1


def normal(text: str) -> str:
    """A text without case, punctuation and runs of white space, compatibility forms folded (NFKC)."""
    if text.isascii():  # what the rest comes to there, in a third of the time
        return " ".join(text.translate(_ASCII).split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_NOT_WORD.sub(" ", folded).split())


_NOT_WORD = re.compile(r"[\W_]+")
_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def bands(threshold: float) -> int:
    """Into how many bands a signature is cut: the fewest with which a pair at the threshold is `FOUND`, at least 16.

    b bands of r rows find a pair of similarity s with probability 1 - (1 - s^r)^b: at 0.85, 16 bands of 8 with 0.994.
    """
    for count in (16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // count)) ** count >= FOUND:
            return count
    return PERMUTATIONS


class MinHashIndex:
    """An index of texts under names of at most 32 bytes. From a `threshold` of 1 on only equal texts are alike.

    `scratch` is the folder for what does not stay in memory: 560 bytes a text, gone when the index is.
    """

    def __init__(self, threshold: float, scratch: Path | None = None) -> None:
        self.threshold = threshold
        self._bands = bands(threshold) if threshold < 1 else 0
        self._records = _Records(scratch)
        self._places = _Places(self._bands + 1)

    def add(self, text: str, name: str) -> None:
        """Remember a text under the name it will be reported by."""
        seen = _look(text, self._bands)
        self._records.append(seen.form, name, seen.signature)
        if self._places.append(seen):
            self._records.flush()

    def find(self, text: str) -> tuple[str, str, float] | None:
        """("duplicate" | "near_duplicate", the name of the text it is like, similarity), the first added winning ties."""
        seen = _look(text, self._bands)
        places = self._places.find(seen)
        if not places:
            return None
        records = self._records.table(sorted(places))
        similarities = _agreements(records, seen.signature)
        best = int(similarities.argmax())  # of equals the first
        similarity = float(similarities[best])
        if similarity == 1:  # as it is of equal texts
            for one in (similarities == 1).nonzero()[0]:
                if _form(records[one]) == seen.form:
                    return "duplicate", _name(records[one]), 1.0
        near = bool(self._bands) and similarity >= self.threshold
        return ("near_duplicate", _name(records[best]), similarity) if near else None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is compared of a text: a digest of its normal form, its signature, and 32 bits of each band and of the form;
    `keys` are these with the band's number above them."""

    form: bytes
    signature: bytes
    sums: Sequence[int]
    keys: Sequence[int]


_NUMBERS = [band << 32 for band in range(PERMUTATIONS + 1)]


@lru_cache(maxsize=1)  # a text is looked for in two indices, then added to one
def _look(text: str, count: int) -> _Seen:
    normalised = normal(text)
    form = blake2b(normalised.encode(), digest_size=FORM).digest()
    signature = _signature(normalised) if count else b""
    sums = [*map(crc32, _cut(count)(signature)), crc32(form)]
    return _Seen(form, signature, sums, list(map(or_, _NUMBERS, sums)))


@lru_cache(maxsize=8)
def _cut(count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """A signature into its bands."""
    return struct.Struct(f"{4 * PERMUTATIONS // count}s" * count).unpack if count else lambda _: ()


def _signature(form: str) -> bytes:
    from rensa import RMinHash

    signature = RMinHash(PERMUTATIONS, MINHASH_SEED)
    signature.update(_shingles(max(1, len(form) - SHINGLE + 1))(form))
    return array("I", signature.digest()).tobytes()


@lru_cache(maxsize=1024)
def _shingles(count: int) -> Any:
    """A function that cuts the first `count` shingles: the quickest way there is in Python."""
    if count == 1:
        return lambda form: (form[:SHINGLE],)
    return itemgetter(*(slice(start, start + SHINGLE) for start in range(count)))


FORM, NAME = 16, 32  # bytes


def _agreements(records: Words, signature: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The Jaccard similarities that signatures estimate: the shares of permutations in which they agree."""
    import numpy as np

    if not signature:
        return np.ones(len(records))
    signatures = records[:, (FORM + NAME) // 4 :]
    return np.count_nonzero(signatures == np.frombuffer(signature, dtype=np.uint32), axis=1) / PERMUTATIONS


def _form(record: Words) -> bytes:
    return record[: FORM // 4].tobytes()


def _name(record: Words) -> str:
    return record[FORM // 4 : (FORM + NAME) // 4].tobytes().rstrip(b"\0").decode()


class _Records:
    """Form, name and signature, one after the other, by place; in memory until `flush`, then in the scratch file."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._size = 0
        self._file = -1
        self._flushed = 0
        self._mapped: Words | None = None  # what is in the file
        self._recent: list[bytes] = []

    def append(self, form: bytes, name: str, signature: bytes) -> None:
        known = name.encode()
        if len(known) > NAME:
            raise ValueError(f"{name!r}: a text's name has at most {NAME} bytes")
        self._recent.append(form + known.ljust(NAME, b"\0") + signature)

    def flush(self) -> None:
        if self._file < 0:
            self._file, name = tempfile.mkstemp(dir=self._scratch, prefix=".texts-")
            Path(name).unlink()  # nobody else's, and gone with the process
            weakref.finalize(self, os.close, self._file)
        self._size = len(self._recent[0])
        rest = memoryview(b"".join(self._recent))
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._flushed += len(self._recent)
        self._mapped, self._recent = None, []  # with the map go the pages of it that were read

    def table(self, places: Sequence[int]) -> Words:
        """(N, words of 32 bits): the records of these places, which are sorted."""
        import numpy as np

        old = bisect_left(places, self._flushed)
        recent = b"".join([self._recent[place - self._flushed] for place in places[old:]])
        if old <= FEW:
            read = b"".join([os.pread(self._file, self._size, place * self._size) for place in places[:old]])
            return np.frombuffer(read + recent, dtype=np.uint32).reshape(len(places), -1)
        if self._mapped is None:
            whole = mmap.mmap(self._file, self._flushed * self._size, access=mmap.ACCESS_READ)
            self._mapped = np.frombuffer(whole, dtype=np.uint32).reshape(self._flushed, -1)
        found = self._mapped[places[:old]]
        return np.concatenate((found, np.frombuffer(recent, dtype=np.uint32).reshape(-1, found.shape[1])))


FEW = 16  # records that are read one by one: the pages of a map count as the process's memory, with others around them
RECENT = 2048  # texts whose bands are in a dict, before they are sorted


class _Places:
    """Which texts have a band: its number, and 32 bits of what is in it. `append` gives texts their places, from 0 on.

    Sorted runs of 64 bits a band and text, the band's bits above the text's place, each run at least 4 times as long as
    the next. In front of them, for each band, a Bloom filter of two bits a text: 8 to 16 times as many as there are texts.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._texts = 0
        self._recent: dict[int, int] = {}  # a band's number above its bits -> the last text that has it
        self._shared: dict[int, list[int]] = {}  # the others that have it
        self._unsorted = array("I")
        self._runs: list[list[np.ndarray[Any, np.dtype[np.uint64]]]] = []
        self._filters: list[bytearray] = []
        self._length = 0  # bits of a filter, as a power of 2

    def append(self, seen: _Seen) -> bool:
        """Whether the recent ones were sorted away."""
        place = self._texts
        self._texts += 1
        keys = seen.keys
        if not self._recent.keys().isdisjoint(keys):
            for key in keys:
                if key in self._recent:
                    self._shared.setdefault(key, []).append(self._recent[key])
        self._recent.update(zip(keys, repeat(place)))
        self._unsorted.extend(seen.sums)
        if len(self._unsorted) < RECENT * self._count:
            return False
        self._sort()
        return True

    def find(self, seen: _Seen) -> set[int]:
        """The places of texts that share a band, and hardly any other."""
        found: set[int] = set()
        if not self._recent.keys().isdisjoint(seen.keys):
            for key in seen.keys:
                if key in self._recent:
                    found.update((self._recent[key], *self._shared.get(key, ())))
        high, low = 32 - self._length, (1 << self._length) - 1
        for band, (bits, own) in enumerate(zip(self._filters, seen.sums)):  # noqa: B905 - no filters at first
            one = own >> high
            if bits[one >> 3] >> (one & 7) & 1:
                other = own & low
                if bits[other >> 3] >> (other & 7) & 1:
                    found.update(self._search(band, own))
        return found

    def _search(self, band: int, own: int) -> list[int]:
        import numpy as np

        first, last = np.uint64(own << 32), np.uint64(own << 32 | 0xFFFFFFFF)
        found: list[int] = []
        for run in self._runs:
            entries = run[band]
            at = int(entries.searchsorted(first))
            if at < len(entries) and entries[at] <= last:
                end = entries.searchsorted(last, side="right")
                found += entries[at:end].astype(np.uint32).tolist()
        return found

    def _sort(self) -> None:
        import numpy as np

        sums = np.frombuffer(self._unsorted, dtype=np.uint32).reshape(-1, self._count)
        places = np.arange(self._texts - len(sums), self._texts, dtype=np.uint64)
        run = [np.sort(sums[:, band].astype(np.uint64) << np.uint64(32) | places) for band in range(self._count)]
        fresh = run
        while self._runs and len(self._runs[-1][0]) < 4 * len(run[0]):
            longer = self._runs.pop()
            merged = []
            for band in range(self._count):  # one band at a time: that much is held twice, and no more
                merged.append(_merged(longer[0], run[band]))
                del longer[0]
            run = merged
        self._runs.append(run)
        self._recent, self._shared, self._unsorted = {}, {}, array("I")
        if self._length < 32 and 8 * self._texts > 1 << self._length:
            self._length = min(32, (8 * self._texts).bit_length())
            self._filters = [bytearray(1 << max(0, self._length - 3)) for _ in range(self._count)]
            for known in self._runs:
                self._mark(known)
        else:
            self._mark(fresh)

    def _mark(self, run: list[np.ndarray[Any, np.dtype[np.uint64]]]) -> None:
        import numpy as np

        low = np.uint64((1 << self._length) - 1)
        for marked, entries in zip(self._filters, run, strict=True):
            bits = np.frombuffer(marked, dtype=np.uint8)
            for start in range(0, len(entries), 1 << 16):
                own = entries[start : start + (1 << 16)] >> np.uint64(32)
                for place in (own >> np.uint64(32 - self._length), own & low):
                    marks = np.uint8(1) << (place & np.uint64(7)).astype(np.uint8)
                    np.bitwise_or.at(bits, (place >> np.uint64(3)).astype(np.intp), marks)


def _merged(
    one: np.ndarray[Any, np.dtype[np.uint64]], other: np.ndarray[Any, np.dtype[np.uint64]]
) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Two sorted arrays as one, in pages of its own: what malloc is given back it keeps, in pieces that fit nothing."""
    import numpy as np

    both = np.frombuffer(mmap.mmap(-1, one.nbytes + other.nbytes), dtype=np.uint64)
    np.concatenate((one, other), out=both)
    both.sort(kind="stable")
    return both
