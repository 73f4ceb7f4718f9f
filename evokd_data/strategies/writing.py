"""Writing texts: one call to the teacher writes the texts of one request. Labelling them is another call (`labelling`).

Generating and labelling in one call hurts (Liu et al. 2024, section 5.3, "w/o Separation"). Every answer is parsed as
hostile input: a truncated answer gives the texts that are whole, and each text that was asked for ends as exactly one draft.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from evokd_data.digest import derive_seed
from evokd_data.records import Completion, Constraint, Draft, GenerationRequest, Origin, Prompt, Sample
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.demonstrations import draw_demonstrations, draw_turns, seeds_have_lines
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.schemas import names_schema, texts_schema


def origin(brief: Brief, request: GenerationRequest, position: int, strategy: str) -> Origin:
    """Where the text at `position` of a request comes from."""
    quota = request.quota
    return Origin(
        brief.round, request.index, position, strategy, quota.difficulty or "", quota.weakness, intended=quota.target
    )


def unanswered(answer: Completion) -> str:
    """Why a completion is no answer: "too_long_prompt", or "refused: " and the engine's words; "" for an answer."""
    if answer.finish_reason == "too_long":
        return "too_long_prompt"
    return answer.finish_reason if answer.refusal is not None else ""


def lost(text: str, source: Origin, problem: str) -> Draft:
    """The draft of a text that is missing, or cannot be labelled. `problem`: a reason, with a detail after ": " or without."""
    reason, _, detail = problem.partition(": ")
    return Draft(text, None, source, problem=reason, detail=detail)


async def write_texts(
    brief: Brief,
    request: GenerationRequest,
    ask: Ask,
    template: str = "generate",
    candidates: Sequence[Sample] | None = None,
    demonstration_count: int = 0,
    **variables: Any,
) -> tuple[list[str], str]:
    """The texts of the request's quota, as its template asks for them; it sees `variables` beside task and quota.

    At most `demonstration_count` samples of the quota's label are shown: a seed, and others drawn from `candidates`. A template that shows
    them as turns of the chat asks for one text in each call, and the answer is the text; without candidates it shows seeds alone. Any
    other asks for all texts in one call, as JSON; without candidates it shows all earlier samples of the label. Returns at most `request.count` texts, and why there
    are fewer ("" when there are not): each text that is missing stands there as "" when others follow.
    """
    if brief.templates.has_turns(template):
        return await _write_by_turns(brief, request, ask, template, candidates, demonstration_count, variables)
    if demonstration_count:
        variables["demonstrations"] = draw_demonstrations(brief, request, demonstration_count, candidates)
    answer = await ask(writing_prompt(brief, request, template, _texts_constraint(request.count), variables))
    return read_texts(answer, request.count)


CONTRASTS = 3  # texts of neighbouring labels that are shown before those of the label itself


async def _write_by_turns(
    brief: Brief,
    request: GenerationRequest,
    ask: Ask,
    template: str,
    candidates: Sequence[Sample] | None,
    demonstration_count: int,
    variables: Mapping[str, Any],
) -> tuple[list[str], str]:
    """One call for each text, each with demonstrations drawn anew: texts of other labels as contrast, then the label's own."""

    async def write(position: int) -> tuple[str, str]:
        turns = (
            draw_turns(brief, request, position, demonstration_count, CONTRASTS, candidates)
            if demonstration_count
            else [*variables.get("demonstrations", ())]
        )
        answer = await ask(_turns_prompt(brief, request, position, template, turns, variables))
        return read_text(answer, multiline=seeds_have_lines(brief))

    written = await asyncio.gather(*(write(position) for position in range(request.count)))
    problems = [problem for text, problem in written if not text]
    return [text for text, _ in written], problems[0] if problems else ""


def read_text(answer: Completion, *, multiline: bool) -> tuple[str, str]:
    """The text that an answer is, on one line, and why there is none ("" when there is one).

    Where no seed has several lines, only the first counts: what a small model adds below it is talk about the text.
    """
    if problem := unanswered(answer):
        return "", problem
    if answer.finish_reason == "length":
        return "", "truncated"
    lines = answer.text.strip().splitlines() or [""]
    text = " ".join((answer.text if multiline else lines[0]).split())
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text, "" if text else "unreadable"


def read_texts(answer: Completion, count: int) -> tuple[list[str], str]:
    """The texts in a generate answer, at most `count`, and why there are fewer ("" when there are `count`)."""
    if problem := unanswered(answer):
        return [], problem
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


async def ask_for_names(
    brief: Brief, ask: Ask, kind: str, target: str, most: int, *, call: int | None = None, **variables: Any
) -> list[str]:
    """Topics, entities and the like that the teacher names for a target, at most `most`, each once.

    `kind` is the name of the template and the key of the answer. The prompt is shared by all requests of the round; `call`
    counts several of one kind and target. The list is empty when the answer cannot be read.
    """
    place: tuple[int | str, ...] = (target,) if call is None else (target, call)
    prompt = make_prompt(
        brief,
        prompt_key(kind, *place),
        kind,
        {"task": task_variables(brief), "target": target, "count": most, **variables},
        seed=derive_seed(brief.seed, brief.round, kind, *place),
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
            drafts.append(lost("", source, problem or "missing"))
    return drafts


def _turns_prompt(
    brief: Brief,
    request: GenerationRequest,
    position: int,
    template: str,
    turns: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
) -> Prompt:
    return make_prompt(
        brief,
        prompt_key(template, request.index, position),
        template,
        {**_quota_variables(brief, request, variables), "count": 1, "shown": turns},
        turns=turns,
        seed=derive_seed(request.seed, template, position),
        constraint=None,
    )


def writing_prompt(
    brief: Brief, request: GenerationRequest, template: str, constraint: Constraint, variables: Mapping[str, Any]
) -> Prompt:
    """The prompt of a request, with what its quota says and `variables`."""
    key = prompt_key(template, request.index)
    all_variables = _quota_variables(brief, request, variables)
    return make_prompt(brief, key, template, all_variables, seed=request.seed, constraint=constraint)


def _quota_variables(brief: Brief, request: GenerationRequest, variables: Mapping[str, Any]) -> dict[str, Any]:
    quota = request.quota
    return {
        "task": task_variables(brief),
        "target": quota.target,
        "contrast": quota.contrast,
        "difficulty": quota.difficulty,
        "count": request.count,
        "advice": "",
        "demonstrations": [],
        **variables,
    }


@lru_cache(maxsize=64)
def _texts_constraint(count: int) -> Constraint:
    """The same object for all requests of one size: the journal encodes it once."""
    return Constraint(json_schema=texts_schema(count))
