"""Rows of predictions as a file or a stream, written piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import orjson

from evokd_data.atomic_files import whole_file
from evokd_data.errors import DataError

if TYPE_CHECKING:
    from evokd_data.tasks import Task

GROUP = 65_536
"""Rows of a row group of Parquet: the most that are in memory."""
SUFFIXES = (".jsonl", ".csv", ".parquet")

Row = Mapping[str, Any]


class RowWriter(Protocol):
    """What takes rows, all with the same keys in the same order."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows behind those before."""


class JsonLines:
    """One JSON object a line. The stream is flushed after each piece."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, rows: Sequence[Row]) -> None:
        """See `RowWriter`."""
        self._stream.write(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        self._stream.flush()


class Csv:
    """RFC 4180 with every string quoted, so that no character of a text ends its cell; spans are cells of JSON."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Row]) -> None:
        """See `RowWriter`."""
        for row in rows:
            self._writer.writerow(
                [orjson.dumps(value).decode() if isinstance(value, list) else value for value in row.values()]
            )
        self.flush()

    def flush(self) -> None:
        """Hand on what is written, the header of a file without rows, too."""
        self._stream.write(self._text.getvalue().encode("utf-8"))
        self._stream.flush()
        self._text.seek(0)
        self._text.truncate()


class Parquet:
    """Rows gathered into row groups."""

    def __init__(self, path: Path, task: Task) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema({"text": pa.string(), **task.columns(), "probability": pa.float64()})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        """See `RowWriter`."""
        self._rows += rows
        if len(self._rows) >= GROUP:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> None:
        """Write what is gathered, and the end of the file."""
        if self._rows:
            self._write_group()
        self._writer.close()


@contextmanager
def open_writer(out: Path, task: Task) -> Iterator[RowWriter]:
    """A file that appears whole at the end of the block, or not at all. Raises DataError for an unknown suffix."""
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{out}: unknown format {suffix!r}; use {', '.join(SUFFIXES)}")
    with whole_file(out) as draft:
        if suffix == ".parquet":
            parquet = Parquet(draft, task)
            try:
                yield parquet
            finally:
                parquet.close()
            return
        with draft.open("wb") as stream:
            if suffix == ".jsonl":
                yield JsonLines(stream)
                return
            table = Csv(stream, ["text", *task.columns(), "probability"])
            yield table
            table.flush()
