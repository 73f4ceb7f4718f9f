"""A vLLM engine that tests keep open: its settings, its prompts, and the event loop that it runs in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evokd_data.records import Constraint, Message, Prompt, Sampling
from evokd_data.teachers.vllm.engine import VLLMEngine

SETTINGS: dict[str, Any] = {"dtype": "float32", "kv_cache_gib": 0.25}


@dataclass
class OpenEngine:
    """An engine and its event loop, which runs only while a test asks something."""

    engine: VLLMEngine
    runner: asyncio.Runner
    log: Path

    def ask(self, *prompts: Prompt) -> list[Any]:
        async def all_at_once() -> list[Any]:
            return await asyncio.gather(*(self.engine.complete(prompt) for prompt in prompts))

        return self.runner.run(all_at_once())


def a_prompt(index: int, constraint: Constraint | None = None, max_tokens: int = 24, text: str = "") -> Prompt:
    return Prompt(
        key=f"generate/{index:06}",
        template="generate",
        messages=(Message("system", "You write requests."), Message("user", text or f"play some jazz, number {index}")),
        seed=7_000 + index,
        sampling=Sampling(1.0, max_tokens),
        constraint=constraint,
    )
