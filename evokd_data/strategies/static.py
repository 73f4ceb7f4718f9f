"""Static distillation: EvoKD's prompts and budget without feedback from the student; every class alike, easy and hard.

The baseline that measures what the feedback is worth (Liu et al. 2024, section 4: "the same budget with no feedback").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.settings import from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.quotas import stratified_quotas
from evokd_data.strategies.useful import UsefulDemonstrations
from evokd_data.strategies.writing import write_texts
from evokd_data.tasks import Task


@from_anyone("easy", "demonstrations", "choose", "choosing_calls", "per_request")
@dataclass(frozen=True)
class Static:
    """EvoKD's prompts without feedback from the student."""

    name: ClassVar[str] = "static"
    prompt_templates: ClassVar[tuple[str, ...]] = ("generate", "label")

    easy: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of easy texts; the others are hard."""
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

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return stratified_quotas(brief.task.labels, brief.budget, self.easy, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        useful = None
        if self.choose == "useful":
            useful = UsefulDemonstrations(brief, ask, self.choosing_calls, self.demonstrations)

        async def write(request: GenerationRequest) -> list[Draft]:
            candidates = await useful.of(request.quota.target) if useful else None
            texts, problem = await write_texts(
                brief, request, ask, candidates=candidates, demonstration_count=self.demonstrations
            )
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write
