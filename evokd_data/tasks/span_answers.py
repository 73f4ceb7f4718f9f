"""A teacher's answer that lists spans, and the probability of each span in an answer, from the log-probabilities of its tokens.

A mark "[artist: daft punk]" has the probability that the teacher writes it where it stands: the product over its tokens. So have
words and type of an entry {"text":"daft punk","type":"artist"}. Its keys are not counted: they say nothing about the span, and
the constraint allows nothing else there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Place = list[tuple[int, int]]
"""Characters [start, end) of an answer that stand for one span, in parts."""
MARK_REASONS = {
    "altered": "text_changed",
    "cut": "truncated",
    "type": "unknown_type",
    "nested": "overlap",
    "word": "misaligned",
    "ambiguous": "ambiguous",
}
"""The error of `marking.read` -> the reason of the rejection."""

_STRING = r'"(?:[^"\\]|\\.)*+"'
_ENTITY = re.compile(rf'\{{\s*"text"\s*:\s*({_STRING})\s*,\s*"type"\s*:\s*({_STRING})\s*\}}', re.DOTALL)
_TOKEN = re.compile(r"(\d{1,9}):(\d{1,9})", re.ASCII)


def list_schema(words: Mapping[str, Any], types: Sequence[str], most: int) -> dict[str, Any]:
    """The schema of {"entities": [at most `most` of {"text", "type"}]}; `words` is that of a text."""
    entity = {
        "type": "object",
        "properties": {"text": words, "type": {"enum": list(types)}},
        "required": ["text", "type"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"entities": {"type": "array", "items": entity, "maxItems": most}},
        "required": ["entities"],
        "additionalProperties": False,
    }


def read_list(answer: str) -> list[tuple[str, str]]:
    """(words, type) of each entry, in order. Raises ValueError for an answer of another form."""
    try:
        pairs = [(entity["text"], entity["type"]) for entity in orjson.loads(answer)["entities"]]
    except (KeyError, TypeError) as error:
        raise ValueError("no list of entities") from error
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise ValueError("an entry's words or type are no string")
    return pairs


def entity_places(answer: str, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Place]:
    """(words, type) -> its place, of the entries of a list, in this order of their keys; of equal entries the first.

    Empty when the answer does not hold exactly the entries `pairs`, one after the other.
    """
    entries = list(_ENTITY.finditer(answer))
    try:
        written = [(orjson.loads(entry[1]), orjson.loads(entry[2])) for entry in entries]
    except orjson.JSONDecodeError:
        return {}
    if written != list(pairs):
        return {}
    places: dict[tuple[str, str], Place] = {}
    for pair, entry in zip(written, entries, strict=True):
        # Behind the opening quotes: a token that holds a quote only would count as if something were decided there.
        places.setdefault(pair, [(entry.start(group) + 1, entry.end(group)) for group in (1, 2)])
    return places


def probabilities(places: Sequence[Place], logprobs: Mapping[str, float], spans: int) -> tuple[float, ...] | None:
    """The probability of each place; None when a place of the `spans` is not known, or the log-probabilities are not those of tokens."""
    matches = [_TOKEN.fullmatch(name) for name in logprobs]
    if len(places) < spans or not all(matches):
        return None
    tokens = [
        (int(match[1]), int(match[2]), value) for match, value in zip(matches, logprobs.values(), strict=True) if match
    ]
    return tuple(
        min(
            1.0,
            math.exp(
                math.fsum(
                    value for start, end, value in tokens if any(start < stop and begin < end for begin, stop in place)
                )
            ),
        )
        for place in places
    )
