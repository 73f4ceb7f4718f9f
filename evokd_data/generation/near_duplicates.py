"""An index of texts that answers: does this text repeat an earlier one, exactly or nearly?

MinHash signatures over character 5-grams (Broder 1997; rensa's implementation) are cut into bands. Texts that agree in one
band are candidates, and the estimated Jaccard similarity of their signatures decides. A band is kept as 32 bits with the
text's number, in sorted arrays. A Bloom filter before them (Bloom 1970) saves nearly all searches. Signatures and names lie
in a scratch file without a name, and are read for candidates only. When two different bands have the same 32 bits by chance,
one record is read in vain.

Memory grows by at most 200 bytes a text; the rest is on disk.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
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

from evokd_data.normal_form import normal_form

if TYPE_CHECKING:
    import numpy as np

    Words = np.ndarray[Any, np.dtype[np.uint32]]

PERMUTATIONS = 128  # standard error of an estimated similarity of 0.85: 0.03
MIN_RECALL = 0.99  # probability that a pair as similar as the threshold becomes a candidate
SHINGLE = 5  # characters
MINHASH_SEED = 1


def band_count(threshold: float) -> int:
    """The number of bands a signature is cut into: the fewest that reach `MIN_RECALL` at the threshold, at least 16.

    b bands of r rows find a pair of similarity s with probability 1 - (1 - s^r)^b: at 0.85, 16 bands of 8 with 0.994.
    """
    for count in (16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // count)) ** count >= MIN_RECALL:
            return count
    return PERMUTATIONS


class MinHashIndex:
    """An index of texts under names of at most 32 bytes. With a `threshold` of 1 or more it finds equal texts only.

    `scratch` is the folder for the scratch file: 560 bytes a text, removed with the index. A pickle of an index holds digests and
    signatures of its texts, and none of the texts.
    """

    def __init__(self, threshold: float, scratch: Path | None = None) -> None:
        self.threshold = threshold
        self._band_count = band_count(threshold) if threshold < 1 else 0
        self._records = _Records(scratch)
        self._bands = _BandTable(self._band_count + 1)  # the normal form counts as one more band

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.threshold, self._records.content())

    def add(self, text: str, name: str) -> None:
        """Remember a text under the name it will be reported by. Raises ValueError for a name of more than 32 bytes."""
        self.append(_fingerprint(text, self._band_count), name)

    def append(self, fingerprint: _Fingerprint, name: str) -> None:
        """As `add`, of a text whose fingerprint is known."""
        self._records.append(fingerprint.form, name, fingerprint.signature)
        if self._bands.append(fingerprint):
            self._records.flush()

    def find(self, text: str) -> tuple[str, str, float] | None:
        """The most similar earlier text, of equally similar ones the first: ("duplicate" | "near_duplicate", name, similarity).

        None when no earlier text is as similar as the threshold.
        """
        fingerprint = _fingerprint(text, self._band_count)
        candidates = self._bands.find(fingerprint)
        if not candidates:
            return None
        records = self._records.table(sorted(candidates))
        similarities = _similarities(records, fingerprint.signature)
        best = int(similarities.argmax())  # of equals the first
        similarity = float(similarities[best])
        if similarity == 1:  # the similarity of equal texts
            for row in (similarities == 1).nonzero()[0]:
                if _form(records[row]) == fingerprint.form:
                    return "duplicate", _name(records[row]), 1.0
        near = bool(self._band_count) and similarity >= self.threshold
        return ("near_duplicate", _name(records[best]), similarity) if near else None


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What is compared of a text.

    `form`: a digest of its normal form. `signature`: its MinHash signature. `sums`: 32 bits of each band, and of the form as
    the last. `keys`: the sums with the band's number in the bits above.
    """

    form: bytes
    signature: bytes
    sums: Sequence[int]
    keys: Sequence[int]


_BAND_BITS = [band << 32 for band in range(PERMUTATIONS + 1)]


@lru_cache(maxsize=4096)  # a text is looked up before it is labelled and afterwards, each time in several indices
def _fingerprint(text: str, count: int) -> _Fingerprint:
    normalised = normal_form(text)
    form = blake2b(normalised.encode(), digest_size=FORM).digest()
    return _fingerprint_of(form, _signature(normalised) if count else b"", count)


def _fingerprint_of(form: bytes, signature: bytes, count: int) -> _Fingerprint:
    sums = [*map(crc32, _band_cutter(count)(signature)), crc32(form)]
    return _Fingerprint(form, signature, sums, list(map(or_, _BAND_BITS, sums)))


@lru_cache(maxsize=8)
def _band_cutter(count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """A function that cuts a signature into `count` bands."""
    return struct.Struct(f"{4 * PERMUTATIONS // count}s" * count).unpack if count else lambda _: ()


def _signature(form: str) -> bytes:
    from rensa import RMinHash

    signature = RMinHash(PERMUTATIONS, MINHASH_SEED)
    signature.update(_shingle_cutter(max(1, len(form) - SHINGLE + 1))(form))
    return array("I", signature.digest()).tobytes()


@lru_cache(maxsize=1024)
def _shingle_cutter(count: int) -> Any:
    """A function that cuts the first `count` shingles of a text: one itemgetter is the fastest way in Python."""
    if count == 1:
        return lambda form: (form[:SHINGLE],)
    return itemgetter(*(slice(start, start + SHINGLE) for start in range(count)))


FORM, NAME = 16, 32  # bytes


def _restored(threshold: float, records: bytes) -> MinHashIndex:
    """An index again, from the content of its records."""
    index = MinHashIndex(threshold)
    count = band_count(threshold) if threshold < 1 else 0
    size = FORM + NAME + (4 * PERMUTATIONS if count else 0)
    for start in range(0, len(records), size):
        form, name, signature = struct.unpack(f"{FORM}s{NAME}s{size - FORM - NAME}s", records[start : start + size])
        index.append(_fingerprint_of(form, signature, count), name.rstrip(b"\0").decode())
    return index


def _similarities(records: Words, signature: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N,): the estimated Jaccard similarities, which are the shares of permutations in which signatures agree."""
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
    """Form, name and signature of each text, by its number; in memory until `flush`, then in the scratch file."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._size = 0  # bytes of a record
        self._file = -1
        self._flushed = 0  # records in the file
        self._mapped: Words | None = None
        self._recent: list[bytes] = []

    def append(self, form: bytes, name: str, signature: bytes) -> None:
        name_bytes = name.encode()
        if len(name_bytes) > NAME:
            raise ValueError(f"{name!r}: a text's name has at most {NAME} bytes")
        self._recent.append(form + name_bytes.ljust(NAME, b"\0") + signature)

    def flush(self) -> None:
        if self._file < 0:
            self._file, name = tempfile.mkstemp(dir=self._scratch, prefix=".texts-")
            Path(name).unlink()  # no other process can open it, and it is gone with this one
            weakref.finalize(self, os.close, self._file)
        self._size = len(self._recent[0])
        unwritten = memoryview(b"".join(self._recent))
        while unwritten:
            unwritten = unwritten[os.write(self._file, unwritten) :]
        self._flushed += len(self._recent)
        self._mapped, self._recent = None, []  # the pages that were read go with the map

    def content(self) -> bytes:
        """All records, in order."""
        flushed = os.pread(self._file, self._flushed * self._size, 0) if self._flushed else b""
        return flushed + b"".join(self._recent)

    def table(self, numbers: Sequence[int]) -> Words:
        """(N, words of 32 bits): the records of these texts. `numbers` are sorted."""
        import numpy as np

        flushed = bisect_left(numbers, self._flushed)
        recent = b"".join([self._recent[number - self._flushed] for number in numbers[flushed:]])
        if flushed <= MAX_SINGLE_READS:
            data = b"".join([os.pread(self._file, self._size, number * self._size) for number in numbers[:flushed]])
            return np.frombuffer(data + recent, dtype=np.uint32).reshape(len(numbers), -1)
        if self._mapped is None:
            whole = mmap.mmap(self._file, self._flushed * self._size, access=mmap.ACCESS_READ)
            self._mapped = np.frombuffer(whole, dtype=np.uint32).reshape(self._flushed, -1)
        from_file = self._mapped[numbers[:flushed]]
        return np.concatenate((from_file, np.frombuffer(recent, dtype=np.uint32).reshape(-1, from_file.shape[1])))


MAX_SINGLE_READS = 16  # records read one by one: pages of a map count as the process's memory, with others around them
MAX_RECENT = 2048  # texts whose bands are in a dict, before they are sorted


class _BandTable:
    """Which texts have a band. A text is known by its number, from 0 on; a band by its number and 32 bits of its content.

    For each band, sorted runs of 64 bits a text, the band's bits above the text's number; each run is at least 4 times as
    long as the next. In front of them, for each band, a Bloom filter with two bits set for each text, of 8 to 16 times as
    many bits as there are texts.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._texts = 0
        self._recent: dict[int, int] = {}  # a band's number above its bits -> the last text that has it
        self._shared: dict[int, list[int]] = {}  # the same key -> the other texts that have it
        self._unsorted = array("I")
        self._runs: list[list[np.ndarray[Any, np.dtype[np.uint64]]]] = []
        self._filters: list[bytearray] = []
        self._length = 0  # bits of a filter, as a power of 2

    def append(self, fingerprint: _Fingerprint) -> bool:
        """Give the text the next number. Returns whether the recent texts were sorted into runs."""
        number = self._texts
        self._texts += 1
        keys = fingerprint.keys
        if not self._recent.keys().isdisjoint(keys):
            for key in keys:
                if key in self._recent:
                    self._shared.setdefault(key, []).append(self._recent[key])
        self._recent.update(zip(keys, repeat(number)))
        self._unsorted.extend(fingerprint.sums)
        if len(self._unsorted) < MAX_RECENT * self._count:
            return False
        self._sort()
        return True

    def find(self, fingerprint: _Fingerprint) -> set[int]:
        """The numbers of all texts that share a band, and of hardly any other."""
        numbers: set[int] = set()
        if not self._recent.keys().isdisjoint(fingerprint.keys):
            for key in fingerprint.keys:
                if key in self._recent:
                    numbers.update((self._recent[key], *self._shared.get(key, ())))
        high, low = 32 - self._length, (1 << self._length) - 1
        for band, (bits, band_sum) in enumerate(zip(self._filters, fingerprint.sums)):  # noqa: B905 - no filters at first
            bit = band_sum >> high
            if bits[bit >> 3] >> (bit & 7) & 1:
                bit = band_sum & low
                if bits[bit >> 3] >> (bit & 7) & 1:
                    numbers.update(self._search(band, band_sum))
        return numbers

    def _search(self, band: int, band_sum: int) -> list[int]:
        import numpy as np

        lowest, highest = np.uint64(band_sum << 32), np.uint64(band_sum << 32 | 0xFFFFFFFF)
        numbers: list[int] = []
        for run in self._runs:
            entries = run[band]
            start = int(entries.searchsorted(lowest))
            if start < len(entries) and entries[start] <= highest:
                end = entries.searchsorted(highest, side="right")
                numbers += entries[start:end].astype(np.uint32).tolist()
        return numbers

    def _sort(self) -> None:
        import numpy as np

        sums = np.frombuffer(self._unsorted, dtype=np.uint32).reshape(-1, self._count)
        numbers = np.arange(self._texts - len(sums), self._texts, dtype=np.uint64)
        new_run = [np.sort(sums[:, band].astype(np.uint64) << np.uint64(32) | numbers) for band in range(self._count)]
        run = new_run
        while self._runs and len(self._runs[-1][0]) < 4 * len(run[0]):
            longer = self._runs.pop()
            merged = []
            for band in range(self._count):  # one band at a time: no more than one is in memory twice
                merged.append(_merged(longer[0], run[band]))
                del longer[0]
            run = merged
        self._runs.append(run)
        self._recent, self._shared, self._unsorted = {}, {}, array("I")
        if self._length < 32 and 8 * self._texts > 1 << self._length:
            self._length = min(32, (8 * self._texts).bit_length())
            self._filters = [bytearray(1 << max(0, self._length - 3)) for _ in range(self._count)]
            for any_run in self._runs:
                self._mark(any_run)
        else:
            self._mark(new_run)

    def _mark(self, run: list[np.ndarray[Any, np.dtype[np.uint64]]]) -> None:
        """Set the filters' bits of a run's bands."""
        import numpy as np

        low = np.uint64((1 << self._length) - 1)
        for filter_bytes, entries in zip(self._filters, run, strict=True):
            octets = np.frombuffer(filter_bytes, dtype=np.uint8)
            for start in range(0, len(entries), 1 << 16):
                sums = entries[start : start + (1 << 16)] >> np.uint64(32)
                for bits in (sums >> np.uint64(32 - self._length), sums & low):
                    marks = np.uint8(1) << (bits & np.uint64(7)).astype(np.uint8)
                    np.bitwise_or.at(octets, (bits >> np.uint64(3)).astype(np.intp), marks)


def _merged(
    first: np.ndarray[Any, np.dtype[np.uint64]], second: np.ndarray[Any, np.dtype[np.uint64]]
) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Two sorted arrays as one. Its memory is mapped, not malloc's: heap fragments of freed arrays would never be used again."""
    import numpy as np

    merged = np.frombuffer(mmap.mmap(-1, first.nbytes + second.nbytes), dtype=np.uint64)
    np.concatenate((first, second), out=merged)
    merged.sort(kind="stable")
    return merged
