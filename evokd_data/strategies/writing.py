"""Writing texts: one call to the teacher writes the texts of one request. Labelling them is another call (`labelling`).

Generating and labelling in one call hurts (Liu et al. 2024, section 5.3, "w/o Separation"). Every answer is parsed as
hostile input: a truncated answer gives the texts that are whole, and each text that was asked for ends as exactly one draft.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from evokd_data.digest import derive_seed
from evokd_data.records import Completion, Constraint, Draft, GenerationRequest, Origin, Prompt
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.schemas import labelled_texts_schema, names_schema, texts_schema
from evokd_data.tasks import Unreadable


def origin(brief: Brief, request: GenerationRequest, position: int, strategy: str) -> Origin:
    """Where the text at `position` of a request comes from."""
    quota = request.quota
    return Origin(
        brief.round, request.index, position, strategy, quota.difficulty or "", quota.weakness, intended=quota.target
    )


async def write_texts(
    brief: Brief, request: GenerationRequest, ask: Ask, template: str = "generate", **variables: Any
) -> tuple[list[str], str]:
    """One call that writes texts for the request's quota. The template sees `variables` beside task and quota.

    Returns what `read_texts` does.
    """
    answer = await ask(_writing_prompt(brief, request, template, _texts_constraint(request.count), variables))
    return read_texts(answer, request.count)


def read_texts(answer: Completion, count: int) -> tuple[list[str], str]:
    """The texts in a generate answer, at most `count`, and why there are fewer ("" when there are `count`)."""
    if answer.finish_reason == "too_long":
        return [], "too_long_prompt"
    try:
        items = orjson.loads(answer.text)["texts"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        items = list(_whole_strings(answer.text.partition("[")[2]))
        problem = "truncated" if answer.finish_reason == "length" else "unreadable"
    else:
        problem = "missing"
    if not isinstance(items, list):
        return [], "unreadable"
    texts = [" ".join(text.split()) for text in items if isinstance(text, str)][:count]
    return texts, problem if len(texts) < count else ""


_WHOLE_STRING = re.compile(r'\s*("(?:[^"\\]|\\.)*+")\s*(?:,|(?=\])|\Z)', re.DOTALL)


def _whole_strings(items: str) -> Iterator[str]:
    """The strings at the beginning of the items of a JSON list that may break off anywhere."""
    offset = 0
    while item := _WHOLE_STRING.match(items, offset):
        try:
            yield orjson.loads(item[1])
        except orjson.JSONDecodeError:
            return
        offset = item.end()


async def write_labelled_texts(
    brief: Brief, request: GenerationRequest, ask: Ask, strategy: str, **variables: Any
) -> list[Draft]:
    """Texts and their labels from one call: the ablation "w/o Separation" (Liu et al. 2024, section 5.3)."""
    schema = labelled_texts_schema(request.count, brief.task.label_constraint("").choices)
    answer = await ask(_writing_prompt(brief, request, "compose", Constraint(json_schema=schema), variables))
    try:
        items = [(sample["text"], sample["answer"]) for sample in orjson.loads(answer.text)["samples"]]
        pairs = [(" ".join(text.split()), label.strip()) for text, label in items][: request.count]
        problem = "missing"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pairs, problem = [], "truncated" if answer.finish_reason == "length" else "unreadable"
    drafts = []
    for position in range(request.count):
        source = origin(brief, request, position, strategy)
        if position >= len(pairs):
            drafts.append(Draft("", None, source, problem=problem))
            continue
        text, label = pairs[position]
        if not text:
            drafts.append(Draft("", None, source, problem="too_short"))
            continue
        try:
            drafts.append(Draft(text, brief.task.read_label(label, text), source))
        except Unreadable as error:
            drafts.append(Draft(text, None, source, problem=str(error)))
    return drafts


async def ask_for_names(brief: Brief, ask: Ask, kind: str, target: str, most: int, **variables: Any) -> list[str]:
    """Topics, entities and the like that the teacher names for a target, at most `most`, each once.

    `kind` is the name of the template and the key of the answer. The prompt is shared by all requests of the round. The
    list is empty when the answer cannot be read.
    """
    prompt = make_prompt(
        brief,
        prompt_key(kind, target),
        kind,
        {"task": task_variables(brief), "target": target, "count": most, **variables},
        seed=derive_seed(brief.seed, brief.round, kind, target),
        constraint=Constraint(json_schema=names_schema(kind, most)),
    )
    answer = await ask(prompt)
    try:
        items = orjson.loads(answer.text)[kind]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
    names = [" ".join(name.split()) for name in items if isinstance(name, str)] if isinstance(items, list) else []
    return [name for name in dict.fromkeys(names[:most]) if name]


def label_by_condition(
    brief: Brief, request: GenerationRequest, strategy: str, texts: Sequence[str], problem: str
) -> list[Draft]:
    """One draft for each text asked for. Its target is the one the text was written for: no labelling call is made.

    `problem` says why there are fewer texts than were asked for.
    """
    target = brief.task.target_of(request.quota.target)
    drafts = []
    for position in range(request.count):
        source = origin(brief, request, position, strategy)
        if position < len(texts):
            drafts.append(Draft(texts[position], target, source, problem="" if texts[position] else "too_short"))
        else:
            drafts.append(Draft("", None, source, problem=problem or "missing"))
    return drafts


def _writing_prompt(
    brief: Brief, request: GenerationRequest, template: str, constraint: Constraint, variables: Mapping[str, Any]
) -> Prompt:
    quota = request.quota
    all_variables: dict[str, Any] = {
        "task": task_variables(brief),
        "target": quota.target,
        "contrast": quota.contrast,
        "difficulty": quota.difficulty,
        "count": request.count,
        "advice": "",
        "demonstrations": [],
        **variables,
    }
    key = prompt_key(template, request.index)
    return make_prompt(brief, key, template, all_variables, seed=request.seed, constraint=constraint)


@lru_cache(maxsize=64)
def _texts_constraint(count: int) -> Constraint:
    """The same object for all requests of one size: the journal encodes it once."""
    return Constraint(json_schema=texts_schema(count))
