"""What teacher-driven strategies share: writing texts and labelling them, as two separate calls.

Generating and labelling in one call hurts (Liu et al. 2024, section 5.3, "w/o Separation"). Every answer is parsed as
hostile input: a truncated one gives what is whole in it, and each text that was asked for ends as exactly one draft.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile, zip_longest
from typing import Any

import orjson

from evokd_data.digest import derive_random, derive_seed
from evokd_data.records import (
    Completion,
    Constraint,
    Draft,
    GenerationRequest,
    Origin,
    Prompt,
    Sample,
    Sampling,
    Target,
)
from evokd_data.strategies import Ask, Brief
from evokd_data.tasks import Task, Unreadable

LABEL_TOKENS = 64  # room for the longest label; tagging asks for more, by the length of the text
SHOWN_WHEN_LABELLING = 24  # demonstrations in a labelling prompt: a shared prefix, so the engine computes it once


def request_key(template: str, *place: int | str) -> str:
    """Where in the round a prompt stands: "label/000012/3". Behind the template comes the index of the request that alone
    asks it, or else a name: of what all requests may ask, and no number, therefore."""
    head, *rest = place
    named = head if isinstance(head, int) or not head.isdecimal() else f"={head}"
    return "/".join([template, *(f"{part:06d}" if isinstance(part, int) else part for part in (named, *rest))])


def texts_schema(count: int) -> Mapping[str, Any]:
    """{"texts": [exactly `count` strings]}."""
    return {
        "type": "object",
        "properties": {"texts": {"type": "array", "items": {"type": "string"}, "minItems": count, "maxItems": count}},
        "required": ["texts"],
        "additionalProperties": False,
    }


@lru_cache(maxsize=64)
def _of_texts(count: int) -> Constraint:
    return Constraint(json_schema=texts_schema(count))


def object_schema(*keys: str) -> Mapping[str, Any]:
    """An object with these strings and nothing else."""
    return {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": list(keys),
        "additionalProperties": False,
    }


_WHOLE_STRING = re.compile(r'\s*("(?:[^"\\]|\\.)*+")\s*(?:,|(?=\])|\Z)', re.DOTALL)


def read_texts(answer: Completion, count: int) -> tuple[list[str], str]:
    """The texts in a generate answer, at most `count`, and why there are fewer ("" when there are not)."""
    if answer.finish_reason == "too_long":
        return [], "too_long_prompt"
    try:
        found = orjson.loads(answer.text)["texts"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        found = list(_whole_strings(answer.text.partition("[")[2]))
        problem = "truncated" if answer.finish_reason == "length" else "unreadable"
    else:
        problem = "missing"
    if not isinstance(found, list):
        return [], "unreadable"
    texts = [" ".join(text.split()) for text in found if isinstance(text, str)][:count]
    return texts, problem if len(texts) < count else ""


def _whole_strings(items: str) -> Iterator[str]:
    """The strings at the beginning of the items of a JSON list that may break off anywhere."""
    place = 0
    while item := _WHOLE_STRING.match(items, place):
        try:
            yield orjson.loads(item[1])
        except orjson.JSONDecodeError:
            return
        place = item.end()


def _prompt(
    brief: Brief, request: GenerationRequest, template: str, constraint: Constraint, variables: Mapping[str, Any]
) -> Prompt:
    quota = request.quota
    seen: dict[str, Any] = {
        "task": _shared(brief).task,
        "target": quota.target,
        "contrast": quota.contrast,
        "difficulty": quota.difficulty,
        "count": request.count,
        "advice": "",
        "demonstrations": [],
        **variables,
    }
    return Prompt(
        request_key(template, request.index),
        template,
        brief.templates.render(template, seen),
        request.seed,
        brief.sampling,
        constraint,
        seen,
    )


async def write_texts(
    brief: Brief, request: GenerationRequest, ask: Ask, template: str = "generate", **variables: Any
) -> tuple[list[str], str]:
    """One call that writes texts for the request's quota; `variables` go to the template's template beside task and quota."""
    answer = await ask(_prompt(brief, request, template, _of_texts(request.count), variables))
    return read_texts(answer, request.count)


async def name_some(brief: Brief, ask: Ask, kind: str, target: str, most: int, **variables: Any) -> list[str]:
    """What the teacher names for a target when asked once a round: at most `most` topics, entities, ... (`kind`, which is
    the template and the key of the answer, too), each once; none when its answer cannot be read."""
    seen: dict[str, Any] = {"task": brief.task.describe(), "target": target, "count": most, **variables}
    schema = {
        "type": "object",
        "properties": {kind: {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": most}},
        "required": [kind],
        "additionalProperties": False,
    }
    answer = await ask(
        Prompt(
            request_key(kind, target),
            kind,
            brief.templates.render(kind, seen),
            derive_seed(brief.seed, brief.round, kind, target),
            brief.sampling,
            Constraint(json_schema=schema),
            seen,
        )
    )
    try:
        found = orjson.loads(answer.text)[kind]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
    named = [" ".join(one.split()) for one in found if isinstance(one, str)] if isinstance(found, list) else []
    return [one for one in dict.fromkeys(named[:most]) if one]


def origin(brief: Brief, request: GenerationRequest, position: int, strategy: str) -> Origin:
    """Where the text at `position` of a request comes from."""
    quota = request.quota
    return Origin(
        brief.round, request.index, position, strategy, quota.difficulty or "", quota.weakness, intended=quota.target
    )


def labelled_schema(brief: Brief, count: int) -> Mapping[str, Any]:
    """{"samples": [exactly `count` of {"text", "answer"}]}, the answer as the labelling call would give it."""
    choices = brief.task.label_constraint("").choices
    properties = {"text": {"type": "string"}, "answer": {"enum": list(choices)} if choices else {"type": "string"}}
    sample = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"samples": {"type": "array", "items": sample, "minItems": count, "maxItems": count}},
        "required": ["samples"],
        "additionalProperties": False,
    }


async def write_labelled(
    brief: Brief, request: GenerationRequest, ask: Ask, strategy: str, **variables: Any
) -> list[Draft]:
    """Texts and their labels from one call: the ablation "w/o Separation" (Liu et al. 2024, section 5.3)."""
    constraint = Constraint(json_schema=labelled_schema(brief, request.count))
    answer = await ask(_prompt(brief, request, "compose", constraint, variables))
    try:
        found = [(sample["text"], sample["answer"]) for sample in orjson.loads(answer.text)["samples"]]
        pairs = [(" ".join(text.split()), labelled.strip()) for text, labelled in found][: request.count]
        problem = "missing"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pairs, problem = [], "truncated" if answer.finish_reason == "length" else "unreadable"
    drafts = []
    for position in range(request.count):
        where = origin(brief, request, position, strategy)
        if position >= len(pairs):
            drafts.append(Draft("", None, where, problem=problem))
            continue
        text, labelled = pairs[position]
        if not text:
            drafts.append(Draft("", None, where, problem="too_short"))
            continue
        try:
            drafts.append(Draft(text, brief.task.read_label(labelled, text), where))
        except Unreadable as error:
            drafts.append(Draft(text, None, where, problem=str(error)))
    return drafts


def believe_condition(
    brief: Brief, request: GenerationRequest, strategy: str, texts: Sequence[str], problem: str
) -> list[Draft]:
    """One draft for each text asked for, with the target it was written for: no labelling call."""
    target = brief.task.target_of(request.quota.target)
    drafts = []
    for position in range(request.count):
        where = origin(brief, request, position, strategy)
        if position < len(texts):
            drafts.append(Draft(texts[position], target, where, problem="" if texts[position] else "too_short"))
        else:
            drafts.append(Draft("", None, where, problem=problem or "missing"))
    return drafts


async def label_texts(
    brief: Brief, request: GenerationRequest, ask: Ask, strategy: str, texts: Sequence[str], problem: str
) -> list[Draft]:
    """One draft for each text asked for: labelled, or with the problem that keeps it from being one."""

    async def one(position: int) -> Draft:
        where = origin(brief, request, position, strategy)
        if position >= len(texts):
            return Draft("", None, where, problem=problem or "missing")
        text = texts[position]
        if not text:
            return Draft("", None, where, problem="too_short")
        try:
            target, soft = await label(brief, request, position, text, ask)
        except Unreadable as error:
            return Draft(text, None, where, problem=str(error))
        return Draft(text, target, where, soft)

    return list(await asyncio.gather(*(one(position) for position in range(request.count))))


async def label(
    brief: Brief, request: GenerationRequest, position: int, text: str, ask: Ask
) -> tuple[Target, tuple[float, ...] | None]:
    """The teacher's target for a text, and its probability for each class when soft labels are asked for.

    With several votes (self-consistency, Wang et al. 2023) the majority decides; they are sampled, one vote is greedy.
    Probabilities are asked for once: they are what votes would estimate. Raises Unreadable.
    """
    votes = 1 if brief.soft_labels else brief.label_votes
    temperature = 0.0 if votes == 1 else 1.0
    key, seed = request_key("label", request.index, position), derive_seed(request.seed, "label", position, 0)
    prompt = label_prompt(brief, text, shown_when_labelling(brief), f"{key}/000000", seed, temperature=temperature)
    others = [
        replace(prompt, key=f"{key}/{vote:06d}", seed=derive_seed(request.seed, "label", position, vote))
        for vote in range(1, votes)
    ]
    answers = await asyncio.gather(*map(ask, (prompt, *others))) if others else [await ask(prompt)]
    if any(answer.finish_reason == "too_long" for answer in answers):
        raise Unreadable("too_long_prompt")
    if brief.soft_labels:
        return _soft(brief, prompt.variables["codes"], answers[0])
    targets = [brief.task.read_label(answer.text, text) for answer in answers]
    if votes == 1:
        return targets[0], None
    ranked = Counter(targets).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        raise Unreadable("label_tie")
    return ranked[0][0], None


def label_prompt(
    brief: Brief, text: str, shown: Sequence[Mapping[str, Any]], key: str, seed: int, *, temperature: float = 0.0
) -> Prompt:
    """A labelling prompt with these demonstrations; where soft labels are asked for, the answer is a label's code."""
    same = _shared(brief)
    seen: dict[str, Any] = {"task": same.task, "text": text, "demonstrations": shown, "codes": same.codes}
    constraint = same.constraint or brief.task.label_constraint(text)
    tokens = LABEL_TOKENS if constraint.choices else LABEL_TOKENS + 2 * len(text.encode())
    sampling = _label_sampling(temperature, tokens)
    return Prompt(key, "label", brief.templates.render("label", seen), seed, sampling, constraint, seen)


@lru_cache(maxsize=64)
def _label_sampling(temperature: float, max_tokens: int) -> Sampling:
    return Sampling(temperature, max_tokens, top_p=1.0)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the prompts of a round share. `constraint` is that of labelling, None where it follows the text."""

    task: Mapping[str, Any]
    codes: Mapping[str, str]
    constraint: Constraint | None
    seeds: Mapping[str, Sequence[Sample]]
    shown: Sequence[Mapping[str, Any]]


@lru_cache(maxsize=1)
def _shared(brief: Brief) -> _Shared:
    """The very same objects for every text: templates and journal know again what they have seen."""
    seeds = {label: list(_seeds_first(brief, label)) for label in brief.task.labels}
    names = codes(brief.task.classes) if brief.soft_labels else {}
    constraint = Constraint(choices=tuple(names.values()), score=True) if names else brief.task.label_constraint("")
    return _Shared(
        brief.task.describe(), names, constraint if constraint.choices else None, seeds, _seeds_by_turns(brief, seeds)
    )


def _soft(brief: Brief, names: Mapping[str, str], answer: Completion) -> tuple[Target, tuple[float, ...]]:
    from math import exp

    scores = answer.choice_logprobs or {}
    try:
        # 4 decimals: a log-probability may differ by 1e-5 between two runs on two threads, a row must not.
        soft = tuple([round(exp(scores[code]), 4) for code in names.values()])
    except KeyError:
        raise Unreadable("no_label") from None
    return brief.task.classes[soft.index(max(soft))], soft


CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789#@%&$*+!?^~<>/|;:-_()[]{}.,='\"`\\"
"""Every printable ASCII character but the blank: a tokenizer of bytes has each as one token, whatever else it knows."""


def can_be_scored(task: Task) -> bool:
    """Whether the teacher can give a probability for each class: one label a text, and a code for every label."""
    return task.label_constraint("").choices is not None and len(task.classes) <= len(CODES)


def codes(classes: Sequence[str]) -> dict[str, str]:
    """Class -> a code of one character, so that one token's log-probabilities are the label's, exactly."""
    assert len(classes) <= len(CODES)
    return dict(zip(classes, CODES, strict=False))


def shown_when_labelling(brief: Brief) -> Sequence[Mapping[str, Any]]:
    """Seeds as demonstrations for labelling, the same in every prompt of the run; evenly over the classes."""
    return _shared(brief).shown


def _seeds_by_turns(brief: Brief, seeds: Mapping[str, Sequence[Sample]]) -> Sequence[Mapping[str, Any]]:
    shown: list[Mapping[str, Any]] = []
    for turn in zip_longest(*seeds.values()):
        shown += [brief.task.show(sample) for sample in turn if sample is not None]
        if len(shown) >= SHOWN_WHEN_LABELLING:
            break
    return shown[:SHOWN_WHEN_LABELLING]


def seeds_of(brief: Brief, label: str) -> Sequence[Sample]:
    """The seeds of a class, in order; never empty, since every class has one."""
    return _shared(brief).seeds[label]


def _seeds_first(brief: Brief, label: str) -> Iterator[Sample]:
    """Without looking at every seed for every text that is labelled: seeds begin each list of demonstrations."""
    return takewhile(lambda sample: sample.origin.round == 0, brief.demonstrations[label])


def demonstrations(
    brief: Brief, request: GenerationRequest, count: int, among: Sequence[Sample] | None = None
) -> list[Mapping[str, Any]]:
    """Samples of the request's target to show when writing: a seed first, the rest from everything earlier, or `among`.

    Drawn anew for each request: varied demonstrations are the cheapest source of varied texts.
    """
    random = derive_random(request.seed, "demonstrations")
    seeds = seeds_of(brief, request.quota.target)
    chosen: list[Sample] = random.sample(seeds, min(1, count, len(seeds)))
    pool = brief.demonstrations.get(request.quota.target, ()) if among is None else among
    for place in random.sample(range(len(pool)), min(count, len(pool))):  # the places: samples are read from disk
        sample = pool[place]
        if len(chosen) < count and sample not in chosen:
            chosen.append(sample)
    return [brief.task.show(sample) for sample in chosen]
