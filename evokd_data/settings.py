"""A table of a recipe -> a frozen dataclass, strictly: unknown keys and wrong values become problems with their path."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from evokd_data.digest import file_digest
from evokd_data.registry import nearest

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
NOT_IDENTITY: Any = {"identity": False}
"""`field(metadata=...)` of a setting that cannot change a row of a round: how fast, how much, where."""


def build(cls: type[T], table: Mapping[str, Any], path: str) -> tuple[T | None, list[str]]:
    """The dataclass made from the table, or None and what is wrong with it, one line a problem.

    Types are checked as in JSON: `1` is no string, `"1"` no number, a list makes a tuple.
    """
    from pydantic import TypeAdapter, ValidationError

    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    problems = [f"{path}.{key}: no such setting{nearest(str(key), names)}" for key in table if key not in names]
    known = {key: value for key, value in table.items() if key in names}
    if infinite := list(_not_finite(known, path)):
        return None, problems + infinite
    try:
        made = TypeAdapter(cls).validate_json(json.dumps(known, default=str), strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False):
            where = ".".join(str(part) for part in (path, *problem["loc"]) if not str(part).startswith("function-"))
            if problem["type"] == "missing":
                problems.append(f"{where}: is required")
            else:
                message = problem["msg"].removeprefix("Value error, ")
                shown = f": {short(problem['input'])}" if problem["loc"] else ""
                problems.append(f"{where}{shown}: {message[:1].lower() + message[1:]}")
        return None, problems
    return (None if problems else made), problems


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """A problem for each .nan and .inf: no setting means one, and no JSON file could hold it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a finite number"


def short(value: Any) -> str:
    """A value as JSON on one line, cut at 80 characters: how errors quote it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def json_schema(cls: type) -> dict[str, Any]:
    """JSON Schema of the dataclass, closed to unknown keys."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(cls).json_schema()
    schema["additionalProperties"] = False
    return schema


def table(made: Any) -> dict[str, Any]:
    """The dataclass as a table of plain values, defaults filled in."""
    return {field.name: plain(getattr(made, field.name)) for field in dataclasses.fields(made) if field.init}


def identity(made: Any) -> dict[str, Any]:
    """The part of the table that can change a round's rows: fields not declared `metadata={"identity": False}`.

    A file counts by what it holds, wherever it lies.
    """
    return {
        field.name: _held(getattr(made, field.name))
        for field in dataclasses.fields(made)
        if field.init and field.metadata.get("identity", True)
    }


def _held(value: Any) -> Any:
    return {"sha256": file_digest(value)} if isinstance(value, Path) and value.is_file() else plain(value)


def plain(value: Any) -> Any:
    """Tuples, mappings, paths and dataclasses as lists, dicts, strings: JSON-able."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return table(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [plain(item) for item in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)
