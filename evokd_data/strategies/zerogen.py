"""ZeroGen: texts conditioned on a label, without examples and without feedback; the condition is their label.

Ye et al., "ZeroGen: Efficient Zero-shot Learning via Dataset Generation", EMNLP 2022, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.settings import from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.quotas import uniform_quotas
from evokd_data.strategies.writing import label_by_condition, write_texts
from evokd_data.tasks import Task


@from_anyone("per_request")
@dataclass(frozen=True)
class ZeroGen:
    """Texts written for a label, without examples."""

    name: ClassVar[str] = "zerogen"
    prompt_templates: ClassVar[tuple[str, ...]] = ("generate",)

    per_request: Annotated[int, Field(ge=1, le=50)] = 5
    """How many texts one call asks for. More of them cost fewer tokens of prompts; the texts of one call are more
    alike."""

    def accepts(self, task: Task) -> str | None:
        if any(task.target_of(label) is None for label in task.labels):
            return "a text written for a type of span does not say where the span is; use static"
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        async def write(request: GenerationRequest) -> list[Draft]:
            texts, problem = await write_texts(brief, request, ask)
            return label_by_condition(brief, request, self.name, texts, problem)

        return write
