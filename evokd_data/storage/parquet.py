"""Shards, rejections, probe and journal as the Parquet files of a revision, and back.

The same rows give the same bytes under the same pyarrow: row groups have a fixed number of rows, blind to where shards
break. Options are those of `datasets` (content-defined chunks, so that a store shared by revisions keeps what two of
them have in common once; a page index, so that a viewer reads one page) with zstd. Memory: one row group.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from evokd_data.errors import VerificationError, WorkspaceError
from evokd_data.records import Sample
from evokd_data.storage.journal import SharedMessages, segments
from evokd_data.storage.shards import (
    BATCH,
    SCHEMA_VERSION,
    probe_schema,
    read_table,
    rejection_schema,
    row_sample,
    sample_schema,
)

if TYPE_CHECKING:
    from evokd_data.tasks import Task

GROUP_ROWS = 16_384  # 5 to 50 MB of text: what a reader holds in memory, and can skip
FILE_BYTES = 500_000_000  # as `datasets`: files a viewer still opens, and few enough for one commit
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}

JOURNAL_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "prompt": pa.string(),
        "stage": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "seed": pa.int64(),
        "text": pa.string(),
        "finish_reason": pa.string(),
        "prompt_tokens": pa.int32(),
        "completion_tokens": pa.int32(),
        "choice_logprobs": pa.list_(pa.struct({"choice": pa.string(), "logprob": pa.float64()})),
    },
    metadata={"evokd.schema": SCHEMA_VERSION},
)


def write_samples(task: Task, shards: Iterable[Path], folder: Path) -> list[Path]:
    """The rows of shards, in order, as the Parquet files of `folder`; none for no rows."""
    return write_parts(_batches(shards), sample_schema(task), folder)


def write_rejections(files: Iterable[Path], folder: Path) -> list[Path]:
    """The rows of rejection files, in order."""
    return write_parts(_batches(files), rejection_schema(), folder)


def write_probe(file: Path, folder: Path) -> list[Path]:
    """A round's predictions, in order; none where nothing was predicted."""
    return write_parts(_batches([file] if file.exists() else []), probe_schema(), folder)


def write_journal(journal: Path, folder: Path) -> list[Path]:
    """All answers of a round's journal, sorted by key: the order of arrival differs from run to run, this does not."""
    rows = _sorted_journal(journal)
    return write_parts(_row_batches(rows, JOURNAL_SCHEMA), JOURNAL_SCHEMA, folder)


def read_samples(task: Task, files: Iterable[Path]) -> Iterator[Sample]:
    """The samples of Parquet files, in order. Raises VerificationError naming a file that cannot be read as samples."""
    for file in files:
        for row in read_rows(file):
            try:
                yield row_sample(task, row)
            except (KeyError, TypeError, ValueError) as error:
                raise VerificationError(
                    f"{file}: holds a row that is no sample ({error!r}); download it again"
                ) from None


def read_journal(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Answers as `journal.record` made them."""
    for file in files:
        for row in read_rows(file):
            scores = row["choice_logprobs"]
            yield {**row, "choice_logprobs": None if scores is None else {s["choice"]: s["logprob"] for s in scores}}


def read_rows(file: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of one file, or some columns of them, read a few at a time. Raises VerificationError when it is no whole Parquet file."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BATCH, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"{file}: no whole Parquet file ({_first_line(error)}); download it again") from None


def count_rows(file: Path) -> int:
    """Rows by the file's footer. Raises VerificationError when there is none."""
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"{file}: no whole Parquet file ({_first_line(error)}); download it again") from None


def features(schema: pa.Schema) -> dict[str, Any]:
    """The columns as `datasets` describes them in a card's `dataset_info`."""
    from datasets import DatasetInfo, Features

    return DatasetInfo(features=Features.from_arrow_schema(schema))._to_yaml_dict()["features"]


def write_parts(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path) -> list[Path]:
    """Batches of any size as files of about `FILE_BYTES`, in order, named 00000.parquet, 00001.parquet, ..."""
    import pyarrow.parquet as pq

    schema = _described(schema)
    paths: list[Path] = []
    writer: pq.ParquetWriter | None = None
    sink: Any = None
    try:
        for group in _groups(batches, schema):
            if writer is not None and sink.tell() >= FILE_BYTES:
                _close(writer, sink)
                writer = None
            if writer is None:
                folder.mkdir(parents=True, exist_ok=True)
                paths.append(folder / f"{len(paths):05d}.parquet")
                sink = paths[-1].open("wb")
                writer = pq.ParquetWriter(
                    sink,
                    schema,
                    compression="zstd",
                    use_content_defined_chunking=CHUNKING,
                    write_page_index=True,
                )
                writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
            writer.write_table(group, row_group_size=GROUP_ROWS)
    finally:
        if writer is not None:
            _close(writer, sink)
    return paths


def _close(writer: Any, sink: Any) -> None:
    writer.close()
    sink.close()


def _described(schema: pa.Schema) -> pa.Schema:
    """With the metadata `datasets` reads its features from: the same types for every reader, and no guessing."""
    from datasets import Features

    metadata = Features.from_arrow_schema(schema).arrow_schema.metadata
    return schema.with_metadata({**(schema.metadata or {}), **metadata})


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of exactly `GROUP_ROWS` rows, the last one shorter."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            taken = batch.slice(start, GROUP_ROWS - rows)
            held.append(taken)
            start, rows = start + taken.num_rows, rows + taken.num_rows
            if rows == GROUP_ROWS:
                yield _table(held, schema)
                held, rows = [], 0
    if held:
        yield _table(held, schema)


def _table(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.chunked_array([batch.column(name) for batch in batches], type=schema.field(name).type)
        for name in schema.names
    ]
    # One chunk a column: where batches broke must leave no trace in the pages.
    return pa.table([array.combine_chunks() for array in arrays], schema=schema)


def _batches(files: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    for file in files:
        yield from read_table(file).to_batches()


def _row_batches(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    held: list[Mapping[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == BATCH:
            yield pa.RecordBatch.from_pylist(held, schema)
            held = []
    if held:
        yield pa.RecordBatch.from_pylist(held, schema)


def _sorted_journal(journal: Path) -> Iterator[dict[str, Any]]:
    """Answers by key, the last one where a prompt was answered twice: the one a resumed run finds.

    The texts stay on disk; memory holds 100 bytes for each, a key and a place, in columns.
    """
    schema = pa.schema(
        {"key": pa.string(), "prompt": pa.string(), "segment": pa.int32(), "start": pa.int64(), "length": pa.int32()}
    )
    places: list[pa.RecordBatch] = []
    held: list[dict[str, Any]] = []
    handles: list[int] = []
    apart: list[SharedMessages] = []
    try:
        for path in segments(journal):
            handles.append(os.open(path, os.O_RDONLY))
            apart.append(SharedMessages())
            offset = 0
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        row = _journal_row(path, offset, line)
                        if not apart[-1].holds(row):
                            place = {"segment": len(handles) - 1, "start": offset, "length": len(line)}
                            held.append({"key": row["key"], "prompt": row["prompt"], **place})
                    offset += len(line)
                    if len(held) >= BATCH:
                        places.append(pa.RecordBatch.from_pylist(held, schema))
                        held = []
        places.append(pa.RecordBatch.from_pylist(held, schema))
        for place in _last_of_each(pa.Table.from_batches(places, schema)):
            segment = place["segment"]
            row = apart[segment].whole(orjson.loads(os.pread(handles[segment], place["length"], place["start"])))
            scores = row["choice_logprobs"]
            if scores is not None:
                row["choice_logprobs"] = [{"choice": c, "logprob": scores[c]} for c in scores]
            yield row
    finally:
        for handle in handles:
            os.close(handle)


def _last_of_each(places: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows by key and prompt, the last of those that share both."""
    import numpy as np
    import pyarrow.compute as pc

    places = places.append_column("arrival", pa.array(np.arange(len(places))))
    order = pc.sort_indices(places, sort_keys=[(name, "ascending") for name in ("key", "prompt", "arrival")])
    before: dict[str, Any] | None = None
    for start in range(0, len(order), BATCH):
        for place in places.take(order.slice(start, BATCH)).to_pylist():
            if before is not None and (before["key"], before["prompt"]) != (place["key"], place["prompt"]):
                yield before
            before = place
    if before is not None:
        yield before


def _journal_row(path: Path, offset: int, line: bytes) -> dict[str, Any]:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise WorkspaceError(
            f"{path}: damaged at byte {offset} ({error}); restore it, or publish without it: publish.journal=false"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
