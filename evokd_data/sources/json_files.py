"""Rows of JSON files: one object a line (.jsonl, .ndjson), or one array of objects (.json)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evokd_data import strict_json
from evokd_data.errors import DataError
from evokd_data.sources.files import open_text


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """One object a line; blank lines are skipped. Raises DataError naming the line."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _line(line, f"{path}:{number}")


def read_array(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of an array, or one object a line: many programs call both .json. Raises DataError."""
    with open_text(path) as file:
        text = file.read()
    if not text.lstrip().startswith("["):
        yield from _lines(text, path)
        return
    try:
        rows = strict_json.elements(text)
    except ValueError as error:
        remedy = "; write an array of objects" if "not JSON" in str(error) else ""
        raise DataError(f"{path}: {error}{remedy}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: element {number}, {_quoted(row)}, is not an object; write an array of objects")
        yield row


def _lines(text: str, path: Path) -> Iterator[dict[str, Any]]:
    if text.strip().startswith("{") and len(text.strip().splitlines()) > 1 and isinstance(_value(text), dict):
        raise DataError(
            f"{path}: holds one object, not a list of rows; write an array of objects, or one object a line"
        )
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _line(line, f"{path}:{number}")


def _value(text: str) -> Any:
    try:
        return strict_json.loads(text)
    except ValueError:
        return None


def _line(line: str, location: str) -> dict[str, Any]:
    try:
        row = strict_json.loads(line)
    except ValueError as error:
        remedy = "; one object a line" if str(error).startswith("not JSON") else ""
        raise DataError(f"{location}: {error}{remedy}") from None
    if not isinstance(row, dict):
        raise DataError(f"{location}: {line.strip()[:80]!r} is not an object; one object a line")
    return row


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
