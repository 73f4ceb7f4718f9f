"""One reading of what models write, for all engines: the answer without reasoning before it, fences and talk around it.

An engine that holds the model to a constraint gives bare answers. Others ask for the same form in words, or not at all, and
models then wrap what they were asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from evokd_data.records import Constraint
from evokd_data.teachers.reasoning import strip_reasoning

FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
MAX_STARTS = 32
"""Opening braces from which an object is looked for."""


def read_answer(text: str, constraint: Constraint | None, thinking: bool) -> str:
    """The answer in a model's text, as the constraint wants it. `thinking`: the model was asked to reason.

    A text in which there is none stays as it is but for the reasoning, for the task to reject.
    """
    if constraint is None:
        return _unfenced(strip_reasoning(text, thinking))
    if constraint.choices is not None:
        return _read_choice(text if text in constraint.choices else strip_reasoning(text, thinking), constraint.choices)
    if constraint.json_schema is not None:
        return (
            text if _object(text) is not None else _read_object(strip_reasoning(text, thinking), constraint.json_schema)
        )
    return strip_reasoning(text, thinking)


def _read_choice(text: str, choices: Sequence[str]) -> str:
    """A choice alone, fenced, as JSON, or as the only string in a JSON object."""
    for candidate in (text, text.strip(), _unfenced(text).strip()):
        if candidate in choices:
            return candidate
    try:
        value = orjson.loads(_read_object(text, {}))
    except orjson.JSONDecodeError:
        return text
    if isinstance(value, dict):
        named = [value.get(key) for key in ("answer", "label")]
        value = next((item for item in (*named, *value.values()) if isinstance(item, str)), None)
    return value if isinstance(value, str) else text


def _read_object(text: str, schema: Mapping[str, Any]) -> str:
    """The first JSON object in the text that has the keys that the schema requires; the text where there is none.

    An object without them may be a part of one that was cut off.
    """
    required = set(schema.get("required", ()))
    for candidate in _candidates(text):
        value = _object(candidate)
        if value is not None and required <= value.keys():
            return candidate
    return _unfenced(text)


def _candidates(text: str) -> Iterator[str]:
    yield text.strip()
    for block in FENCED.finditer(text):
        yield block[2].strip()
    decoder = json.JSONDecoder()
    for start in [match.start() for match in re.finditer(r"\{", text)][:MAX_STARTS]:
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield text[start:end]


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _unfenced(text: str) -> str:
    """The content of the fenced block that the text consists of; the text itself when it is anything else."""
    block = FENCED.fullmatch(text.strip())
    return block[2] if block else text
