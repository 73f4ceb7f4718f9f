"""The rows of a repository's Parquet files, a page of them at a time, for a browser."""

from __future__ import annotations

import fnmatch
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from evokd_data.localhub.trees import Entry

PER_PAGE = 20
MAX_CELL = 600  # characters
MAX_GROUP_BYTES = 256 * 1024**2
"""Of the columns of a row group in memory; rows of a larger one are not shown."""
MAX_CONFIGS = 200


@dataclass(frozen=True)
class RowPage:
    """Some rows of several files in a row. `total`: rows of all files. `problem`: why there are none, else ""."""

    columns: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    total: int = 0
    problem: str = ""


def row_files(card: Mapping[str, Any], files: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Name of each config of the card -> its Parquet files that are there. Without configs: "default" -> all Parquet files."""
    parquet = [entry for entry in files if entry.path.endswith(".parquet")]
    configs = card.get("configs")
    named: dict[str, list[Entry]] = {}
    for config in configs[:MAX_CONFIGS] if isinstance(configs, list) else ():
        if isinstance(config, dict) and isinstance(config.get("config_name"), str):
            patterns = list(_patterns(config.get("data_files")))
            chosen = [entry for entry in parquet if any(fnmatch.fnmatchcase(entry.path, each) for each in patterns)]
            if chosen:
                named[config["config_name"]] = chosen
    return named or ({"default": parquet} if parquet else {})


def _patterns(data_files: object) -> Iterator[str]:
    if isinstance(data_files, str):
        yield data_files
    elif isinstance(data_files, list):
        for each in data_files:
            yield from _patterns(each)
    elif isinstance(data_files, dict):
        yield from _patterns(data_files.get("path"))


def read_page(sources: Iterable[Path | bytes], first: int) -> RowPage:
    """PER_PAGE rows from the row `first` on. `sources`: paths or contents of Parquet files, one after the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: list[str] = []
    rows: list[dict[str, Any]] = []
    total = 0
    for source in sources:
        try:
            with pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
                columns = columns or file.schema_arrow.names
                rows += _rows(
                    file, max(0, first - total), PER_PAGE - len(rows) if first < total + file.metadata.num_rows else 0
                )
                total += file.metadata.num_rows
        except _TooLarge as error:
            return RowPage(problem=str(error))
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            return RowPage(problem=f"a file is no Parquet file that can be read: {str(error)[:200]}")
    return RowPage(columns, rows, total)


class _TooLarge(Exception):
    pass


def _rows(file: Any, first: int, count: int) -> list[dict[str, Any]]:
    """At most `count` rows from the row `first` of a file on. Reads the row groups that hold them alone."""
    rows: list[dict[str, Any]] = []
    for group in range(file.metadata.num_row_groups):
        metadata = file.metadata.row_group(group)
        if first >= metadata.num_rows or len(rows) >= count:
            first = max(0, first - metadata.num_rows)
            continue
        if metadata.total_byte_size > MAX_GROUP_BYTES:
            raise _TooLarge(f"the rows are in groups of more than {MAX_GROUP_BYTES >> 20} MB; load the file instead")
        for batch in file.iter_batches(PER_PAGE, row_groups=[group]):
            if first < batch.num_rows and len(rows) < count:
                rows += batch.slice(first, count - len(rows)).to_pylist()
            first = max(0, first - batch.num_rows)
            if len(rows) >= count:
                break
    return rows


def table_html(page: RowPage) -> str:
    """The rows as a table. Words of spans are marked where a row has `tokens` and as many `ner_tags`."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in page.columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(name, row)}</td>' for name in page.columns)}</tr>" for row in page.rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(name: str, row: Mapping[str, Any]) -> str:
    value, tags = row[name], row.get("ner_tags")
    if name == "tokens" and isinstance(value, list) and isinstance(tags, list) and len(tags) == len(value):
        words = (
            f"<mark title='{escape(str(tag), quote=True)}'>{escape(str(word))}</mark>"
            if tag not in (0, "O")
            else escape(str(word))
            for word, tag in list(zip(value, tags, strict=True))[: MAX_CELL // 6]
        )
        return f"<span class=foreign>{' '.join(words)}</span>"
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shortened = text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"
    return f"<span class=foreign>{escape(shortened)}</span>"
