"""Rows of Excel workbooks (.xlsx), whose first row names the columns. Needs openpyxl, the extra [excel]."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evokd_data.errors import DataError
from evokd_data.sources.files import compression, open_bytes


def read_sheet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of the one sheet that holds any: texts, numbers and booleans as the cells have them, dates as texts.

    Empty rows are skipped; a cell without a value is None. Raises DataError for a workbook with several sheets, or without rows.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DataError(
            f"{path}: Excel files need the package openpyxl, which is not installed here; run: pip install "
            "'evokd-data[excel]', or save the sheet as .csv"
        ) from None
    with open_bytes(path) as file:
        try:
            workbook = load_workbook(file, read_only=True, data_only=True)
        except Exception as error:  # the library raises errors of many kinds for what is no workbook
            packed = " once it is unpacked" if compression(path) else ""
            raise DataError(f"{path}: cannot be read as .xlsx{packed} ({error}); save it anew, or as .csv") from None
        sheets = [sheet for sheet in workbook.worksheets if any(any(row) for row in sheet.iter_rows(values_only=True))]
        if len(sheets) > 1:
            names = ", ".join(repr(sheet.title) for sheet in sheets)
            raise DataError(f"{path}: has the sheets {names}; save the one with the texts as a file of its own")
        if sheets:
            yield from _rows(path, sheets[0].iter_rows(values_only=True))


def _rows(path: Path, lines: Iterator[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    header: list[str] | None = None
    for number, cells in enumerate(lines, 1):
        if all(cell is None for cell in cells):
            continue
        if header is None:
            header = ["" if cell is None else str(cell).strip() for cell in cells]
            names = [name for name in header if name]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise DataError(
                    f"{path}: row {number}: the header names {twice!r} twice; give each column another name"
                )
            continue
        yield {name: _value(cell) for name, cell in zip(header, cells, strict=False) if name}


def _value(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)
