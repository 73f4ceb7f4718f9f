"""The tables of docs/settings.md, written from the JSON Schema of a recipe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from evokd_data.recipe import FAMILIES, Family, schema
from evokd_data.recipe_sections import Source
from evokd_data.registry import resolve

SOURCES = ("seeds", "test", "dev", "pool")
HEAD = "| setting | value | default | what it does |\n|---|---|---|---|"

Properties = Mapping[str, Mapping[str, Any]]


def settings_of(recipe_schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, schema) of every setting: `seed`, `seeds`, `seeds.path`, `teacher.vllm.model`, ..."""
    for key, section in recipe_schema["properties"].items():
        yield key, section
        for variant in section.get("oneOf", [section]):
            choice = variant["properties"][FAMILIES[key].key]["const"] + "." if "oneOf" in section else ""
            yield from ((f"{key}.{choice}{name}", entry) for name, entry in variant.get("properties", {}).items())


def settings_tables() -> str:
    """All sections of the page, one for each section of a recipe."""
    sections = schema()["properties"]
    required = schema()["required"]
    scalars = {key: entry for key, entry in sections.items() if "properties" not in entry and "oneOf" not in entry}
    parts = ["## At the top of a recipe", table(scalars, required)]
    parts += ["## Sources: `seeds`, `test`, `dev`, `pool`", *source_tables({key: sections[key] for key in SOURCES})]
    for key, section in sections.items():
        if "oneOf" in section:
            parts += [f"## `{key}`", section["description"], *plug_tables(key, section["oneOf"])]
        elif key not in scalars and key not in SOURCES:
            parts += [f"## `{key}`", section["description"]]
            parts += [table(section["properties"], section.get("required", ()))]
    return "\n\n".join(parts)


def source_tables(sources: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """One table of what all sources have, then what only some have."""
    shared = sources["test"]["properties"]
    common = inspect.getdoc(Source) or ""
    own_words = {key: " ".join(section["description"].replace(common, "").split()) for key, section in sources.items()}
    yield "\n".join(f"- `{key}`: {text}" for key, text in own_words.items())
    yield common
    yield table(shared, ())
    for key, section in sources.items():
        if more := {name: entry for name, entry in section["properties"].items() if name not in shared}:
            yield f"Only in `{key}`:"
            yield table(more, ())


def plug_tables(key: str, variants: list[dict[str, Any]]) -> Iterator[str]:
    """A heading and a table for each plug of a family. A plug that extends another one lists what is not the other's."""
    family = FAMILIES[key]
    plugs = {variant["properties"][family.key]["const"]: variant for variant in variants}
    for name, variant in plugs.items():
        properties = own(variant["properties"], family.key)
        yield f"### `{key}: {{{family.key}: {name}}}`" + (" (the default)" if name == family.default else "")
        yield variant["description"]
        if base := base_of(name, family):
            inherited = plugs[base]["properties"]
            properties = {setting: entry for setting, entry in properties.items() if entry != inherited.get(setting)}
            yield f"The settings of `{base}`" + (", and:" if properties else ".")
        if properties:
            yield table(properties, variant.get("required", ()), has_presets="anyOf" in variant)


def own(properties: Properties, choice: str) -> Properties:
    return {name: entry for name, entry in properties.items() if name != choice}


def base_of(name: str, family: Family) -> str | None:
    """The plug of the family whose class is a base of this one's."""
    cls = resolve(family.table, name)
    return next(
        (other for other in family.table if other != name and issubclass(cls, resolve(family.table, other))), None
    )


def table(properties: Properties, required: Any, has_presets: bool = False) -> str:
    """The Markdown table of these settings. With presets, one of them may stand for `model`."""
    rows = [
        f"| `{name}` | {values(entry)} | "
        f"{'**required**, or `preset`' if has_presets and name == 'model' else default(entry, name in required)} | "
        f"{cell(entry['description'])} |"
        for name, entry in properties.items()
    ]
    return "\n".join([HEAD, *rows])


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def default(entry: Mapping[str, Any], is_required: bool) -> str:
    if is_required:
        return "**required**"
    value = entry.get("default")
    return "" if value is None or value in ("", {}) else f"`{cell(json.dumps(value, ensure_ascii=False))}`"


def values(entry: Mapping[str, Any]) -> str:
    """What may be written, in words."""
    if "enum" in entry:
        return " ".join(f"`{choice}`" for choice in entry["enum"])
    if "anyOf" in entry:
        return values(next(variant for variant in entry["anyOf"] if variant.get("type") != "null"))
    kind = entry.get("type", "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + bounds(entry)
    if kind == "array":
        return "list of texts" if "items" in entry else "list"
    words = {"string": "path" if entry.get("format") == "path" else "text", "boolean": "`true` `false`"}
    return words.get(kind, "table")


def bounds(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("minimum"), entry.get("maximum")
    parts = []
    if "exclusiveMinimum" in entry:
        parts.append(f"above {entry['exclusiveMinimum']}")
    if "exclusiveMaximum" in entry:
        parts.append(f"below {entry['exclusiveMaximum']}")
    if low is not None:
        parts.insert(0, f"from {low}")
    if high is not None:
        parts.append(f"to {high}")
    return " " + " ".join(parts) if parts else ""
