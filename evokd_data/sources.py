"""Rows of the user's sources: jsonl, csv, parquet and arrow files, files in a format of the task, and data sets on the Hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.errors import DataError

if TYPE_CHECKING:
    from evokd_data.recipe_sections import Source
    from evokd_data.tasks import Task

Row = Mapping[str, Any]


def read_rows(source: Source, task: Task) -> Iterator[Row]:
    """The rows of a source, in its order. Raises DataError, naming the file and the line, for what cannot be read."""
    if source.dataset is not None:
        yield from _hub_rows(source)
        return
    path = source.path
    assert path is not None
    try:
        match path.suffix.lower():
            case ".jsonl" | ".ndjson":
                yield from _json_rows(path)
            case ".csv" | ".tsv":
                yield from _csv_rows(path)
            case ".parquet" | ".arrow":
                yield from _arrow_rows(path)
            case _:
                yield from task.read_file(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; paths are relative to the recipe") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file that can be read") from None


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON ({error}); one object a line") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: {line.strip()[:80]!r} is not an object; one object a line")
            yield row


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                if None in row:  # without this check, half of a text with a comma in it would pass for the whole
                    raise DataError(
                        f"{path}:{reader.line_num}: has more fields than the header; put texts that hold a "
                        f"{reader.reader.dialect.delimiter!r} in quotes"
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}:{reader.reader.line_num}: not CSV ({error}); mend that line") from None


def _arrow_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            with pa.memory_map(str(path)) as file:
                try:
                    table = pa.ipc.open_file(file).read_all()
                except pa.ArrowInvalid:  # `datasets` writes the stream format, most others the file format
                    table = pa.ipc.open_stream(file).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); is it a whole {path.suffix[1:]} file?") from None
    for batch in table.to_batches(1024):
        yield from batch.to_pylist()


def _hub_rows(source: Source) -> Iterator[Row]:
    """Rows of a Hub data set at its pinned revision, with the names of classes in place of their numbers.

    The revision is resolved to a commit first: `load_dataset` alone may answer with another revision out of its cache when
    the Hub does not answer (datasets' CachedDatasetModuleFactory).
    """
    from datasets import ClassLabel, load_dataset
    from huggingface_hub import HfApi

    assert source.dataset is not None
    try:
        commit = HfApi().dataset_info(source.dataset, revision=source.revision).sha
        dataset = load_dataset(source.dataset, source.config, split=source.split, revision=commit)
    except Exception as error:  # the clients raise dozens of kinds, all of which mean: this source cannot be had
        raise DataError(
            f"{source}: cannot be loaded: {type(error).__name__}: {error}; check the id, the revision and your access"
        ) from error
    class_names = {
        column: kind.names
        for column, feature in dataset.features.items()
        if isinstance(kind := getattr(feature, "feature", feature), ClassLabel)
    }

    def named(column: str, value: Any) -> Any:
        if column not in class_names or value is None:
            return value
        names = class_names[column]
        return [names[number] for number in value] if isinstance(value, list) else names[value]

    for row in dataset:
        yield {column: named(column, value) for column, value in row.items()}
