"""Rows of the user's sources: files of many formats, compressed or not, exports of annotation tools, data sets on the Hub.

What a row means, its text and its label, is the task's to say: see `Task.read_example`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.errors import DataError
from evokd_data.sources.exports import UNITS, Question, convert, detect
from evokd_data.sources.files import COMPRESSIONS, explained, open_text, suffix
from evokd_data.sources.json_files import read_array, read_lines
from evokd_data.sources.tables import read_csv, read_tsv
from evokd_data.tasks import Layout

if TYPE_CHECKING:
    from evokd_data.recipe_sections import Source
    from evokd_data.tasks import Task

Row = Mapping[str, Any]

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".feather")
"""Suffixes of files of rows. A task may read more of them, see `Task.suffixes`."""
LOOKED_AT = 1000
"""Rows among which the mark of an annotation tool is looked for: an export may begin with texts that nobody has labelled."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of a source, which can be read once, and how the task reads one. `format` names the tool that exported them."""

    rows: Iterator[Row]
    layout: Layout
    format: str | None = None


def open_source(source: Source, task: Task, labelled: bool = True) -> Reading:
    """Read a source, in its order; without `labelled` its labels are not looked at.

    Raises DataError, also while the rows are read, naming the file and the line or row.
    """
    rows = _rows(source, task, labelled)
    tool: str | None = source.format
    if tool is None and source.path is not None:
        first = list(islice(rows, LOOKED_AT))
        rows = chain(first, rows)
        tool = detect(first, lambda row: _is_row(row, source, task))
    if tool not in UNITS:
        return Reading(rows, source.layout)
    question = Question(task.target_of(task.labels[0]) is None, source.text, source.label)
    layout = replace(source.layout, text="text", label="label", offsets=source.offsets or UNITS[tool])
    return Reading(convert(rows, tool, question, str(source), labelled), layout, tool)


def raw_rows(source: Source) -> tuple[Iterator[Row], str | None]:
    """The rows of a source before any task reads them, and the tool that exported them (see `Reading.format`).

    Files of tokens with tags become rows {"tokens", "ner_tags"}. Raises DataError, also while the rows are read.
    """
    if source.dataset is not None:
        from evokd_data.sources.hub_datasets import read_hub

        return read_hub(source), None
    assert source.path is not None
    rows = _raw_file_rows(source.path)
    first = list(islice(rows, LOOKED_AT))
    return chain(first, rows), detect(first, lambda row: _is_plain_row(row))


def _raw_file_rows(path: Path) -> Iterator[Row]:
    from evokd_data.tasks.conll import SUFFIXES, sentences

    with explained(path):
        if suffix(path) in SUFFIXES:
            with open_text(path) as lines:
                yield from ({"tokens": tokens, "ner_tags": tags} for tokens, tags in sentences(lines, str(path)))
        else:
            yield from _table_rows(path, lambda cells: False, SUFFIXES)


def _is_plain_row(row: Row) -> bool:
    """Whether a row's labels are spans or a word, which a task reads as they are; lists of words are doccano's."""
    labels = row.get("label", row.get("labels", row.get("entities")))
    return not (isinstance(labels, list) and labels and isinstance(labels[0], str))


def _rows(source: Source, task: Task, labelled: bool) -> Iterator[Row]:
    if source.dataset is not None:
        from evokd_data.sources.hub_datasets import read_hub

        yield from read_hub(source)
        return
    path = source.path
    assert path is not None
    with explained(path):
        yield from _file_rows(path, source, task, labelled)


def _file_rows(path: Path, source: Source, task: Task, labelled: bool) -> Iterator[Row]:
    kind = suffix(path)
    if source.format == "conll" or (source.format is None and kind in task.suffixes):
        with open_text(path) as lines:
            yield from task.read_lines(lines, str(path))
        return

    yield from _table_rows(path, lambda cells: labelled and _is_row(cells, source, task), task.suffixes)


def _table_rows(path: Path, is_row: Callable[[Row], bool], others: Sequence[str]) -> Iterator[Row]:
    """The rows of a file in one of FORMATS. `is_row` as in `read_csv`; `others`: suffixes that the message names, too."""
    kind = suffix(path)
    match kind:
        case ".jsonl" | ".ndjson":
            yield from read_lines(path)
        case ".json":
            yield from read_array(path)
        case ".csv":
            yield from read_csv(path, is_row)
        case ".tsv":
            yield from read_tsv(path)
        case ".xlsx":
            from evokd_data.sources.sheets import read_sheet

            yield from read_sheet(path)
        case ".parquet" | ".arrow" | ".feather":
            from evokd_data.sources.arrow_files import read_arrow

            yield from read_arrow(path)
        case _:
            readable = ", ".join((*FORMATS, *others))
            raise DataError(
                f"{path}: unknown format {kind!r}; use one of {readable}, or one of these with "
                f"{', '.join(COMPRESSIONS)} behind it"
            )


def _is_row(row: Row, source: Source, task: Task) -> bool:
    """Whether the task can read it as it is."""
    try:
        task.read_example(row, "", source.layout)
    except DataError:
        return False
    return True
