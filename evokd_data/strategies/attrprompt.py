"""AttrPrompt: every text is asked for with attributes drawn for it, such as topic, length and tone, so that texts differ.

Yu et al., "Large Language Model as Attributed Training Data Generator: A Tale of Diversity and Bias", NeurIPS 2023,
section 3. Topics depend on the class, and the teacher names them. The other attributes do not, and the recipe names them.
The paper takes the class that was asked for as the label; here the teacher labels the texts in a separate call, as in every
other strategy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.settings import from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.quotas import uniform_quotas
from evokd_data.strategies.writing import ask_for_names, write_texts
from evokd_data.tasks import Task

DEFAULT_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "length": ("a few words", "one sentence", "two or three sentences"),
    "tone": ("casual", "formal", "terse", "chatty", "annoyed", "polite"),
}


@from_anyone("attributes", "topics", "demonstrations", "per_request")
@dataclass(frozen=True)
class AttrPrompt:
    """Texts with attributes drawn for each request, such as topic, length and tone."""

    name: ClassVar[str] = "attrprompt"
    prompt_templates: ClassVar[tuple[str, ...]] = ("topics", "generate", "label")

    attributes: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = field(
        default_factory=lambda: DEFAULT_ATTRIBUTES
    )
    """Names with their possible values. One value of each is drawn for each request."""
    topics: Annotated[int, Field(ge=0, le=100)] = 10
    """How many topics the teacher names for each label each round. One of them is drawn for each request. 0: no topics."""
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 0
    """How many samples each prompt that writes texts shows. The paper shows none."""
    per_request: Annotated[int, Field(ge=1, le=50)] = 1
    """How many texts one call asks for; they share their attributes. The paper asks for one."""

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """One call for topics of each class, made when the first request needs them."""
        topics_of: dict[str, asyncio.Future[list[str]]] = {}

        async def topics(label: str) -> list[str]:
            if not self.topics:
                return []
            if label not in topics_of:
                topics_of[label] = asyncio.ensure_future(ask_for_names(brief, ask, "topics", label, self.topics))
            return await topics_of[label]

        async def write(request: GenerationRequest) -> list[Draft]:
            choices = {"topic": await topics(request.quota.target), **self.attributes}
            chance = derive_random(request.seed, "attributes")
            drawn = {name: chance.choice(values) for name, values in choices.items() if values}
            texts, problem = await write_texts(
                brief,
                request,
                ask,
                advice="; ".join(f"{name}: {value}" for name, value in drawn.items()),
                demonstration_count=self.demonstrations,
            )
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write
