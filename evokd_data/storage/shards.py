"""Samples, rejections and predictions as Arrow IPC files: schema, writing, lazy reading, digests.

A shard holds what a range of the round's requests gave, in index order. Two digests tell two things: `sha256` of the
file's bytes (transport) and `content` of its rows (meaning); a round's content digest runs over all its rows in index
order and does not see where shards break.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import orjson
import pyarrow as pa

from evokd_data.atomic_files import whole_file
from evokd_data.digest import file_digest
from evokd_data.errors import WorkspaceError
from evokd_data.records import Origin, Prediction, Rejection, Sample, Target

if TYPE_CHECKING:
    from evokd_data.tasks import Task

SCHEMA_VERSION = "1"
ORIGIN = {
    "round": pa.int32(),
    "request": pa.int32(),
    "position": pa.int32(),
    "strategy": pa.string(),
    "difficulty": pa.string(),
    "weakness": pa.string(),
    "intended": pa.string(),
}
_ORIGIN = attrgetter(*ORIGIN)
BATCH = 1024  # rows turned into Python objects at a time: a memory bound, no part of any digest


def sample_schema(task: Task) -> pa.Schema:
    """Columns of a shard: id, text, the task's target columns, soft, weight, then where the sample came from."""
    fields = {
        "id": pa.string(),
        "text": pa.string(),
        **task.columns(),
        "soft": pa.list_(pa.float32()),
        "weight": pa.float32(),
    }
    return pa.schema(
        list((fields | ORIGIN).items()), metadata={"evokd.schema": SCHEMA_VERSION, "evokd.task": task.name}
    )


@cache
def rejection_schema() -> pa.Schema:
    """Columns of a rejections file: the reason (one word), the text, with what it collided, where it came from."""
    fields = {"reason": pa.string(), "text": pa.string(), "detail": pa.string()}
    return pa.schema(list((fields | ORIGIN).items()), metadata={"evokd.schema": SCHEMA_VERSION})


def probe_schema() -> pa.Schema:
    """Columns of a probe: the sample's id, its target and the predicted one as JSON of the task's columns, how sure."""
    fields = {"id": pa.string(), "expected": pa.string(), "predicted": pa.string(), "confidence": pa.float32()}
    return pa.schema(list(fields.items()), metadata={"evokd.schema": SCHEMA_VERSION})


def sample_row(task: Task, sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "text": sample.text,
        **task.to_row(sample.target),
        "soft": None if sample.soft is None else list(sample.soft),
        "weight": sample.weight,
        **_origin_row(sample.origin),
    }


def row_sample(task: Task, row: Mapping[str, Any]) -> Sample:
    return Sample(
        id=row["id"],
        text=row["text"],
        target=task.from_row(row),
        origin=_row_origin(row),
        soft=None if row["soft"] is None else tuple(row["soft"]),
        weight=row["weight"],
    )


def rejection_row(rejection: Rejection) -> dict[str, Any]:
    return {
        "reason": rejection.reason,
        "text": rejection.text,
        "detail": rejection.detail,
        **_origin_row(rejection.origin),
    }


def row_rejection(row: Mapping[str, Any]) -> Rejection:
    return Rejection(row["reason"], row["text"], _row_origin(row), row["detail"])


def _origin_row(origin: Origin) -> dict[str, Any]:
    return dict(zip(ORIGIN, _ORIGIN(origin), strict=True))


def _row_origin(row: Mapping[str, Any]) -> Origin:
    return Origin(**{name: row[name] for name in ORIGIN})


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard in a manifest. It covers the requests [first, last); `rows` of what they gave were kept."""

    file: str
    first: int
    last: int
    rows: int
    sha256: str
    content: str


class ContentDigest:
    """A running digest over rows, fed in index order.

    Soft labels and weights enter as the float32 that is stored, rounded to 6 decimals, so that a row digests the same
    before it is written and after it is read.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.rows = 0

    def add(self, task: Task, sample: Sample) -> None:
        self.add_row(sample_row(task, sample))

    def add_row(self, row: Mapping[str, Any]) -> None:
        """A row as `sample_row` makes it."""
        soft, (weight,) = row["soft"], _rounded((row["weight"],))
        row = {**row, "soft": None if soft is None else _rounded(soft), "weight": weight}
        self._hash.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
        self.rows += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 6) for value in array("f", values).tolist()]


def shard_name(number: int) -> str:
    """The file name of a shard, and of its rejections; `number` counts from 0."""
    return f"{number:05d}.arrow"


def write_shard(path: Path, task: Task, samples: Sequence[Sample], first: int, last: int) -> str:
    """Write the file whole or not at all. Returns the content digest."""
    content = ContentDigest()
    rows = [sample_row(task, sample) for sample in samples]
    for row in rows:
        content.add_row(row)
    schema = sample_schema(task)
    schema = schema.with_metadata(
        {**schema.metadata, "evokd.requests": f"{first}:{last}", "evokd.content": content.hexdigest()}
    )
    write_rows(path, schema, rows)
    return content.hexdigest()


def shard_entry(path: Path) -> ShardEntry:
    """The entry of a shard written before. Raises WorkspaceError when the file is damaged or of another version."""
    table = read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if (version := metadata.get("evokd.schema", SCHEMA_VERSION)) != SCHEMA_VERSION:
        raise WorkspaceError(
            f"{path}: schema version {version!r}, this is {SCHEMA_VERSION!r}; use the version that wrote it"
        )
    try:
        first, last = map(int, metadata["evokd.requests"].split(":"))
        return ShardEntry(path.name, first, last, table.num_rows, file_digest(path), metadata["evokd.content"])
    except (KeyError, ValueError):
        raise WorkspaceError(f"{path}: is no shard of a round; remove it and rerun generate") from None


def shard_content(path: Path) -> str:
    """The content digest that the shard's writer left in it; of another writer's shard the digest of its bytes."""
    return (read_table(path).schema.metadata or {}).get(b"evokd.content", b"").decode() or file_digest(path)


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> None:
    write_rows(path, rejection_schema(), [rejection_row(rejection) for rejection in rejections])


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as one Arrow IPC file, whole or not at all, in batches of `BATCH`."""
    with whole_file(path) as draft, pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(rows), BATCH):
            writer.write_batch(pa.RecordBatch.from_pylist(list(rows[start : start + BATCH]), schema))


def read_table(path: Path) -> pa.Table:
    """The file memory-mapped. Raises WorkspaceError when it is no whole Arrow file."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise WorkspaceError(f"{path}: not a whole Arrow file ({error}); remove it and rerun generate") from None


def read_rejections(paths: Iterable[Path]) -> Iterator[Rejection]:
    for path in paths:
        for batch in read_table(path).to_batches(BATCH):
            yield from map(row_rejection, batch.to_pylist())


OPEN = 256  # shards held open at a time: a round may have more of them than a process may open files


class ShardedSamples(Sequence[Sample]):
    """The samples of some shards in order, memory-mapped: as long as the disk, as large in memory as one batch.

    Pickled, it takes the shards with it: where it arrives, their files need not be.
    """

    def __init__(self, task: Task, shards: Iterable[Path | pa.Table]) -> None:
        self._task = task
        self._shards = list(shards)
        self._ends = list(accumulate(_open(shard).num_rows for shard in self._shards))
        self._table = lru_cache(maxsize=OPEN)(lambda number: _open(self._shards[number]))

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedSamples, (self._task, [_open(shard) for shard in self._shards])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect.bisect_right(self._ends, index)
        offset = index - (self._ends[shard - 1] if shard else 0)
        return row_sample(self._task, self._table(shard).slice(offset, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Sample]:
        for shard in self._shards:
            for batch in _open(shard).to_batches(BATCH):
                for row in batch.to_pylist():
                    yield row_sample(self._task, row)

    def targets(self) -> Iterator[Target]:
        """What the samples teach, in order, with nothing else of them read."""
        columns = list(self._task.columns())
        for shard in self._shards:
            for batch in _open(shard).select(columns).to_batches(BATCH):
                yield from map(self._task.from_row, batch.to_pylist())


def _open(shard: Path | pa.Table) -> pa.Table:
    return shard if isinstance(shard, pa.Table) else read_table(shard)


class SomeSamples(Sequence[Sample]):
    """Those of `samples` at the places given, read when they are looked at: 4 bytes a sample, and the last ones read."""

    def __init__(self, samples: Sequence[Sample], places: Sequence[int]) -> None:
        self._samples = samples
        self._places = places
        self._read = lru_cache(maxsize=BATCH)(samples.__getitem__)

    def __reduce__(self) -> tuple[Any, ...]:
        return SomeSamples, (self._samples, self._places)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._read(place) for place in self._places[index]]
        return self._read(self._places[index])


def content_digest(task: Task, samples: Iterable[Sample]) -> str:
    """The content digest of rows in index order."""
    content = ContentDigest()
    for sample in samples:
        content.add(task, sample)
    return content.hexdigest()


def target_text(task: Task, target: object) -> str:
    """A target as a probe has it."""
    return json.dumps(task.to_row(target), ensure_ascii=False, sort_keys=True)  # type: ignore[arg-type]


def read_probe(task: Task, path: Path) -> list[Prediction]:
    """The predictions of a probe.arrow, in index order."""
    return predictions(task, read_table(path).to_pylist())


def predictions(task: Task, rows: Iterable[Mapping[str, Any]]) -> list[Prediction]:
    """Rows of a probe as what they say."""
    return [
        Prediction(
            row["id"],
            task.from_row(json.loads(row["expected"])),
            task.from_row(json.loads(row["predicted"])),
            row["confidence"],
        )
        for row in rows
    ]
