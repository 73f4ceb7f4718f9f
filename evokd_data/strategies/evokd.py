"""EvoKD: samples against the student's weaknesses.

Liu et al., "Evolving Knowledge Distillation with Large Language Models and Active Learning", LREC-COLING 2024,
section 3: analyse the student's mistakes, write easy and hard texts for its weaknesses, label them in a separate call.

Where we differ from the paper: every label gets the same number of texts, at most a share `targeted` of them written against weaknesses, and the first
round targets none. Targeting everything, or hard texts alone, lost against uniform generation in every simulation on real data that we
know (by up to 4 points). Labels that are confused get no more texts than others: no study that we know shows that to help on balanced
tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from evokd_data.digest import derive_seed
from evokd_data.records import Constraint, Draft, GenerationRequest, Quota, Weakness
from evokd_data.settings import Share, from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.auggpt import AugGPT, rephrase
from evokd_data.strategies.composing import write_labelled_texts
from evokd_data.strategies.demonstrations import draw_demonstrations
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.quotas import by_difficulty, contrasted_quotas, divide, uniform_quotas
from evokd_data.strategies.schemas import object_schema
from evokd_data.strategies.useful import UsefulDemonstrations
from evokd_data.strategies.writing import write_texts
from evokd_data.tasks import Task


@from_anyone(
    "easy",
    "targeted",
    "targeted_from",
    "weaknesses",
    "contrast",
    "analyse",
    "correct",
    "separation",
    "init",
    "init_rounds",
    "demonstrations",
    "choose",
    "choosing_calls",
    "per_request",
)
@dataclass(frozen=True)
class EvoKD:
    """Texts against the student's weaknesses, and easy and hard texts of every label.

    The paper's ablations: w/o Easy is `easy: 0`, w/o Correct `correct: false`, w/o Separation `separation: false`,
    w/o Review the student's `replay: 0`.
    """

    name: ClassVar[str] = "evokd"

    easy: Share = 0.5
    """The share of easy texts among those that aim at no weakness; the others are hard. The paper's ablation without
    easy texts: 0."""
    targeted: Share = 0.3
    """The largest share of each label's texts that is written against weaknesses. 0: none. Every label gets the same number of texts in any case."""
    targeted_from: Annotated[int, Field(ge=1)] = 2
    """The first round that aims at weaknesses. Earlier students are too weak to show useful ones."""
    weaknesses: Annotated[int, Field(ge=1)] = 5
    """The most weaknesses that a round aims at, the highest rate first (docs/report.md says what that is)."""
    contrast: Share = 0.0
    """The share of each label's other texts that is written against the labels most like it, with seeds of both in the
    prompt. No measurement says yet that it helps; it may with many labels that are alike (IDGF, at 64 to 150 labels)."""
    analyse: bool = True
    """Ask the teacher for advice on each weakness before it writes."""
    correct: bool = True
    """Show the teacher what the student got right, too. The paper's ablation: false."""
    separation: bool = True
    """Label texts in a separate call. false: the teacher writes text and label at once, with fewer calls and worse
    labels (the paper's ablation)."""
    init: Literal["none", "auggpt"] = "none"
    """How the first rounds are made. `auggpt`: by rephrasing seeds. `none`: as all others."""
    init_rounds: Annotated[int, Field(ge=1)] = 1
    """With `init: auggpt`, how many rounds are made so."""
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 3
    """How many seeds of its label each prompt that writes texts shows; three seeds of other labels stand before them. With
    `choose: useful`, earlier samples are among them."""
    choose: Literal["random", "useful"] = "random"
    """Which samples are shown. `random`: drawn anew for each prompt. `useful`: those that help the teacher most to
    label others."""
    choosing_calls: Annotated[int, Field(ge=0)] = 100
    """With `choose: useful`, the most calls to the teacher that a round spends on choosing."""
    per_request: Annotated[int, Field(ge=1, le=50)] = 5
    """How many texts one call asks for. More of them cost fewer tokens of prompts; the texts of one call are more
    alike."""

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
        """The same number of texts for every label. The targeted quotas come first, for both labels of each confused pair; then the
        others, easy and hard."""
        if self._initial(brief):
            return uniform_quotas(brief.task.labels, brief.budget, brief.round)
        aims = [weakness for weakness in brief.weaknesses if weakness.rate] if brief.round >= self.targeted_from else []
        chosen = aims[: self.weaknesses]
        labels = brief.task.labels
        left = dict(zip(labels, divide(brief.budget, [1.0] * len(labels), brief.round), strict=True))
        targeted: list[Quota] = []
        for label in labels:
            against = [(weakness.got if weakness.expected == label else weakness.expected, weakness)
                       for weakness in chosen if label in (weakness.expected, weakness.got)]  # fmt: skip
            parts = divide(round(left[label] * self.targeted), [weakness.rate for _, weakness in against])
            for (contrast, weakness), samples in zip(against, parts, strict=True):
                if samples:
                    targeted.append(Quota(label, samples, "hard", contrast, weakness.name))
                    left[label] -= samples
        others = by_difficulty(left, self.easy, brief.round)
        return [*targeted, *contrasted_quotas(others, brief.neighbours, self.contrast, brief.round)]

    def _initial(self, brief: Brief) -> bool:
        return self.init == "auggpt" and brief.round <= self.init_rounds

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """One analysis of each weakness, asked for when the first request needs it: untargeted requests never wait."""
        weaknesses = {weakness.name: weakness for weakness in brief.weaknesses}
        analyses: dict[str, asyncio.Future[str]] = {}

        def advice(name: str) -> Awaitable[str]:
            if name not in analyses:
                analyses[name] = asyncio.ensure_future(self._advice(brief, weaknesses[name], ask))
            return analyses[name]

        useful = None
        if self.choose == "useful":
            useful = UsefulDemonstrations(brief, ask, self.choosing_calls, self.demonstrations)

        async def write(request: GenerationRequest) -> list[Draft]:
            if self._initial(brief):
                return await rephrase(brief, request, ask, self.name)
            candidates = await useful.of(request.quota.target) if useful else None
            weakness = request.quota.weakness
            variables: dict[str, Any] = {
                "advice": await advice(weakness) if weakness and self.analyse else "",
            }
            if not self.separation:
                variables["demonstrations"] = draw_demonstrations(brief, request, self.demonstrations, candidates)
                return await write_labelled_texts(brief, request, ask, self.name, **variables)
            texts, problem = await write_texts(
                brief, request, ask, candidates=candidates, demonstration_count=self.demonstrations, **variables
            )
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write

    async def _advice(self, brief: Brief, weakness: Weakness, ask: Ask) -> str:
        """The teacher's advice to a writer of texts against one weakness; empty when its answer cannot be read."""
        variables = {
            "task": task_variables(brief),
            "kind": weakness.kind,
            "expected": weakness.expected,
            "got": weakness.got,
            "missed": weakness.missed,
            "seen": weakness.seen,
            "wrong": [brief.task.show(sample) for sample in weakness.wrong],
            "right": [brief.task.show(sample) for sample in weakness.right] if self.correct else [],
        }
        prompt = make_prompt(
            brief,
            prompt_key("analyse", weakness.name),
            "analyse",
            variables,
            seed=derive_seed(brief.seed, brief.round, "analyse", weakness.name),
            constraint=Constraint(json_schema=object_schema("advice")),
        )
        answer = await ask(prompt)
        try:
            return str(orjson.loads(answer.text)["advice"]).strip()
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return ""
