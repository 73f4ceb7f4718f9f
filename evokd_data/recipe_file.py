"""The YAML file of a recipe as a plain table, with the line of each key, and overrides of its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evokd_data import settings
from evokd_data.errors import RecipeError
from evokd_data.registry import nearest
from evokd_data.yaml_files import load_yaml, load_yaml_with_lines, read_yaml_text


@dataclass(frozen=True)
class RecipeFile:
    """`table` holds plain values. `lines` holds the line of each key, counted from 1, by the key's dotted path."""

    path: Path
    table: dict[str, Any]
    lines: Mapping[str, int]

    def override(self, overrides: Iterable[str]) -> list[str]:
        """Write overrides of the form `a.b=value` into the table. Returns a problem for each that cannot be written."""
        return [problem for override in overrides if (problem := _override(self.table, override))]

    def line_of(self, problem: str) -> str:
        """ ":12" for the deepest key of the file on the path that the problem begins with; "" when there is none."""
        parts = problem.split(":", 1)[0].split(".")
        while parts:
            if ".".join(parts) in self.lines:
                return f":{self.lines['.'.join(parts)]}"
            parts.pop()
        return ""


def read_recipe_file(path: Path) -> RecipeFile:
    """Raises RecipeError when the file cannot be read, is not YAML, or holds no table."""
    try:
        document = load_yaml_with_lines(read_yaml_text(path))
    except FileNotFoundError:
        neighbours = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(f"{path}: no such recipe{nearest(path.name, neighbours) if neighbours else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}; give a YAML file") from None
    except ValueError as error:
        problem, *line = error.args
        location = f"{path}:{line[0]}" if line else str(path)
        raise RecipeError(
            f"{location}: not valid YAML: {problem}; mend {'that line' if line else 'the file'}"
        ) from None
    if not isinstance(document, Mapping):
        content = "is empty" if document is None else f"holds {settings.short(document)}"
        raise RecipeError(f"{path}: {content}, a recipe is a table of sections; see `evokd-data schema`")
    lines: dict[str, int] = {}

    def plain(node: Any, prefix: str) -> Any:
        if isinstance(node, Mapping):
            for key in node:
                if key in node.lc.data:  # type: ignore[attr-defined]  # keys merged in by << have no line of their own
                    lines[f"{prefix}{_key(key)}"] = node.lc.key(key)[0] + 1  # type: ignore[attr-defined]
            names = [_key(key) for key in node]
            if len(set(names)) < len(names):  # 1 and "1" are two keys of YAML and one name
                twice = next(name for name in names if names.count(name) > 1)
                line = f":{lines[prefix + twice]}" if prefix + twice in lines else ""
                raise RecipeError(f"{path}{line}: {prefix}{twice}: is there twice; keep one")
            return {_key(key): plain(value, f"{prefix}{_key(key)}.") for key, value in node.items()}
        if isinstance(node, list):
            return [plain(item, prefix) for item in node]
        if isinstance(node, bool) or node is None:
            return node
        for kind in (int, float, str):  # ruamel's scalars remember how they were written; we want the plain values
            if isinstance(node, kind):
                return kind(node)
        return str(node)

    return RecipeFile(path, plain(document, ""), lines)


def _key(key: Any) -> str:
    """A YAML key about as it was written: `1`, `true` and `null` are names, too."""
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return str(key)


def _override(table: dict[str, Any], override: str) -> str | None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        return f"--set {override}: not of the form a.b=value"
    try:
        value = load_yaml(text)
    except ValueError:
        return f"--set {override}: {text!r} is not a YAML value; quote it"
    node = table
    for key in keys[:-1]:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            return f"--set {override}: {key!r} is a value, not a table"
    node[keys[-1]] = value
    return None
