"""Real texts of the user's pool, labelled by the teacher with an explanation, beside the texts that the strategy writes.

ELAD, Zhang et al., "ELAD: Explanation-Guided Large Language Models Active Distillation", Findings of ACL 2024 (arXiv
2402.13098): samples are chosen where the student is unsure, and the teacher explains its answers.

Where we differ: the paper's student reasons in words. Its doubts are measured at each step, and the teacher revises its wrong
reasoning. A classifier gives no reasons: its doubt is the margin between its two likeliest answers, and the teacher has
nothing to revise. The explanation comes before the label, because there it makes the teacher's answer better. It stays in
the journal and teaches the student nothing. Tags of words are asked for without an explanation, with the constraint of the
labelling call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from evokd_data.digest import derive_seed
from evokd_data.records import Completion, Constraint, Draft, GenerationRequest, Quota, Target
from evokd_data.strategies import NO_PROBLEM, POOL, Ask, Brief, Strategy, Write
from evokd_data.strategies.demonstrations import labelling_demonstrations
from evokd_data.strategies.labelling import label_names, label_texts, majority, read_named, unlabelled
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.schemas import explained_label_schema
from evokd_data.strategies.writing import lost, origin, unanswered
from evokd_data.tasks import Task, Unreadable


@dataclass(frozen=True)
class WithPool:
    """The recipe's strategy, `base`, gets the part of the budget that the pool leaves.

    `explains`: labels are chosen from a list, so that an explanation and the label fit into one answer.
    """

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
        quotas = self.base.allot(replace(brief, budget=brief.budget - len(brief.pool)))
        return [*quotas, *(Quota("", 1, text=text) for text in brief.pool)]

    def writer(self, brief: Brief, ask: Ask) -> Write:
        write_new = self.base.writer(brief, ask)

        async def write(request: GenerationRequest) -> Sequence[Draft]:
            if not request.quota.text:
                return await write_new(request)
            if not self.explains:
                return await label_texts(brief, request, ask, POOL, [request.quota.text], "")
            return [await explain(brief, request, ask)]

        return write


async def explain(brief: Brief, request: GenerationRequest, ask: Ask) -> Draft:
    """The request's text with the label that the teacher's explanations lead to: the majority of the votes.

    There are no soft labels here: a label's probability after one explanation is not that of the label.
    """
    text = request.quota.text
    source = origin(brief, request, 0, POOL)
    (problem,) = brief.check_texts([text], [source])
    if problem != NO_PROBLEM:
        return unlabelled(text, source, problem)
    names = label_names(brief.task, brief.templates, "explain")
    prompt = make_prompt(
        brief,
        "",
        "explain",
        {
            "task": task_variables(brief),
            "text": text,
            "demonstrations": labelling_demonstrations(brief),
            "answers": names,
        },
        seed=0,
        constraint=Constraint(json_schema=explained_label_schema(tuple(names.values()))),
        sampling=brief.sampling if brief.labelling.votes > 1 else replace(brief.sampling, temperature=0.0, top_p=1.0),
    )
    votes = [
        replace(
            prompt,
            key=prompt_key("explain", request.index, vote),
            seed=derive_seed(request.seed, "explain", vote),
        )
        for vote in range(brief.labelling.votes)
    ]
    answers = await asyncio.gather(*map(ask, votes))
    try:
        target = majority([read_explained(brief.task, names, answer, text) for answer in answers])
    except Unreadable as error:
        return lost(text, source, str(error))
    return Draft(text, target, source)


def read_explained(task: Task, names: Mapping[str, str], answer: Completion, text: str) -> Target:
    """The target in an answer with an explanation. Raises Unreadable."""
    if problem := unanswered(answer):
        raise Unreadable(problem)
    try:
        label = orjson.loads(answer.text)["label"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Unreadable("truncated" if answer.finish_reason == "length" else "unreadable") from None
    if not isinstance(label, str):
        raise Unreadable("unreadable")
    return read_named(task, names, label, text)
