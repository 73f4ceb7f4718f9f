"""Rows of Parquet and Arrow files, with the names of classes in place of their numbers where the file's metadata has them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.errors import DataError
from evokd_data.sources.features import decoder
from evokd_data.sources.files import compression, open_bytes, suffix

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"ARROW1"  # an Arrow file begins with it, a stream does not
ROWS = 1024  # converted to Python objects at a time


def read_arrow(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, or of an Arrow file in either of Arrow's two formats. Raises DataError."""
    import pyarrow as pa

    number = 0
    try:
        schema, batches = _parquet(path) if suffix(path) == ".parquet" else _ipc(path)
        twice = [name for name, times in Counter(schema.names).items() if times > 1]
        if twice:
            raise DataError(f"{path}: has two columns called {twice[0]!r}; give each column another name")
        named = decoder(_features(schema))
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield named(row)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: the text of a row after row {number} is not UTF-8 ({error.reason}); write the file anew"
        ) from None
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        kind = suffix(path).removeprefix(".")
        raise DataError(f"{path}: cannot be read ({reason}); is it a whole {kind} file?") from None


def _parquet(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if compression(path):
        with open_bytes(path) as file:
            reader = pq.ParquetFile(pa.BufferReader(file.read()))
    else:
        reader = pq.ParquetFile(path)
    return reader.schema_arrow, reader.iter_batches(ROWS)


def _ipc(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import pyarrow as pa

    if compression(path):
        with open_bytes(path) as stream:
            source: Any = pa.BufferReader(stream.read())
    else:
        source = pa.memory_map(str(path))
    is_file = source.read(len(MAGIC)) == MAGIC
    source.seek(0)
    # `datasets` writes the stream format, most others the file format.
    table = (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()
    return table.schema, iter(table.to_batches(ROWS))


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` wrote about the columns; empty when another program wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}
