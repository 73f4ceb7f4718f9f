"""Labelling texts: one call to the teacher for each text and vote. With soft labels, the probability of each class.

A class is answered by a code of one character where soft labels are asked for: one token's log-probabilities are then the
label's, exactly.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp
from typing import Any

from evokd_data.digest import derive_seed
from evokd_data.records import Completion, Constraint, Draft, GenerationRequest, Prompt, Sampling, Target
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.demonstrations import labelling_demonstrations
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.writing import origin
from evokd_data.tasks import Task, Unreadable

MAX_LABEL_TOKENS = 64  # room for the longest label; tagging asks for more, by the length of the text

LABEL_CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789#@%&$*+!?^~<>/|;:-_()[]{}.,='\"`\\"
"""Every printable ASCII character but the blank: a tokenizer of bytes has each as one token, whatever else it knows."""


def can_be_scored(task: Task) -> bool:
    """Whether the teacher can give a probability for each class: one label a text, and a code for every label."""
    return task.label_constraint("").choices is not None and len(task.classes) <= len(LABEL_CODES)


def label_codes(classes: Sequence[str]) -> dict[str, str]:
    """Class -> its code of one character."""
    assert len(classes) <= len(LABEL_CODES)
    return dict(zip(classes, LABEL_CODES, strict=False))


async def label_texts(
    brief: Brief, request: GenerationRequest, ask: Ask, strategy: str, texts: Sequence[str], problem: str
) -> list[Draft]:
    """One draft for each text asked for: labelled, or with the problem that keeps it from being labelled.

    `problem` says why there are fewer texts than were asked for.
    """

    async def label_at(position: int) -> Draft:
        source = origin(brief, request, position, strategy)
        if position >= len(texts):
            return Draft("", None, source, problem=problem or "missing")
        text = texts[position]
        if not text:
            return Draft("", None, source, problem="too_short")
        try:
            target, soft = await label_text(brief, request, position, text, ask)
        except Unreadable as error:
            return Draft(text, None, source, problem=str(error))
        return Draft(text, target, source, soft)

    return list(await asyncio.gather(*(label_at(position) for position in range(request.count))))


async def label_text(
    brief: Brief, request: GenerationRequest, position: int, text: str, ask: Ask
) -> tuple[Target, tuple[float, ...] | None]:
    """The teacher's target for a text, and its probability for each class when soft labels are asked for.

    With several votes (self-consistency, Wang et al. 2023) the majority decides. Several votes are sampled, one vote is
    greedy. Probabilities are asked for once: they are what votes would estimate. Raises Unreadable.
    """
    votes = 1 if brief.soft_labels else brief.label_votes
    temperature = 0.0 if votes == 1 else 1.0
    key, seed = prompt_key("label", request.index, position), derive_seed(request.seed, "label", position, 0)
    prompt = label_prompt(brief, text, labelling_demonstrations(brief), f"{key}/000000", seed, temperature=temperature)
    more_votes = [
        replace(prompt, key=f"{key}/{vote:06d}", seed=derive_seed(request.seed, "label", position, vote))
        for vote in range(1, votes)
    ]
    answers = await asyncio.gather(*map(ask, (prompt, *more_votes))) if more_votes else [await ask(prompt)]
    if any(answer.finish_reason == "too_long" for answer in answers):
        raise Unreadable("too_long_prompt")
    if brief.soft_labels:
        return _read_scores(brief, prompt.variables["codes"], answers[0])
    targets = [brief.task.read_label(answer.text, text) for answer in answers]
    return (targets[0] if votes == 1 else majority(targets)), None


def majority(votes: Sequence[Target]) -> Target:
    """The target most votes are for. Raises Unreadable("label_tie") when two have as many."""
    ranked = Counter(votes).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        raise Unreadable("label_tie")
    return ranked[0][0]


def label_prompt(
    brief: Brief, text: str, shown: Sequence[Mapping[str, Any]], key: str, seed: int, *, temperature: float = 0.0
) -> Prompt:
    """A labelling prompt with the demonstrations `shown`. Where soft labels are asked for, the answer is a label's code."""
    answers = _answers(brief)
    constraint = answers.constraint or brief.task.label_constraint(text)
    tokens = MAX_LABEL_TOKENS if constraint.choices else MAX_LABEL_TOKENS + 2 * len(text.encode())
    return make_prompt(
        brief,
        key,
        "label",
        {"task": task_variables(brief), "text": text, "demonstrations": shown, "codes": answers.codes},
        seed=seed,
        constraint=constraint,
        sampling=_label_sampling(temperature, tokens),
    )


@lru_cache(maxsize=64)
def _label_sampling(temperature: float, max_tokens: int) -> Sampling:
    return Sampling(temperature, max_tokens, top_p=1.0)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What labelling answers may be in a round. `codes` is empty without soft labels; `constraint` is None where it
    depends on the text."""

    codes: Mapping[str, str]
    constraint: Constraint | None


@lru_cache(maxsize=1)
def _answers(brief: Brief) -> _Answers:
    """The very same objects for every text: templates and journal recognise them by identity."""
    codes = label_codes(brief.task.classes) if brief.soft_labels else {}
    constraint = Constraint(choices=tuple(codes.values()), score=True) if codes else brief.task.label_constraint("")
    return _Answers(codes, constraint if constraint.choices else None)


def _read_scores(brief: Brief, codes: Mapping[str, str], answer: Completion) -> tuple[Target, tuple[float, ...]]:
    scores = answer.choice_logprobs or {}
    try:
        # 4 decimals: a log-probability may differ by 1e-5 between two runs on two threads, a row must not.
        soft = tuple([round(exp(scores[code]), 4) for code in codes.values()])
    except KeyError:
        raise Unreadable("no_label") from None
    return brief.task.classes[soft.index(max(soft))], soft
