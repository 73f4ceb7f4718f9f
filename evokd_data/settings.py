"""Settings: a table of a recipe becomes a frozen dataclass. Unknown keys and wrong values become problems with their path."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from evokd_data.digest import file_digest
from evokd_data.redaction import redact
from evokd_data.registry import nearest

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
NOT_IDENTITY: Any = {"identity": False}
"""The `field(metadata=...)` of a setting that cannot change a row of a round, such as speed, number of rounds, folder."""

ANYONE = "anyone"
HUB_NAME = "hub name"
USER = "user"
_DECLARED = "_settings_declared"


def from_anyone(*names: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: a downloaded recipe may decide these settings, because they only say *what* is done.

    Whoever adds a setting declares it here or with `from_user`. An undeclared setting is taken from the user's own recipe only,
    and a test fails.
    """
    return _declaring(dict.fromkeys(names, (ANYONE, None)))


def hub_name(*names: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: as `from_anyone` while the value is ORG/NAME on the Hub. A folder or a package is the user's to name."""
    return _declaring(dict.fromkeys(names, (HUB_NAME, "not-taken/from-a-downloaded-recipe")))


def from_user(*names: str, **required: Any) -> Callable[[type[T]], type[T]]:
    """Class decorator: only the user's own recipe or `--set` may decide these settings, because they say *where* or *with what
    rights*: an address, a path, a variable, a class to load.

    `required` maps a setting that has no default to what stands in for it where it is not used.
    """
    return _declaring(
        {**dict.fromkeys(names, (USER, None)), **{name: (USER, value) for name, value in required.items()}}
    )


def declared(cls: type) -> Mapping[str, tuple[str, Any]]:
    """Setting -> (ANYONE, HUB_NAME or USER; its stand-in), for the declared settings of a class and its bases."""
    return {name: entry for base in reversed(cls.__mro__) for name, entry in vars(base).get(_DECLARED, {}).items()}


def _declaring(entries: Mapping[str, tuple[str, Any]]) -> Callable[[type[T]], type[T]]:
    def declare(cls: type[T]) -> type[T]:
        if unknown := entries.keys() - {field.name for field in dataclasses.fields(cls)}:  # type: ignore[arg-type]
            raise TypeError(f"{cls.__name__} has no setting {', '.join(sorted(unknown))}")
        setattr(cls, _DECLARED, {**vars(cls).get(_DECLARED, {}), **entries})
        return cls

    return declare


def build(cls: type[T], table: Mapping[str, Any], path: str) -> tuple[T | None, list[str]]:
    """The dataclass made from the table, or None and the problems, one line each, which name settings below `path`.

    Types are checked as in JSON: `1` is no string, `"1"` is no number, a list makes a tuple.
    """
    from pydantic import TypeAdapter, ValidationError

    names = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    problems = [f"{path}.{key}: no such setting{nearest(str(key), names)}" for key in table if key not in names]
    values = {key: value for key, value in table.items() if key in names}
    if infinite := list(_not_finite(values, path)):
        return None, problems + infinite
    try:
        instance = TypeAdapter(cls).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False):
            setting = ".".join(str(part) for part in (path, *problem["loc"]) if not str(part).startswith("function-"))
            if problem["type"] == "missing":
                problems.append(f"{setting}: is required")
            else:
                message = problem["msg"].removeprefix("Value error, ")
                value = f": {short(problem['input'])}" if problem["loc"] else ""
                problems.append(f"{setting}{value}: {message[:1].lower() + message[1:]}")
        return None, problems
    return (None if problems else instance), problems


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """A problem for each .nan and .inf: no setting allows one, and no JSON file could hold it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a finite number"


def short(value: Any) -> str:
    """A value as errors quote it: JSON on one line, without secrets, cut at 80 characters."""
    text = redact(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 80 else text[:77] + "..."


def json_schema(cls: type) -> dict[str, Any]:
    """JSON Schema of the dataclass, closed to unknown keys, with the descriptions of its settings."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(cls).json_schema()
    schema["additionalProperties"] = False
    texts = descriptions(cls)
    schema["properties"] = {
        name: described(entry, texts.get(name, "")) for name, entry in schema.get("properties", {}).items()
    }
    return schema


def described(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """The schema with this description before its own, and both before everything else."""
    text = " ".join(part for part in (description, schema.get("description", "")) if part)
    rest = {key: entry for key, entry in schema.items() if key != "description"}
    return {"description": text, **rest} if text else rest


def descriptions(cls: type) -> dict[str, str]:
    """Setting -> the docstring below its declaration, on one line; those of base classes, too. Empty without the source.

    pydantic's `use_attribute_docstrings` reads the class alone, not its bases.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            texts |= _attribute_docstrings(base)
    return texts


def _attribute_docstrings(cls: type) -> dict[str, str]:
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return {}
    definition = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        declaration.target.id: " ".join(literal.value.value.split())
        for declaration, literal in itertools.pairwise(definition.body)
        if isinstance(declaration, ast.AnnAssign)
        and isinstance(declaration.target, ast.Name)
        and isinstance(literal, ast.Expr)
        and isinstance(literal.value, ast.Constant)
        and isinstance(literal.value.value, str)
    }


def table(settings: Any) -> dict[str, Any]:
    """A settings dataclass as a table of plain values, defaults filled in."""
    return {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings) if field.init}


def identity(settings: Any) -> dict[str, Any]:
    """The part of the table that can change a round's rows: fields not declared `metadata={"identity": False}`.

    A file counts by its content, not by its path, also in a plug that another one wraps.
    """
    return {
        field.name: _content(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.init and field.metadata.get("identity", True)
    }


def _content(value: Any) -> Any:
    if isinstance(value, Path) and value.is_file():
        return {"sha256": file_digest(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _content(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    return plain(value)


def plain(value: Any) -> Any:
    """The value as JSON can hold it: tuples and sets as lists, mappings and dataclasses as dicts, paths as strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return table(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [plain(item) for item in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)
