"""YAML files by the 1.2 rules: `2e-5` is a number, `yes` a string. The only module that imports ruamel.yaml.

A YAML file may come from a stranger, and a few lines of aliases can stand for gigabytes. So the text, its depth, and the
number of values it stands for are bounded before any value is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

MAX_CHARACTERS = 4 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 200_000
"""Values a file may stand for; an alias counts each time it is used. A recipe with 100,000 labels has that many."""


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file. Raises OSError for what is no file, such as a pipe that never ends, UnicodeDecodeError, and
    ValueError for a file that is too large to be read."""
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    if (size := path.stat().st_size) > 4 * MAX_CHARACTERS:
        raise ValueError(f"{size} bytes, at most {4 * MAX_CHARACTERS} are read")
    return path.read_text(encoding="utf-8")


def load_yaml(text: str) -> Any:
    """Plain values: dicts, lists, strings, numbers, booleans, None.

    Raises ValueError, with a message of one line, for what is not YAML or exceeds the bounds above.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    _check_bounds(text)
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValueError(_described(error)) from None


def load_yaml_with_lines(text: str) -> Any:
    """Mappings and lists that know the line of each key: `node.lc.key(key)` is (line, column), counted from 0.

    Raises ValueError as `load_yaml` does; where the line of the problem is known, `error.args[1]` is its number.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    _check_bounds(text)
    try:
        return YAML(typ="rt").load(text)
    except YAMLError as error:
        raise _with_line(error) from None


def dump_yaml(table: Mapping[str, Any], *, width: int = 120) -> str:
    """A table in block style, with its keys in their order."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = width
    text = StringIO()
    yaml.dump(table, text)
    return text.getvalue()


def _check_bounds(text: str) -> None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    anchored: dict[str, int] = {}  # anchor -> values it stands for
    open_collections: list[tuple[str | None, int]] = []  # (anchor, values before it)
    values = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            if isinstance(event, CollectionEndEvent):
                anchor, before = open_collections.pop()
                if anchor is not None:
                    anchored[anchor] = values - before
            elif isinstance(event, AliasEvent):
                if any(anchor == event.anchor for anchor, _ in open_collections):
                    line = event.start_mark.line + 1
                    raise ValueError(
                        f"the alias *{event.anchor} stands within what it names; write the value out", line
                    )
                values += anchored.get(event.anchor, 1)
            elif isinstance(event, NodeEvent):
                if isinstance(event, CollectionStartEvent):
                    open_collections.append((event.anchor, values))
                    if len(open_collections) > MAX_DEPTH:
                        raise ValueError(f"nested more than {MAX_DEPTH} deep")
                values += 1
            if values > MAX_VALUES:
                raise ValueError(f"stands for more than {MAX_VALUES} values, aliases written out")
    except YAMLError as error:
        raise _with_line(error) from None


def _with_line(error: Exception) -> ValueError:
    mark = getattr(error, "problem_mark", None)
    return ValueError(_described(error), mark.line + 1) if mark else ValueError(_described(error))


def _described(error: Exception) -> str:
    return (str(getattr(error, "problem", None) or error) or "it breaks off").splitlines()[0]
