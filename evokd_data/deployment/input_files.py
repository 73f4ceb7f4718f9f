"""Files that a student reads: which of their columns hold text and label, and how predictions stand beside the columns.

message            channel                 message            channel  label    probability
my router is dead  web          becomes    my router is dead  web      outage   0.9731
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import settings
from evokd_data.errors import DataError
from evokd_data.recipe_sections import Source
from evokd_data.seeds import refuse_lone_surrogates
from evokd_data.sources import Row, open_source, raw_rows
from evokd_data.tasks import PLAIN, Layout, Task, UnknownClass, has

if TYPE_CHECKING:
    import pyarrow as pa

    from evokd_data.deployment.opening import OpenedModel

LOOKED_AT = 100
"""Rows of a file with which the columns of the recipe are compared: the first may have no text or no label."""
PREDICTED = "predicted_"
"""Stands before the name of a prediction's column where the file has a column of that name."""
COLUMN_PAIRS = (("text_column", "label_column"), ("text_column", "spans_column"), ("tokens_column", "tags_column"))
"""Settings of a task that name the column of a text, and beside it that of its label."""
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Given:
    """A text to predict, and the columns that stand beside its prediction."""

    text: str
    row: Row


def source_of(model: OpenedModel, path: Path, text: str | None, label: str | None, *, labelled: bool = True) -> Source:
    """A file as a source. `text` and `label` name its columns. Without them its columns are those of the recipe: of its test, its
    seeds or its task, the first of these that the file's first rows have; the task's default columns, such as `text` and `label`,
    stand in for those that the file lacks. Raises DataError."""
    if text is not None and text == label:
        raise DataError(f"{path}: text and label are both {text!r}; name two columns: --text COLUMN, --label COLUMN")
    rows, tool = raw_rows(Source(path=path))
    first = list(islice(rows, LOOKED_AT)) if tool is None else []
    named = [replace(each, text=text or each.text, label=label or each.label) for each in (*model.layouts, PLAIN)]
    usual = [each for layout in named for each in _with_default_columns(model.task, first, layout, text, label)]
    fitting = (
        layout
        for with_label in dict.fromkeys((labelled, False))
        for layout in (*named, *usual)
        if _fits(model.task, first, layout, with_label)
    )
    layout = next(fitting, named[0])
    return Source(
        path=path, text=layout.text, label=layout.label, label_map=dict(layout.label_map), offsets=layout.offsets
    )


def _with_default_columns(
    task: Task, rows: Sequence[Row], layout: Layout, text: str | None, label: str | None
) -> Iterator[Layout]:
    """The layout with a default column of the task in place of each that no row has. `text` and `label`, the user's, stay."""
    columns = settings.table(task)
    defaults = {entry.name: entry.default for entry in fields(type(task))}  # type: ignore[arg-type]

    def there(named: str | None, chosen: str | None, setting: str) -> str:
        column = chosen or named or columns[setting]
        default = str(defaults[setting])
        missing = chosen is None and not any(has(row, column) for row in rows)
        return default if missing and any(has(row, default) for row in rows) else column

    for text_setting, label_setting in COLUMN_PAIRS:
        if text_setting in columns and label_setting in columns:
            found = there(layout.text, text, text_setting), there(layout.label, label, label_setting)
            yield replace(layout, text=found[0], label=found[1])


def _fits(task: Task, rows: Sequence[Row], layout: Layout, labelled: bool) -> bool:
    """Whether a row of the file can be read with this layout."""
    read = task.read_example if labelled else task.read_text
    for row in rows:
        try:
            read(row, "", layout)
        except DataError:
            continue
        return True
    return False


@dataclass(frozen=True)
class InputFile:
    """A file whose texts are predicted. `kinds`: column -> the types of its values, in the order in which they are met.

    `with_text`: the text of each row stands in one of its columns as it is. Where it does not, as with tokens, it becomes a column.
    """

    source: Source
    task: Task
    kinds: Mapping[str, set[type]] = field(default_factory=dict)
    with_text: bool = False

    @classmethod
    def of(cls, source: Source, task: Task) -> InputFile:
        """Read the file once for its columns. Raises DataError for a row without a text."""
        kinds: dict[str, set[type]] = {}
        with_text = True
        file = cls(source, task)
        for text, row in file._rows():
            for name, value in row.items():
                kinds.setdefault(name, set()).add(_kind(value))
            with_text = with_text and text in row.values()
        return replace(file, kinds=kinds, with_text=with_text and bool(kinds))

    @property
    def names(self) -> dict[str, str]:
        """What a prediction's columns are called in the output: "label" -> "label", or "predicted_label"."""
        names = {}
        for name in (*([] if self.with_text else ["text"]), *self.task.columns(), "probability"):
            column = name
            while column in self.kinds:
                column = PREDICTED + column
            names[name] = column
        return names

    @property
    def renamed(self) -> dict[str, str]:
        """Those of `names` that the file has already."""
        return {name: column for name, column in self.names.items() if name != column}

    def columns(self) -> dict[str, pa.DataType]:
        """The columns of the output: those of the file, then those of the prediction."""
        import pyarrow as pa

        types = {"text": pa.string(), **self.task.columns(), "probability": pa.float64()}
        return {
            **{name: _arrow_type(kinds) for name, kinds in self.kinds.items()},
            **{column: types[name] for name, column in self.names.items()},
        }

    def given(self) -> Iterator[Given]:
        """The texts with their rows, in order; each row has the columns of all."""
        empty = dict.fromkeys(self.kinds)
        for text, row in self._rows():
            yield Given(text, {**empty, **row})

    def _rows(self) -> Iterator[tuple[str, Row]]:
        reading = open_source(self.source, self.task, labelled=False)
        for number, row in enumerate(reading.rows, 1):
            location = f"{self.source}, row {number}"
            text = self.task.read_text(row, location, reading.layout)
            refuse_lone_surrogates(text, location)
            for name, value in ((name, row[name]) for name in row):
                if isinstance(value, str | list | dict):
                    written = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
                    refuse_lone_surrogates(written, f"{location}, column {name!r}")
            # An annotation tool's export has a form of its own, of which the text is what can stand in a table.
            yield text, {name: _stored(row[name]) for name in row} if reading.format is None else {"text": text}


def _stored(value: Any) -> Any:
    return value.number if isinstance(value, UnknownClass) else value


def _kind(value: Any) -> type:
    if type(value) is int and value not in INT64:
        return str
    return type(value)


def _arrow_type(kinds: set[type]) -> pa.DataType:
    """The type of a column in a Parquet file. Values of several types, and lists and tables, become strings."""
    import pyarrow as pa

    values = kinds - {type(None)}
    if values == {bool}:
        return pa.bool_()
    if values == {int}:
        return pa.int64()
    return pa.float64() if values and values <= {int, float} else pa.string()
