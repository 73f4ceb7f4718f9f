"""Samples, rejections and predictions as Arrow IPC files: schema, writing, lazy reading, digests.

A shard holds the samples of a range of the round's requests, in index order. It has two digests: `sha256` of the file's
bytes, for transport, and `content` of its rows, for meaning. A round's content digest covers all its rows in index order;
it does not depend on how they are divided into shards.
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

from evokd_data import arrow_seal
from evokd_data.atomic_files import whole_file
from evokd_data.digest import file_digest
from evokd_data.errors import WorkspaceError
from evokd_data.records import Origin, Prediction, Rejection, Sample, Target
from evokd_data.storage.workspace import RESTORE

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
BATCH = 1024  # rows converted to Python objects at a time: a memory bound, not part of any digest


def sample_schema(task: Task) -> pa.Schema:
    """Columns of a shard: id, text, the task's target columns, soft, weight, then the sample's origin."""
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
    """Columns of a rejections file: reason (one word), text, detail (what the text conflicts with), then its origin."""
    fields = {"reason": pa.string(), "text": pa.string(), "detail": pa.string()}
    return pa.schema(list((fields | ORIGIN).items()), metadata={"evokd.schema": SCHEMA_VERSION})


def probe_schema() -> pa.Schema:
    """Columns of a probe: the sample's id, its target and the predicted target as JSON of the task's columns, confidence."""
    fields = {"id": pa.string(), "expected": pa.string(), "predicted": pa.string(), "confidence": pa.float32()}
    return pa.schema(list(fields.items()), metadata={"evokd.schema": SCHEMA_VERSION})


def sample_row(task: Task, sample: Sample) -> dict[str, Any]:
    """The sample as a row of `sample_schema`."""
    return {
        "id": sample.id,
        "text": sample.text,
        **task.to_row(sample.target),
        "soft": None if sample.soft is None else list(sample.soft),
        "weight": sample.weight,
        **_origin_row(sample.origin),
    }


def row_sample(task: Task, row: Mapping[str, Any]) -> Sample:
    """The sample in a row of `sample_schema`. Raises KeyError, TypeError or ValueError when the row is not one."""
    return Sample(
        id=row["id"],
        text=row["text"],
        target=task.from_row(row),
        origin=_row_origin(row),
        soft=None if row["soft"] is None else tuple(row["soft"]),
        weight=row["weight"],
    )


def rejection_row(rejection: Rejection) -> dict[str, Any]:
    """The rejection as a row of `rejection_schema`."""
    return {
        "reason": rejection.reason,
        "text": rejection.text,
        "detail": rejection.detail,
        **_origin_row(rejection.origin),
    }


def row_rejection(row: Mapping[str, Any]) -> Rejection:
    """The rejection in a row of `rejection_schema`."""
    return Rejection(row["reason"], row["text"], _row_origin(row), row["detail"])


def _origin_row(origin: Origin) -> dict[str, Any]:
    return dict(zip(ORIGIN, _ORIGIN(origin), strict=True))


def _row_origin(row: Mapping[str, Any]) -> Origin:
    return Origin(**{name: row[name] for name in ORIGIN})


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard in a manifest. It covers the requests [first, last) and holds `rows` samples."""

    file: str
    first: int
    last: int
    rows: int
    sha256: str
    content: str


class ContentDigest:
    """A running digest over rows, which are added in index order.

    Soft labels and weights are converted to float32, as they are stored, and rounded to 6 decimals. So a row has the same
    digest before it is written and after it is read.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.rows = 0

    def add(self, task: Task, sample: Sample) -> None:
        """Add the next sample."""
        self.add_row(sample_row(task, sample))

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add the next sample, given as a row of `sample_schema`."""
        soft, (weight,) = row["soft"], _rounded((row["weight"],))
        row = {**row, "soft": None if soft is None else _rounded(soft), "weight": weight}
        self._hash.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
        self.rows += 1

    def hexdigest(self) -> str:
        """sha256 of all rows so far, hex."""
        return self._hash.hexdigest()


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 6) for value in array("f", values).tolist()]


def shard_name(number: int) -> str:
    """The file name of a shard, and of its rejections; `number` counts from 0."""
    return f"{number:05d}.arrow"


def write_shard(path: Path, task: Task, samples: Sequence[Sample], first: int, last: int) -> str:
    """Write the samples of the requests [first, last) as one file, whole or not at all. Returns the content digest."""
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
    """The manifest entry of an existing shard. Raises WorkspaceError when the file is damaged or of another version."""
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
        raise WorkspaceError(f"{path}: is not a shard of a round; remove it and rerun generate") from None


def shard_content(path: Path) -> str:
    """The content digest in the shard's metadata. For a file without one, the digest of its bytes."""
    return (read_table(path).schema.metadata or {}).get(b"evokd.content", b"").decode() or file_digest(path)


def write_rejections(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write the rejections of one shard's requests as one file, whole or not at all."""
    write_rows(path, rejection_schema(), [rejection_row(rejection) for rejection in rejections])


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as one sealed Arrow IPC file, whole or not at all, in batches of `BATCH`."""
    schema = schema.with_metadata({**(schema.metadata or {}), arrow_seal.KEY: arrow_seal.UNSEALED})
    with whole_file(path) as draft:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for start in range(0, len(rows), BATCH):
                writer.write_batch(pa.RecordBatch.from_pylist(list(rows[start : start + BATCH]), schema))
        arrow_seal.seal(draft)


def read_table(path: Path) -> pa.Table:
    """The memory-mapped file. Raises WorkspaceError when it is not a complete Arrow file or was altered since it was written."""
    try:
        arrow_seal.check_seal(path)
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:  # a damaged schema may say what no Arrow has
        raise WorkspaceError(f"{path}: not a whole Arrow file ({error}); remove it and rerun generate") from None
    except WorkspaceError as error:
        raise WorkspaceError(f"{error}; {RESTORE}") from None


def read_rejections(paths: Iterable[Path]) -> Iterator[Rejection]:
    """The rejections of some files, in order. Raises WorkspaceError like `read_table`."""
    for path in paths:
        for batch in read_table(path).to_batches(BATCH):
            yield from map(row_rejection, batch.to_pylist())


Withdrawn = frozenset[tuple[int, str]]
"""(round, id) of samples that a later round has withdrawn (see `storage.corrected_rounds`)."""

OPEN = 256  # shards open at a time: a round may have more shards than a process may open files


class ShardedSamples(Sequence[Sample]):
    """The samples of some shards in order, memory-mapped. It needs the memory of one batch, whatever its length.

    Rows that are `withdrawn` are left out; a shard that holds such rows is copied into memory without them while it is read.
    A pickle of it contains the shards, so it can be read on a machine that does not have their files.
    """

    def __init__(self, task: Task, shards: Iterable[Path | pa.Table], withdrawn: Withdrawn = frozenset()) -> None:
        self._task = task
        self._shards = list(shards)
        self._withdrawn = withdrawn
        self._ends = list(accumulate(self._open(shard).num_rows for shard in self._shards))
        self._table = lru_cache(maxsize=OPEN)(lambda number: self._open(self._shards[number]))

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedSamples, (self._task, [self._open(shard) for shard in self._shards])

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
            for batch in self._open(shard).to_batches(BATCH):
                for row in batch.to_pylist():
                    yield row_sample(self._task, row)

    def targets(self) -> Iterator[Target]:
        """The samples' targets, in order. Other columns are not read."""
        columns = list(self._task.columns())
        for shard in self._shards:
            for batch in self._open(shard).select(columns).to_batches(BATCH):
                yield from map(self._task.from_row, batch.to_pylist())

    def _open(self, shard: Path | pa.Table) -> pa.Table:
        return without_rows(shard if isinstance(shard, pa.Table) else read_table(shard), self._withdrawn)


def without_rows(table: pa.Table, withdrawn: Withdrawn) -> pa.Table:
    """A table of samples without the rows that are withdrawn; the table itself where it holds none of them."""
    import pyarrow.compute as pc

    if not withdrawn:
        return table
    ids = pa.array([sample_id for _, sample_id in withdrawn])
    if not pc.any(pc.is_in(table["id"], value_set=ids)).as_py():
        return table
    keys = zip(table["round"].to_pylist(), table["id"].to_pylist(), strict=True)
    return table.filter(pa.array([key not in withdrawn for key in keys]))


class SelectedSamples(Sequence[Sample]):
    """The samples at some indices of `samples`, read when they are accessed. Memory: the indices, and a cache of `BATCH` samples."""

    def __init__(self, samples: Sequence[Sample], indices: Sequence[int]) -> None:
        self._samples = samples
        self._indices = indices
        self._read = lru_cache(maxsize=BATCH)(samples.__getitem__)

    def __reduce__(self) -> tuple[Any, ...]:
        return SelectedSamples, (self._samples, self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._read(selected) for selected in self._indices[index]]
        return self._read(self._indices[index])


def content_digest(task: Task, samples: Iterable[Sample]) -> str:
    """The content digest of rows in index order."""
    content = ContentDigest()
    for sample in samples:
        content.add(task, sample)
    return content.hexdigest()


def target_text(task: Task, target: object) -> str:
    """A target as a probe stores it: JSON of the task's columns, keys sorted."""
    return json.dumps(task.to_row(target), ensure_ascii=False, sort_keys=True)  # type: ignore[arg-type]


def read_probe(task: Task, path: Path) -> list[Prediction]:
    """The predictions in a probe.arrow, in index order."""
    return predictions(task, read_table(path).to_pylist())


def predictions(task: Task, rows: Iterable[Mapping[str, Any]]) -> list[Prediction]:
    """The predictions in rows of `probe_schema`. Raises KeyError, TypeError or ValueError when a row is not one."""
    return [
        Prediction(
            row["id"],
            task.from_row(json.loads(row["expected"])),
            task.from_row(json.loads(row["predicted"])),
            row["confidence"],
        )
        for row in rows
    ]
