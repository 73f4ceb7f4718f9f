"""Conversion of shards, rejections, probe and journal to the Parquet files of a revision, and back.

The same rows give the same bytes under the same pyarrow: row groups have a fixed number of rows, however the rows are divided
into shards. The options are those of `datasets`, with zstd: content-defined chunks, so that a store of several revisions
keeps common data once, and a page index, so that a viewer can read one page. Memory: one row group.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evokd_data.errors import VerificationError
from evokd_data.records import Sample
from evokd_data.storage.journal import SharedMessages, segments, sound_row
from evokd_data.storage.journal_lines import damaged, decode_line, read_lines
from evokd_data.storage.shards import (
    BATCH,
    SCHEMA_VERSION,
    Withdrawn,
    probe_schema,
    read_table,
    rejection_schema,
    row_sample,
    sample_schema,
    without_rows,
)

if TYPE_CHECKING:
    from evokd_data.tasks import Task

GROUP_ROWS = 16_384  # 5 to 50 MB of text: the unit that a reader holds in memory, or skips
FILE_BYTES = 500_000_000  # like `datasets`: viewers can open such files, and one commit can hold all of them
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
    """Write the rows of shards, in order, as Parquet files into `folder`. No rows: no file."""
    return write_files(_batches(shards), sample_schema(task), folder)


def write_live_samples(
    task: Task,
    shards: Iterable[Path],
    rows_of_files: Sequence[int],
    newly: Withdrawn,
    withdrawn: Withdrawn,
    folder: Path,
) -> dict[int, Path]:
    """Write a round's files again, without the `withdrawn` rows: those of which a row is `newly` withdrawn. Number of file -> new file.

    `rows_of_files` are the rows of the round's files as they were published. Memory: the files that are written again.
    """
    tables = [read_table(path).replace_schema_metadata(None) for path in shards]
    table = pa.concat_tables(tables) if tables else sample_schema(task).empty_table()
    written, start = dict[int, Path](), 0
    for number, rows in enumerate(rows_of_files):
        original = table.slice(start, rows)
        start += rows
        if without_rows(original, newly).num_rows < rows:
            live = without_rows(original, withdrawn)
            (written[number],) = write_files(
                live.to_batches(), sample_schema(task), folder / f"{number:05d}", empty=True
            )
    return written


def write_rejections(files: Iterable[Path], folder: Path) -> list[Path]:
    """Write the rows of rejection files, in order. No rows: no file."""
    return write_files(_batches(files), rejection_schema(), folder)


def write_probe(file: Path, folder: Path) -> list[Path]:
    """Write a round's predictions, in order. No predictions: no file."""
    return write_files(_batches([file] if file.exists() else []), probe_schema(), folder)


def write_journal(journal: Path, folder: Path) -> list[Path]:
    """Write all answers of a round's journal, sorted by key, because the order of arrival differs from run to run."""
    rows = _sorted_journal(journal)
    return write_files(_row_batches(rows, JOURNAL_SCHEMA), JOURNAL_SCHEMA, folder)


def read_samples(task: Task, files: Iterable[Path]) -> Iterator[Sample]:
    """The samples of Parquet files, in order. Raises VerificationError, which names the file, when a row is not a sample."""
    for file in files:
        for row in read_rows(file):
            try:
                yield row_sample(task, row)
            except (KeyError, TypeError, ValueError) as error:
                raise VerificationError(
                    f"{file}: holds a row that is not a sample ({error!r}); download it again"
                ) from None


def read_journal(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The answers of Parquet files, in order, as `journal.record` made them."""
    for file in files:
        for row in read_rows(file):
            scores = row["choice_logprobs"]
            yield {**row, "choice_logprobs": None if scores is None else {s["choice"]: s["logprob"] for s in scores}}


def read_rows(file: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of one file, with all or some `columns`, read in batches.

    Raises VerificationError when it is not a complete Parquet file.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as reader:
            for batch in reader.iter_batches(BATCH, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _incomplete(file, error) from None


EXPANSION = 200
"""How many times its bytes a file may become in memory, from EXPANSION_FROM bytes on. Texts that differ become 2 to 10 times."""
EXPANSION_FROM = 256 * 2**20


ROWS_FROM = 1_000_000
"""From so many rows on a file has at least a byte for each: no two rows are equal."""


def check_expansion(file: Path) -> None:
    """Raises VerificationError when a file of a few bytes would fill the memory: one long value that is repeated by reference.

    The values that stand for others are measured and not copied. Memory: one batch, and the file's different values.
    """
    import pyarrow.parquet as pq

    limit, size = max(EXPANSION_FROM, EXPANSION * file.stat().st_size), 0
    try:
        footer = pq.read_metadata(file)
        groups = map(footer.row_group, range(footer.num_row_groups))
        if (
            footer.num_rows > max(ROWS_FROM, file.stat().st_size)
            or sum(group.total_byte_size for group in groups) > limit
        ):
            raise _expands(file, limit)
        paths = [footer.schema.column(i).path for i in range(footer.num_columns)]
        with pq.ParquetFile(file, read_dictionary=paths) as reader:
            for batch in reader.iter_batches(BATCH):
                size += sum(map(_decoded_bytes, batch.columns))
                if size > limit:
                    raise _expands(file, limit)
    except (pa.ArrowException, OSError) as error:
        raise _incomplete(file, error) from None


def _decoded_bytes(column: pa.Array) -> int:
    """The bytes of a column when every reference to a value is replaced by the value."""
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        return pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0
    if pa.types.is_list(column.type):
        return 4 * len(column) + _decoded_bytes(column.flatten())
    if pa.types.is_struct(column.type):
        return sum(map(_decoded_bytes, column.flatten()))
    return column.nbytes


def _expands(file: Path, limit: int) -> VerificationError:
    return VerificationError(
        f"{file}: would become more than {limit} bytes in memory, {EXPANSION} times its size; it is not read"
    )


def count_rows(file: Path) -> int:
    """The number of rows in the file's footer. Raises VerificationError when the file has no footer."""
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as error:
        raise _incomplete(file, error) from None


def _incomplete(file: Path, error: BaseException) -> VerificationError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return VerificationError(f"{file}: no whole Parquet file ({reason}); download it again")


def write_files(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path, *, empty: bool = False
) -> list[Path]:
    """Write batches of any size as files of about `FILE_BYTES`, in order, named 00000.parquet, 00001.parquet, ...

    Without a row there is no file, or with `empty` one that holds the columns.
    """
    import pyarrow.parquet as pq

    schema = _with_features(schema)
    paths: list[Path] = []
    writer: pq.ParquetWriter | None = None
    sink: Any = None
    try:
        groups = _groups(batches, schema)
        for group in chain(groups, [schema.empty_table()] if empty else ()):
            if not group.num_rows and paths:
                continue
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


def _with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the metadata from which `datasets` takes its features, so that no reader has to infer types."""
    from datasets import Features

    metadata = Features.from_arrow_schema(schema).arrow_schema.metadata
    return schema.with_metadata({**(schema.metadata or {}), **metadata})


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of exactly `GROUP_ROWS` rows; the last one may be shorter."""
    group: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, GROUP_ROWS - rows)
            group.append(piece)
            start, rows = start + piece.num_rows, rows + piece.num_rows
            if rows == GROUP_ROWS:
                yield _table(group, schema)
                group, rows = [], 0
    if group:
        yield _table(group, schema)


def _table(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.chunked_array([batch.column(name) for batch in batches], type=schema.field(name).type)
        for name in schema.names
    ]
    # One chunk for each column: the pages must not depend on how the rows were divided into batches.
    return pa.table([array.combine_chunks() for array in arrays], schema=schema)


def _batches(files: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    for file in files:
        yield from read_table(file).to_batches()


def _row_batches(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield pa.RecordBatch.from_pylist(batch, schema)
            batch = []
    if batch:
        yield pa.RecordBatch.from_pylist(batch, schema)


LINE_SCHEMA = pa.schema(
    {"key": pa.string(), "prompt": pa.string(), "segment": pa.int32(), "start": pa.int64(), "length": pa.int32()}
)
"""An answer's line in a journal: its offset and length in one of the segments."""


def _sorted_journal(journal: Path) -> Iterator[dict[str, Any]]:
    """The journal's answers, sorted by key. Of two answers to one prompt the last one counts, as it does in a resumed run.

    The texts stay on disk. Memory: 100 bytes for each answer, a row of `LINE_SCHEMA`.
    """
    descriptors: list[int] = []
    shared: list[SharedMessages] = []

    def lines() -> Iterator[dict[str, Any]]:
        for path in segments(journal):
            descriptors.append(os.open(path, os.O_RDONLY))
            shared.append(SharedMessages())
            for offset, length, row in read_lines(path):
                if not shared[-1].add_if_message(row):
                    place = {"segment": len(descriptors) - 1, "start": offset, "length": length}
                    yield {"key": row["key"], "prompt": row["prompt"], **place}

    try:
        index = pa.Table.from_batches(_row_batches(lines(), LINE_SCHEMA), LINE_SCHEMA)
        for line in _last_answers(index):
            segment = line["segment"]
            data = os.pread(descriptors[segment], line["length"], line["start"])
            answer = decode_line(data)
            if answer is None:
                raise damaged(journal, line["start"])
            row = sound_row(shared[segment].expand(answer))
            scores = row["choice_logprobs"]
            if scores is not None:
                row["choice_logprobs"] = [{"choice": c, "logprob": scores[c]} for c in scores]
            yield row
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _last_answers(lines: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows of `LINE_SCHEMA` sorted by key and prompt. Of rows that share both, only the last one."""
    import numpy as np
    import pyarrow.compute as pc

    lines = lines.append_column("arrival", pa.array(np.arange(len(lines))))
    order = pc.sort_indices(lines, sort_keys=[(name, "ascending") for name in ("key", "prompt", "arrival")])
    previous: dict[str, Any] | None = None
    for start in range(0, len(order), BATCH):
        for line in lines.take(order.slice(start, BATCH)).to_pylist():
            if previous is not None and (previous["key"], previous["prompt"]) != (line["key"], line["prompt"]):
                yield previous
            previous = line
    if previous is not None:
        yield previous
