"""A prompt that kills the engine costs a run two restarts and one text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from evokd_data.errors import EngineStopped
from evokd_data.generation.suspects import Suspects
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Message, Prompt, Sampling
from evokd_data.storage.shards import read_rejections
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies.prompts import prompt_key
from evokd_data.teachers.scripted import Scripted


def prompt(number: int) -> Prompt:
    return Prompt(f"label/{number:06}/0", "label", (Message("user", f"text {number}"),), number, Sampling(0.0, 8))


class Fragile:
    """An engine that dies when a prompt with one of these numbers is inside of it, and takes all others with it."""

    def __init__(self, *deadly: int) -> None:
        self.deadly, self.is_dead = deadly, asyncio.Event()
        self.inside = self.most_inside = 0
        self.asked: list[int] = []

    async def complete(self, one: Prompt) -> Completion:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.asked.append(one.seed)
        try:
            if one.seed in self.deadly:
                await asyncio.sleep(0.01)
                self.is_dead.set()
            with_luck = asyncio.create_task(asyncio.sleep(0.03))
            await asyncio.wait(
                [with_luck, asyncio.create_task(self.is_dead.wait())], return_when=asyncio.FIRST_COMPLETED
            )
            if self.is_dead.is_set():
                raise EngineStopped("an illegal instruction; its log: /home/ann/runs/teacher.log")
            return Completion("red", "stop", 1, 1)
        finally:
            self.inside -= 1


def life(file: Path, numbers: range, *deadly: int) -> tuple[Fragile, dict[int, Completion | None]]:
    """One process: its engine, and what each of the prompts got; None when the engine was dead."""

    async def main() -> tuple[Fragile, dict[int, Completion | None]]:
        engine, suspects = Fragile(*deadly), Suspects(file)
        results = await asyncio.gather(
            *(suspects.complete(prompt(n), engine.complete) for n in numbers), return_exceptions=True
        )
        assert all(isinstance(result, Completion | EngineStopped) for result in results)
        answers = {n: r if isinstance(r, Completion) else None for n, r in zip(numbers, results, strict=True)}
        return engine, answers

    return asyncio.run(main())


def test_after_two_deaths_the_deadly_prompt_is_known_and_all_others_are_answered(tmp_path: Path) -> None:
    file, numbers = tmp_path / "suspects.json", range(12)
    _, first = life(file, numbers, 5)
    assert set(first.values()) == {None} and len(read_json(file)["suspected"]) == 12
    engine, second = life(file, numbers, 5)
    assert engine.most_inside == 1, "a suspect is asked alone"
    refusal = second[5]
    assert refusal is not None and refusal.refusal == "the engine died of it: an illegal instruction"
    answered = [n for n, answer in second.items() if answer is not None and answer.refusal is None]
    assert answered == [0, 1, 2, 3, 4] and [n for n in numbers if second[n] is None] == [6, 7, 8, 9, 10, 11]
    engine, third = life(file, numbers, 5)
    assert 5 not in engine.asked and all(third[n] is not None for n in numbers)
    assert {n for n, answer in third.items() if answer is not None and answer.refusal} == {5}


def test_a_death_that_no_prompt_caused_costs_no_text(tmp_path: Path) -> None:
    file, numbers = tmp_path / "suspects.json", range(6)
    life(file, numbers, 3)
    engine, again = life(file, range(9))
    assert all(answer is not None and answer.refusal is None for answer in again.values())
    assert sorted(engine.asked) == [*range(9)]


def test_two_deadly_prompts_are_found_one_after_the_other(tmp_path: Path) -> None:
    file, numbers = tmp_path / "suspects.json", range(8)
    for _ in range(4):
        _, answers = life(file, numbers, 2, 6)
    assert {n for n, answer in answers.items() if answer is not None and answer.refusal} == {2, 6}
    assert all(answer is not None for answer in answers.values())


def test_a_damaged_file_makes_nobody_suspected(tmp_path: Path) -> None:
    file = tmp_path / "suspects.json"
    file.write_text('{"suspected": 3')
    engine, answers = life(file, range(3))
    assert all(answers.values()) and engine.most_inside == 3


@dataclass(frozen=True)
class Deadly(Scripted):
    """The scripted teacher, whose engine dies of the prompt with one key."""

    key: str = ""
    lives: list[int] = field(default_factory=list, hash=False, compare=False)

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Any]:  # type: ignore[override]  # its engine is wrapped
        self.lives.append(1)
        async with super().serve(log) as engine:
            yield DeadlyEngine(engine, self.key)


class DeadlyEngine:
    def __init__(self, engine: Any, key: str) -> None:
        self.engine, self.key, self.window, self.is_dead = engine, key, engine.window, False
        self.sleep, self.wake, self.environment = engine.sleep, engine.wake, engine.environment

    async def complete(self, one: Prompt) -> Completion:
        self.is_dead = self.is_dead or one.key == self.key
        if self.is_dead:
            raise EngineStopped("an illegal instruction")
        answer: Completion = await self.engine.complete(one)
        return answer


@pytest.mark.slow
def test_a_run_with_a_deadly_prompt_ends_by_its_third_start_with_one_text_less(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    deadly = Deadly(key=prompt_key("label", 2, 0, 0))
    loaded = replace(recipe(**{"count: 2": "count: 1"}), teacher=deadly, teacher_test_texts=0)
    with pytest.raises(EngineStopped):
        run_all([loaded], tmp_path, Progress())
    try:
        run_all([loaded], tmp_path, Progress())
    except EngineStopped:  # other prompts came after the deadly one
        run_all([loaded], tmp_path, Progress())
    workspace = Workspace(tmp_path / loaded.name)
    assert [read_json(folder.generated)["rejected"].get("refused", 0) for folder in workspace.rounds()] == [0, 1]
    (rejection,) = [r for r in read_rejections(workspace.round(1).rejection_files()) if r.reason == "refused"]
    assert rejection.detail == "the engine died of it: an illegal instruction"
    assert len(deadly.lives) in (2, 3)
