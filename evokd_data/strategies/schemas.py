"""JSON schemas of the teacher's answers. They go to the engine, which allows no other answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def texts_schema(count: int) -> Schema:
    """{"texts": [exactly `count` strings]}."""
    return _object({"texts": _array({"type": "string"}, count, count)})


def names_schema(key: str, most: int) -> Schema:
    """{`key`: [1 to `most` strings]}."""
    return _object({key: _array({"type": "string"}, 1, most)})


def object_schema(*keys: str) -> Schema:
    """An object with a string at each of these keys, and no other key."""
    return _object({key: {"type": "string"} for key in keys})


def labelled_texts_schema(count: int, choices: Sequence[str] | None) -> Schema:
    """{"samples": [exactly `count` of {"text", "answer"}]}; with `choices`, the answer is one of them."""
    sample = _object({"text": {"type": "string"}, "answer": {"enum": list(choices)} if choices else {"type": "string"}})
    return _object({"samples": _array(sample, count, count)})


def explained_label_schema(choices: Sequence[str]) -> Schema:
    """{"explanation", "label"}. The order matters: the label is to follow from the explanation."""
    return _object({"explanation": {"type": "string"}, "label": {"enum": list(choices)}})


def _object(properties: Mapping[str, Any]) -> Schema:
    """All of these properties, in this order, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Schema, least: int, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}
