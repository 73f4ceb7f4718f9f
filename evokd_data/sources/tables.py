"""Rows of .csv and .tsv files, whose first line names the columns.

In a .csv file quotes are read strictly (RFC 4180). Most .tsv files know no quotes at all, so there a quote is an ordinary
character, unless the whole file is written with quotes as RFC 4180 wants them.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from evokd_data.errors import DataError
from evokd_data.sources.files import open_text

Cells = dict[str, str | None]

_TSV_FIELD = re.compile(r'"((?:[^"]|"")*)"|([^"\t\r\n]*)')
_TSV_END = re.compile(r"\t|\r\n|\r|\n|\Z")


def read_csv(path: Path, is_row: Callable[[Cells], bool]) -> Iterator[Cells]:
    """The rows as strings, None where a line ends early.

    `is_row` says whether cells could be a row of their own: a quote that was never closed makes a text of rows.
    Raises DataError naming the line.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a text may be long; the default refuses 131,072 characters
    with open_text(path, newline="") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        header: list[str] | None = None
        while True:
            lines.of_record.clear()
            start = lines.number + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DataError(_csv_fault(path, start, lines.number, error)) from None
            if cells is None:
                return
            if not cells:
                continue
            if header is None:
                header = _checked_header(cells, f"{path}:{start}", ",")
                continue
            if len(lines.of_record) > 1 and _first_line_is_a_row(lines.of_record[0], header, is_row):
                raise DataError(
                    f"{path}:{start}: a text in quotes goes on over {len(lines.of_record)} lines, and the first of them is a "
                    "row of its own; close the quote, or write a quote that belongs to the text twice; if the text is right, "
                    "write the file as .jsonl"
                )
            yield _row(header, cells, f"{path}:{start}", ",")


def read_tsv(path: Path) -> Iterator[Cells]:
    """The rows as strings, None where a line ends early. Raises DataError naming the line."""
    with open_text(path, newline="") as file:
        text = file.read()
    end = "\n" if "\n" in text else "\r"
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split(end), 1) if line.strip("\r\n")]
    records = [_Record(number, line.split("\t")) for number, line in lines]
    if not records:
        return
    if '"' in text and _is_quoted(quoted := _quoted_records(text), records, path):
        records = quoted
    header = _checked_header(records[0].cells, f"{path}:{records[0].line}", "\t")
    for record in records[1:]:
        yield _row(header, record.cells, f"{path}:{record.line}", "\t")


@dataclass
class _Lines:
    """The lines of a file, for the csv module, which counts them but does not show them."""

    file: TextIO
    number: int = 0
    of_record: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.file)
        self.number += 1
        self.of_record.append(line)
        return line


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of a table. `needed`: each of its quoted fields has a character that needs quotes; `quoted`: how many are."""

    line: int
    cells: list[str]
    quoted: int = 0
    needed: bool = True


def _quoted_records(text: str) -> list[_Record]:
    """The records of a table in which quotes are written as RFC 4180 wants them; empty when this is none."""
    records: list[_Record] = []
    cells: list[str] = []
    position = quoted = 0
    line = first = 1
    needed = True
    while position < len(text):
        match = _TSV_FIELD.match(text, position)
        assert match is not None
        if match[1] is not None:
            cells.append(match[1].replace('""', '"'))
            quoted += 1
            needed = needed and (not match[1] or re.search(r'["\t\r\n]', match[1]) is not None)
            line += match[1].count("\n")
        else:
            cells.append(match[2])
        end = _TSV_END.match(text, match.end())
        if end is None:
            return []
        position = end.end()
        if end[0] == "\t" and position < len(text):
            continue
        if end[0] == "\t":
            cells.append("")
        if cells != [""] or quoted:
            records.append(_Record(first, cells, quoted, needed))
        cells, quoted, needed = [], 0, True
        line += 1
        first = line
    return records


def _is_quoted(quoted: Sequence[_Record], plain: Sequence[_Record], path: Path) -> bool:
    """Whether the file is written with quotes: all of it can be read so, and quotes stand where a writer puts them.

    Writers quote either every text, then those of the header, too, or only texts that hold a tab, a line break or a quote.
    Raises DataError where the file is sound in both ways and means something else in each.
    """
    if not quoted or any(len(record.cells) != len(quoted[0].cells) for record in quoted):
        return False
    lines_are_rows = all(len(record.cells) == len(plain[0].cells) for record in plain)
    if not (quoted[0].quoted or all(record.needed for record in quoted)):
        return not lines_are_rows
    if lines_are_rows and len(quoted) != len(plain):
        row = next(i for i, (a, b) in enumerate(zip(quoted, plain, strict=False)) if a.cells != b.cells)
        raise DataError(
            f"{path}:{plain[row].line}: a quote opens here and closes on another line, yet each line is a row of its own; "
            "remove the quote, or write the file as .jsonl, where quotes have one meaning"
        )
    return True


def _checked_header(cells: Sequence[str], location: str, separator: str) -> list[str]:
    names = [name for name in cells if name]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{location}: the header names {name!r} twice; give each column another name")
    if len(cells) == 1:
        for other in {",": ";\t", "\t": ";,"}[separator]:
            if other in cells[0]:
                raise DataError(
                    f"{location}: the header {cells[0][:80]!r} has no {separator!r}, which separates the columns of a "
                    f"{'.csv' if separator == ',' else '.tsv'} file; save the file with {separator!r} in place of {other!r}"
                )
    return list(cells)


def _row(header: Sequence[str], cells: Sequence[str], location: str, separator: str) -> Cells:
    if any(cells[len(header) :]):  # without this check, half of a text with a comma in it would pass for the whole
        remedy = "put texts that hold one in quotes" if separator == "," else "a text cannot hold one"
        raise DataError(
            f"{location}: has {len(cells)} fields, the header {len(header)}; {separator!r} separates fields: {remedy}"
        )
    padded = [*cells, *[None] * (len(header) - len(cells))]
    return {name: cell for name, cell in zip(header, padded, strict=False) if name}


def _first_line_is_a_row(line: str, header: Sequence[str], is_row: Callable[[Cells], bool]) -> bool:
    """Whether the first line of a record would be a row without the quote that opens in it and does not close."""
    if line.count('"') != 1:
        return False
    cells = line.rstrip("\r\n").split(",")
    return len(cells) == len(header) and is_row(_row(header, cells, "", ","))


def _csv_fault(path: Path, start: int, end: int, error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return f"{path}:{start}: a quote opens here and never closes; close it, or write a quote of the text twice in quotes"
    where = f"{path}:{start}" if start == end else f"{path}:{start} to {end}"
    if "expected after" in str(error):
        return f"{where}: a text goes on after its closing quote; put the whole text in quotes and write each quote within it twice"
    return f"{where}: not CSV ({error}); mend that line"
