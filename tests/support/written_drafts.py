"""A strategy at work without a run: its plan, its drafts, the prompts its teacher gets, and answers that no teacher should give."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from evokd_data.records import Completion, Draft, GenerationRequest, Prompt
from evokd_data.registry import resolve
from evokd_data.settings import build
from evokd_data.strategies import STRATEGIES, Ask, Brief, Strategy
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.teachers.scripted import Scripted, ScriptedEngine

HOSTILE = [
    Completion("", "stop", 0, 0),
    Completion("", "too_long", 9, 0),
    Completion('{"texts": ["whole", "also whole", "brok', "length", 1, 1),
    Completion('{"texts": [["a"], null, 3, {"text": "x"}]}', "stop", 1, 1),
    Completion('{"texts": "no list"}', "stop", 1, 1),
    Completion('{"texts": ["", "  ", "\\n"]}', "stop", 1, 1),
    Completion(orjson.dumps({"texts": ["x"] * 500}).decode(), "stop", 1, 1),
    Completion('{"samples": [{"text": "a"}, 5, null, {"text": 3, "answer": 4}]}', "stop", 1, 1),
    Completion('{"samples": [{"text": "", "answer": "red"}]}', "stop", 1, 1),
    Completion('{"samples": 7}', "stop", 1, 1),
    Completion('{"advice": ["not", "a", "string"]}', "stop", 1, 1),
    Completion("null", "stop", 1, 1, {}),
    Completion("red", "stop", 1, 1, {"A": -0.1}),
    Completion("A", "stop", 1, 1, {"A": -0.1, "B": -3.0, "C": -4.0, "D": -9.0}),
    Completion("\ud800", "length", 1, 1),
]
"""Answers that are empty, cut off, of another form, or no text at all."""


def build_strategy(name: str, settings: dict[str, object]) -> Strategy:
    strategy, problems = build(resolve(STRATEGIES, name), settings, name)
    assert strategy is not None, problems
    return strategy


def plan(strategy: Strategy, round_brief: Brief) -> list[GenerationRequest]:
    return RequestPlan([strategy.allot(round_brief)], strategy.per_request, round_brief.seed, round_brief.round)


def write(
    strategy: Strategy, round_brief: Brief, ask: Ask, planned: Sequence[GenerationRequest]
) -> dict[int, list[Draft]]:
    """Request index -> its drafts. All requests are written concurrently, started in the order of `planned`."""

    async def main() -> dict[int, list[Draft]]:
        writer = strategy.writer(round_brief, ask)
        drafts = await asyncio.gather(*(writer(request) for request in planned))
        return {
            request.index: list(drafts_of_request) for request, drafts_of_request in zip(planned, drafts, strict=True)
        }

    return asyncio.run(main())


class RecordingTeacher(list[Prompt]):
    """The scripted teacher; the list holds every prompt it got."""

    def __init__(self, **settings: float) -> None:
        super().__init__()
        self._script = ScriptedEngine(Scripted(**settings))

    async def __call__(self, prompt: Prompt) -> Completion:
        self.append(prompt)
        await asyncio.sleep(0)
        return await self._script.complete(prompt)
