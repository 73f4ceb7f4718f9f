"""Rows of predictions as a file or a stream, written piece by piece."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import orjson

from evokd_data.atomic_files import whole_file
from evokd_data.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from evokd_data.tasks import Task

GROUP = 65_536
"""Rows of a row group of Parquet: the most that are in memory."""
SUFFIXES = (".jsonl", ".csv", ".parquet")

Row = Mapping[str, Any]


class RowWriter(Protocol):
    """What takes rows, all with the same keys in the same order."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows behind those before."""


def as_json(value: Any) -> bytes:
    """JSON of a value of a user's file. What JSON has no form for, such as a date, becomes a string."""
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # a whole number of more than 64 bits
        return json.dumps(value, default=str, ensure_ascii=False).encode()


class JsonLines:
    """One JSON object a line. The stream is flushed after each piece."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, rows: Sequence[Row]) -> None:
        """See `RowWriter`."""
        self._stream.write(b"".join(as_json(row) + b"\n" for row in rows))
        self._stream.flush()


class Csv:
    """RFC 4180 with every string quoted, so that no character of a text ends its cell; lists and tables are cells of JSON."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Row]) -> None:
        """See `RowWriter`."""
        for row in rows:
            self._writer.writerow(
                [as_json(value).decode() if isinstance(value, list | dict) else value for value in row.values()]
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

    def __init__(self, path: Path, columns: Mapping[str, pa.DataType]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema(columns)
        self._strings = [name for name, kind in columns.items() if kind == pa.string()]
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        """See `RowWriter`."""
        self._rows += [{**row, **{name: _as_string(row[name]) for name in self._strings}} for row in rows]
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


def line_columns(task: Task) -> dict[str, pa.DataType]:
    """The columns of predicted lines of a stream."""
    import pyarrow as pa

    return {"text": pa.string(), **task.columns(), "probability": pa.float64()}


def _as_string(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    text = as_json(value).decode()
    # A date is the string that JSON has for it, without its quotes.
    return str(json.loads(text)) if text.startswith('"') else text


def checked_suffix(out: Path) -> str:
    """The suffix of a file to write, in lower case. Raises DataError for an unknown one."""
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{out}: unknown format {suffix!r}; use {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def open_writer(out: Path, columns: Mapping[str, pa.DataType]) -> Iterator[RowWriter]:
    """A file that appears whole at the end of the block, or not at all. Raises DataError for an unknown suffix."""
    suffix = checked_suffix(out)
    with whole_file(out) as draft:
        if suffix == ".parquet":
            parquet = Parquet(draft, columns)
            try:
                yield parquet
            finally:
                parquet.close()
            return
        with draft.open("wb") as stream:
            if suffix == ".jsonl":
                yield JsonLines(stream)
                return
            table = Csv(stream, list(columns))
            yield table
            table.flush()
