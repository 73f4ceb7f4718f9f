"""The rows of a run as `datasets.Dataset`, and the features of rows: labels and types are ClassLabels, named as the recipe names them.

The files hold labels as text, which every reader understands. `datasets` casts text to class numbers wherever it is told the names:
in the card of a published round, and here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evokd_data.digest import digest
from evokd_data.storage.shards import (
    Withdrawn,
    read_table,
    rejection_schema,
    sample_schema,
    shard_content,
    without_rows,
)

if TYPE_CHECKING:
    from datasets import Dataset, Features

    from evokd_data.tasks import Task


def sample_features(task: Task) -> Features:
    """The features of a task's samples: those of `sample_schema`, with a ClassLabel at `Task.class_field`."""
    features = text_features(sample_schema(task))
    column, *path = task.class_field.split(".")
    features[column] = _with_classes(features[column], path, task.labels)
    return features


def text_features(schema: pa.Schema) -> Features:
    """The features of rows without classes."""
    from datasets import Features

    return Features.from_arrow_schema(schema)


def in_card(features: Features) -> list[dict[str, Any]]:
    """Features as the `dataset_info` of a card describes them."""
    from datasets import DatasetInfo

    described: list[dict[str, Any]] = DatasetInfo(features=features)._to_yaml_dict()["features"]
    return described


def _with_classes(feature: Any, path: Sequence[str], names: Sequence[str]) -> Any:
    """The feature with a ClassLabel at the end of a path through structs; lists on the way are no step of it."""
    from datasets import ClassLabel, List

    if isinstance(feature, List):
        return List(_with_classes(feature.feature, path, names))
    if not path:
        return ClassLabel(names=list(names))
    return {**feature, path[0]: _with_classes(feature[path[0]], path[1:], names)}


def samples_dataset(task: Task, shards: Sequence[Path], withdrawn: Withdrawn = frozenset()) -> Dataset:
    """The samples of some shards that are not withdrawn, in order. All but the class numbers stays on disk, memory-mapped.

    Raises WorkspaceError when a shard is damaged.
    """
    key = digest([[shard_content(path) for path in shards], sorted(withdrawn)])
    return _dataset(shards, sample_schema(task), sample_features(task), key, withdrawn)


def rejections_dataset(files: Sequence[Path], reason: str | None = None) -> Dataset:
    """The rejections of some files, in order, all or those of one reason, memory-mapped.

    Raises WorkspaceError when a file is damaged.
    """
    schema = rejection_schema()
    rows = _dataset(files, schema, text_features(schema), digest([shard_content(path) for path in files]))
    if reason is None:
        return rows
    chosen = [index for index, other in enumerate(rows.data.column("reason").to_pylist()) if other == reason]
    return rows.select(chosen)


def _dataset(
    files: Iterable[Path],
    schema: pa.Schema,
    features: Features,
    fingerprint: str,
    withdrawn: Withdrawn = frozenset(),
) -> Dataset:
    from datasets import Dataset, DatasetInfo
    from datasets.table import InMemoryTable, table_cast

    schema = schema.remove_metadata()
    tables = [
        without_rows(read_table(path).select(schema.names).replace_schema_metadata(None), withdrawn) for path in files
    ]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    rows = table_cast(table, features.arrow_schema)
    return Dataset(InMemoryTable(rows), info=DatasetInfo(features=features), fingerprint=fingerprint[:16])
