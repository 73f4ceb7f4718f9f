"""Write the rows of a round as one file that this package and pandas read back as they were."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from evokd_data.atomic_files import whole_file
from evokd_data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 1024  # rows in memory


def write_rows(rows: Dataset, out: Path) -> None:
    """Write all rows as one file, whole or not at all. `out` ends in .jsonl, .csv, .parquet or .arrow, else DataError."""
    writers = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet, ".arrow": _write_arrow}
    write = writers.get(out.suffix.lower())
    if write is None:
        raise DataError(f"{out}: unknown format {out.suffix!r}; use {', '.join(writers)}")
    with whole_file(out) as draft:
        write(rows, draft)


def _write_jsonl(rows: Dataset, out: Path) -> None:
    with out.open("wb") as file:
        for row in _plain(rows):
            file.write(orjson.dumps(row) + b"\n")


def _write_csv(rows: Dataset, out: Path) -> None:
    """Every string is quoted, so that no character of a text ends its cell; spans and soft labels are cells of JSON, and a cell
    without a value is empty."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(rows.column_names)
        for row in _plain(rows):
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> str | int | float | None:
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value


def _write_parquet(rows: Dataset, out: Path) -> None:
    rows.to_parquet(out)


def _write_arrow(rows: Dataset, out: Path) -> None:
    import pyarrow as pa

    table = rows.data.table
    with pa.OSFile(str(out), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _plain(rows: Dataset) -> Iterator[dict[str, Any]]:
    for batch in rows.with_format("arrow").iter(BATCH):
        yield from batch.to_pylist()
