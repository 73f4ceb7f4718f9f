"""AttrPrompt: every text is asked for with attributes of its own, a topic, a length, a tone, so that texts differ.

Yu et al., "Large Language Model as Attributed Training Data Generator: A Tale of Diversity and Bias", NeurIPS 2023,
section 3. Topics depend on the class and are the teacher's own; the other attributes do not, and are the recipe's. The
paper believes the class it asked for; here the teacher labels the texts in a separate call, as for every other strategy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.asking import demonstrations, label_texts, name_some, write_texts
from evokd_data.strategies.quotas import evenly
from evokd_data.tasks import Task

USUAL: Mapping[str, tuple[str, ...]] = {
    "length": ("a few words", "one sentence", "two or three sentences"),
    "tone": ("casual", "formal", "terse", "chatty", "annoyed", "polite"),
}


@dataclass(frozen=True)
class AttrPrompt:
    """`attributes` are names with their possible values, one value drawn for each request; `topics` of each class are
    asked of the teacher each round, and one is drawn too (0: none). One text a call is the paper's way: texts of one
    call share their attributes."""

    name: ClassVar[str] = "attrprompt"
    prompt_templates: ClassVar[tuple[str, ...]] = ("topics", "generate", "label")

    attributes: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = field(default_factory=lambda: USUAL)
    topics: Annotated[int, Field(ge=0, le=100)] = 10
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 0
    per_request: Annotated[int, Field(ge=1, le=50)] = 1

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return evenly(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """One call for topics a class, asked when the first request needs it."""
        asked: dict[str, asyncio.Future[list[str]]] = {}

        async def topics(label: str) -> list[str]:
            if not self.topics:
                return []
            if label not in asked:
                asked[label] = asyncio.ensure_future(name_some(brief, ask, "topics", label, self.topics))
            return await asked[label]

        async def write(request: GenerationRequest) -> list[Draft]:
            known = {"topic": await topics(request.quota.target), **self.attributes}
            chance = derive_random(request.seed, "attributes")
            drawn = {name: chance.choice(values) for name, values in known.items() if values}
            texts, problem = await write_texts(
                brief,
                request,
                ask,
                advice="; ".join(f"{name}: {value}" for name, value in drawn.items()),
                demonstrations=demonstrations(brief, request, self.demonstrations),
            )
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write
