"""Real texts of the user's, labelled by the teacher with an explanation, beside whatever the strategy writes.

ELAD, Zhang et al., "ELAD: Explanation-Guided Large Language Models Active Distillation", Findings of ACL 2024 (arXiv
2402.13098): samples are chosen where the student is unsure, and the teacher explains its answers.

Where we differ: the paper's student reasons in words, so that its doubts are found step by step, and the teacher revises
the student's own wrong reasoning. A classifier gives no reasons: its doubt is the margin between its two likeliest
answers, and there is nothing of it for the teacher to revise. The explanation comes before the label, where it makes the
teacher's answer better; it is kept in the journal and teaches the student nothing. Tags of words are asked for without an
explanation, under the labelling call's own constraint.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from evokd_data.digest import derive_seed
from evokd_data.records import Completion, Constraint, Draft, GenerationRequest, Prompt, Quota, Target
from evokd_data.strategies import POOL, Ask, Brief, Strategy, Write
from evokd_data.strategies.asking import label_texts, origin, request_key, shown_when_labelling
from evokd_data.tasks import Task, Unreadable


@dataclass(frozen=True)
class WithPool:
    """The strategy of the recipe, `base`, on what the pool leaves of the budget. `explains`: labels are chosen from a list,
    and so can follow an explanation in one answer."""

    base: Strategy
    explains: bool

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.base.prompt_templates, "explain" if self.explains else "label")))

    @property
    def per_request(self) -> int:
        return self.base.per_request

    def accepts(self, task: Task) -> str | None:
        return self.base.accepts(task)

    def allot(self, brief: Brief) -> Sequence[Quota]:
        """The strategy's quotas, then one for each text of the pool."""
        written = self.base.allot(replace(brief, budget=brief.budget - len(brief.pool)))
        return [*written, *(Quota("", 1, text=text) for text in brief.pool)]

    def writer(self, brief: Brief, ask: Ask) -> Write:
        write_new = self.base.writer(brief, ask)

        async def write(request: GenerationRequest) -> Sequence[Draft]:
            if not request.quota.text:
                return await write_new(request)
            if not self.explains:
                return await label_texts(brief, request, ask, POOL, [request.quota.text], "")
            return [await explain(brief, request, ask)]

        return write


def explained_schema(choices: Sequence[str]) -> Mapping[str, Any]:
    """{"explanation", "label"}, in this order: the label is to follow from the explanation."""
    return {
        "type": "object",
        "properties": {"explanation": {"type": "string"}, "label": {"enum": list(choices)}},
        "required": ["explanation", "label"],
        "additionalProperties": False,
    }


async def explain(brief: Brief, request: GenerationRequest, ask: Ask) -> Draft:
    """The request's text with the label that the teacher's explanations lead to, the majority of `label_votes`.

    There are no soft labels here: a label's probability after one explanation is not that of the label.
    """
    text = request.quota.text
    where = origin(brief, request, 0, POOL)
    seen: dict[str, Any] = {
        "task": brief.task.describe(),
        "text": text,
        "demonstrations": shown_when_labelling(brief),
    }
    prompt = Prompt(
        "",
        "explain",
        brief.templates.render("explain", seen),
        0,
        brief.sampling if brief.label_votes > 1 else replace(brief.sampling, temperature=0.0, top_p=1.0),
        Constraint(json_schema=explained_schema(brief.task.label_constraint(text).choices or ())),
        seen,
    )
    answers = await asyncio.gather(
        *(
            ask(
                replace(
                    prompt,
                    key=request_key("explain", request.index, vote),
                    seed=derive_seed(request.seed, "explain", vote),
                )
            )
            for vote in range(brief.label_votes)
        )
    )
    try:
        ranked = Counter(read_explained(brief.task, answer, text) for answer in answers).most_common(2)
    except Unreadable as error:
        return Draft(text, None, where, problem=str(error))
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return Draft(text, None, where, problem="label_tie")
    return Draft(text, ranked[0][0], where)


def read_explained(task: Task, answer: Completion, text: str) -> Target:
    """The target in an answer with an explanation. Raises Unreadable."""
    if answer.finish_reason == "too_long":
        raise Unreadable("too_long_prompt")
    try:
        label = orjson.loads(answer.text)["label"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Unreadable("truncated" if answer.finish_reason == "length" else "unreadable") from None
    if not isinstance(label, str):
        raise Unreadable("unreadable")
    return task.read_label(label, text)
