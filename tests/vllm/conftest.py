"""One real engine for the module that asks for it, on a model of random weights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import build

from evokd_data.errors import TeacherError
from evokd_data.records import Constraint, Message, Prompt, Sampling
from evokd_data.teachers.vllm.engine import VLLMEngine
from evokd_data.teachers.vllm.names import version
from evokd_data.teachers.vllm.plug import VLLM

SETTINGS: dict[str, Any] = {"dtype": "float32", "kv_cache_gib": 0.25}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        version()
    except TeacherError as error:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


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


@pytest.fixture(scope="module")
def opened(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenEngine]:
    log = tmp_path_factory.mktemp("log") / "teacher.log"
    serving = VLLM(model=str(model), **SETTINGS).serve(log)
    with asyncio.Runner() as runner:
        yield OpenEngine(runner.run(serving.__aenter__()), runner, log)
        runner.run(serving.__aexit__(None, None, None))


def a_prompt(index: int, constraint: Constraint | None = None, max_tokens: int = 24, text: str = "") -> Prompt:
    return Prompt(
        key=f"generate/{index:06}",
        template="generate",
        messages=(Message("system", "You write requests."), Message("user", text or f"play some jazz, number {index}")),
        seed=7_000 + index,
        sampling=Sampling(1.0, max_tokens),
        constraint=constraint,
    )
