"""No augmentation: the student learns its seeds alone, as a baseline. A run has round 0 only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.tasks import Task


@dataclass(frozen=True)
class NoGeneration:
    """Has no settings. When a recipe asks for later rounds, they hold no samples."""

    name: ClassVar[str] = "none"
    prompt_templates: ClassVar[tuple[str, ...]] = ()
    per_request: ClassVar[int] = 1

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return ()

    def writer(self, brief: Brief, ask: Ask) -> Write:
        async def write(request: GenerationRequest) -> list[Draft]:
            return []

        return write
