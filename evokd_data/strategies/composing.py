"""Texts and their labels from one call: the ablation "w/o Separation" (Liu et al. 2024, section 5.3).

A truncated answer gives the samples that are whole, and each text that was asked for ends as exactly one draft.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson

from evokd_data.records import Completion, Constraint, Draft, GenerationRequest
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.labelling import label_names, read_named
from evokd_data.strategies.schemas import labelled_texts_schema
from evokd_data.strategies.writing import lost, origin, unanswered, writing_prompt
from evokd_data.tasks import Unreadable


async def write_labelled_texts(
    brief: Brief, request: GenerationRequest, ask: Ask, strategy: str, **variables: Any
) -> list[Draft]:
    """One draft for each text of the request."""
    names = label_names(brief.task, brief.templates, "compose")
    schema = labelled_texts_schema(request.count, tuple(names.values()) or None)
    variables["answers"] = names
    answer = await ask(writing_prompt(brief, request, "compose", Constraint(json_schema=schema), variables))
    items, problem = _samples(answer)
    drafts = []
    for position in range(request.count):
        source = origin(brief, request, position, strategy)
        if position >= len(items):
            drafts.append(lost("", source, problem))
            continue
        text, label = items[position]
        if not text:
            drafts.append(Draft("", None, source, problem="too_short"))
            continue
        try:
            drafts.append(Draft(text, read_named(brief.task, names, label, text), source))
        except Unreadable as error:
            drafts.append(lost(text, source, str(error)))
    return drafts


def _samples(answer: Completion) -> tuple[list[tuple[str, str]], str]:
    """The texts with their labels in a compose answer, up to the first that is not whole, and why there are no more."""
    if problem := unanswered(answer):
        return [], problem
    try:
        items = list(orjson.loads(answer.text)["samples"])
        problem = "missing"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        items = list(_whole_objects(answer.text.partition("[")[2]))
        problem = "truncated" if answer.finish_reason == "length" else "unreadable"
    pairs: list[tuple[str, str]] = []
    for item in items:
        text, label = (item.get("text"), item.get("answer")) if isinstance(item, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(label, str):
            return pairs, "unreadable"
        pairs.append((" ".join(text.split()), label.strip()))
    return pairs, problem


def _whole_objects(items: str) -> Iterator[Any]:
    """The values at the beginning of the items of a JSON list that may break off anywhere."""
    decoder = json.JSONDecoder()
    with suppress(ValueError, TypeError, RecursionError):
        while True:
            value, end = decoder.raw_decode(items.lstrip())
            yield orjson.loads(orjson.dumps(value))  # TypeError for half a surrogate pair
            items = items.lstrip()[end:].lstrip()
            if not items.startswith(","):
                return
            items = items[1:]
