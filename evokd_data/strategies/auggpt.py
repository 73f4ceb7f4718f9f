"""AugGPT: the teacher rephrases seeds; a rephrased text keeps its seed's label.

Dai et al., "AugGPT: Leveraging ChatGPT for Text Data Augmentation", 2023 (arXiv 2302.13007), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.settings import from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.demonstrations import seeds_of
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.quotas import uniform_quotas
from evokd_data.strategies.writing import label_by_condition, write_texts
from evokd_data.tasks import Task


@from_anyone("per_request")
@dataclass(frozen=True)
class AugGPT:
    """Rephrasings of seeds, with the seeds' labels."""

    name: ClassVar[str] = "auggpt"
    prompt_templates: ClassVar[tuple[str, ...]] = ("rephrase", "label")

    per_request: Annotated[int, Field(ge=1, le=50)] = 5
    """How many rephrasings of one seed one call asks for."""

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        async def write(request: GenerationRequest) -> list[Draft]:
            return await rephrase(brief, request, ask, self.name)

        return write


async def rephrase(brief: Brief, request: GenerationRequest, ask: Ask, strategy: str) -> list[Draft]:
    """The request's texts, as rephrasings of one seed of its class, which is drawn by the request's seed.

    Where a label is not the whole target (spans move when a text is rephrased), the teacher labels the texts.
    """
    seed = derive_random(request.seed, "seed").choice(seeds_of(brief, request.quota.target))
    shown = brief.task.show(seed)
    texts, problem = await write_texts(brief, request, ask, template="rephrase", seed=shown, demonstrations=[shown])
    if brief.task.target_of(request.quota.target) is None:
        return await label_texts(brief, request, ask, strategy, texts, problem)
    return label_by_condition(brief, request, strategy, texts, problem)
