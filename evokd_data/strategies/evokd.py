"""EvoKD: samples aimed at what the student gets wrong.

Liu et al., "Evolving Knowledge Distillation with Large Language Models and Active Learning", LREC-COLING 2024,
section 3: analyse the student's mistakes, write easy and hard texts for its weaknesses, label them in a separate call.

Where we differ from the paper: at most `targeted` of the budget goes to weaknesses, the rest to all classes alike, and
the first round is not targeted. Targeting everything, or hard texts alone, lost against uniform generation in every
simulation on real data that we know (by up to 4 points); a share of 0.3 was level with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from evokd_data.digest import derive_seed
from evokd_data.records import Constraint, Draft, GenerationRequest, Prompt, Quota, Weakness
from evokd_data.settings import Share
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.asking import (
    demonstrations,
    label_texts,
    object_schema,
    request_key,
    write_labelled,
    write_texts,
)
from evokd_data.strategies.auggpt import AugGPT, rephrase
from evokd_data.strategies.quotas import divide, evenly, stratified
from evokd_data.strategies.useful import Useful
from evokd_data.tasks import Task


@dataclass(frozen=True)
class EvoKD:
    """`easy` share of easy texts in the untargeted part; `targeted` largest share of the budget spent on weaknesses,
    from round `targeted_from` on, at most `weaknesses` of them; `analyse` asks the teacher for advice on each;
    `correct` shows it what the student got right too; `separation` labels in a call of its own; `init` makes the first
    `init_rounds` rounds by AugGPT; `demonstrations` and `per_request` texts in one generate call; `choose` demonstrations
    at random, or by how much they help the teacher (see `strategies.useful`), found with `choosing_calls` calls a round.

    The paper's ablations: w/o Easy is `easy: 0`, w/o Correct `correct: false`, w/o Separation `separation: false`,
    w/o Review the student's `replay: 0`."""

    name: ClassVar[str] = "evokd"

    easy: Share = 0.5
    targeted: Share = 0.3
    targeted_from: Annotated[int, Field(ge=1)] = 2
    weaknesses: Annotated[int, Field(ge=1)] = 5
    analyse: bool = True
    correct: bool = True
    separation: bool = True
    init: Literal["none", "auggpt"] = "none"
    init_rounds: Annotated[int, Field(ge=1)] = 1
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 3
    choose: Literal["random", "useful"] = "random"
    choosing_calls: Annotated[int, Field(ge=0)] = 100
    per_request: Annotated[int, Field(ge=1, le=50)] = 5

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        templates = ("generate", "label") if self.separation else ("compose",)
        if self.choose == "useful" and "label" not in templates:
            templates = (*templates, "label")
        if self.analyse:
            templates = ("analyse", *templates)
        return tuple(dict.fromkeys((*templates, *AugGPT.prompt_templates))) if self.init == "auggpt" else templates

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        """The targeted quotas first, both sides of each confused pair; then every class alike, easy and hard."""
        if self._initial(brief):
            return evenly(brief.task.labels, brief.budget, brief.round)
        chosen = brief.weaknesses[: self.weaknesses] if brief.round >= self.targeted_from else ()
        targeted: list[Quota] = []
        budgets = divide(int(brief.budget * self.targeted), [w.missed for w in chosen]) if chosen else []
        for weakness, share in zip(chosen, budgets, strict=True):
            sides = [(weakness.expected, weakness.got), (weakness.got, weakness.expected)]
            sides = [(label, contrast) for label, contrast in sides if label in brief.task.labels]
            for (label, contrast), samples in zip(sides, divide(share, [1.0] * len(sides)), strict=True):
                if samples:
                    targeted.append(Quota(label, samples, "hard", contrast, weakness.name))
        rest = brief.budget - sum(quota.samples for quota in targeted)
        return [*targeted, *stratified(brief.task.labels, rest, self.easy, brief.round)]

    def _initial(self, brief: Brief) -> bool:
        return self.init == "auggpt" and brief.round <= self.init_rounds

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """One analysis a weakness, asked when the first request needs it: untargeted requests never wait for it."""
        known = {weakness.name: weakness for weakness in brief.weaknesses}
        analyses: dict[str, asyncio.Future[str]] = {}

        def advice(name: str) -> Awaitable[str]:
            if name not in analyses:
                analyses[name] = asyncio.ensure_future(self._advice(brief, known[name], ask))
            return analyses[name]

        useful = Useful(brief, ask, self.choosing_calls, self.demonstrations) if self.choose == "useful" else None

        async def write(request: GenerationRequest) -> list[Draft]:
            if self._initial(brief):
                return await rephrase(brief, request, ask, self.name)
            among = await useful.of(request.quota.target) if useful else None
            targeted = request.quota.weakness
            seen: dict[str, Any] = {
                "advice": await advice(targeted) if targeted and self.analyse else "",
                "demonstrations": demonstrations(brief, request, self.demonstrations, among),
            }
            if not self.separation:
                return await write_labelled(brief, request, ask, self.name, **seen)
            texts, problem = await write_texts(brief, request, ask, **seen)
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write

    async def _advice(self, brief: Brief, weakness: Weakness, ask: Ask) -> str:
        """What the teacher makes of one weakness; empty when it has nothing readable to say."""
        seen = {
            "task": brief.task.describe(),
            "kind": weakness.kind,
            "expected": weakness.expected,
            "got": weakness.got,
            "missed": weakness.missed,
            "seen": weakness.seen,
            "wrong": [brief.task.show(sample) for sample in weakness.wrong],
            "right": [brief.task.show(sample) for sample in weakness.right] if self.correct else [],
        }
        answer = await ask(
            Prompt(
                request_key("analyse", weakness.name),
                "analyse",
                brief.templates.render("analyse", seen),
                derive_seed(brief.seed, brief.round, "analyse", weakness.name),
                brief.sampling,
                Constraint(json_schema=object_schema("advice")),
                seen,
            )
        )
        try:
            return str(orjson.loads(answer.text)["advice"]).strip()
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return ""
