"""The scheduler: order, window, errors; and a teacher that is opened on demand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import TeacherError
from evokd_data.generation.scheduler import AHEAD, TeacherOnDemand, in_order
from evokd_data.records import Message, Prompt, Sampling
from evokd_data.teachers.scripted import Scripted


async def collected(items, work, window: Callable[[], int]) -> list:
    return [pair async for pair in in_order(items, work, window)]


@given(st.integers(0, 40), st.integers(1, 9), st.randoms(use_true_random=False))
def test_results_come_in_order_and_no_more_than_the_window_at_a_time(count, window, chance):
    running = most = 0
    waits = [chance.randrange(4) for _ in range(count)]

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(waits[item]):
            await asyncio.sleep(0)
        running -= 1
        return item * 10

    assert asyncio.run(collected(range(count), work, lambda: window)) == [(i, i * 10) for i in range(count)]
    assert most <= window and running == 0


def test_a_straggler_holds_back_a_bounded_number_of_results():
    started: list[int] = []

    async def main() -> list[int]:
        gate = asyncio.Event()

        async def work(item: int) -> int:
            started.append(item)
            if item == 0:
                await gate.wait()
            return item

        results = in_order(range(1000), work, lambda: 3)
        first = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0.05)
        in_flight = len(started)
        gate.set()
        await first
        later = [item async for item, _ in results]
        return [in_flight, len(later)]

    in_flight, later = asyncio.run(main())
    assert in_flight == AHEAD * 3 and later == 999


@pytest.mark.parametrize("failing", [0, 5, 7])
def test_the_first_error_of_any_item_is_raised_at_once_and_all_others_are_cancelled(failing):
    cancelled: list[int] = []
    started: list[int] = []

    async def work(item: int) -> int:
        started.append(item)
        if item == failing:
            raise TeacherError("gone")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async def main() -> None:
        with pytest.raises(TeacherError, match="gone"):
            async with asyncio.timeout(20):
                await collected(range(100), work, lambda: 8)
        assert sorted([*cancelled, failing]) == sorted(started)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_error_in_the_items_themselves_is_raised():
    def items():
        yield 1
        raise ValueError("no more")

    async def work(item: int) -> int:
        return item

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(collected(items(), work, lambda: 4))


def test_leaving_early_leaves_nothing_running():
    async def main() -> None:
        async def work(item: int) -> int:
            await asyncio.sleep(0 if item == 0 else 60)
            return item

        async with contextlib.aclosing(in_order(range(50), work, lambda: 4)) as results:
            async for _ in results:
                break
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_window_that_grows_is_used_and_one_that_shrinks_is_kept_to():
    window, running, loads = 2, 0, []

    async def work(item: int) -> int:
        nonlocal window, running
        running += 1
        loads.append((item, running))
        for _ in range(10):
            await asyncio.sleep(0)
        running -= 1
        window = 6 if item < 20 else 1
        return item

    asyncio.run(collected(range(60), work, lambda: window))
    assert max(r for i, r in loads if i < 20) == 6
    assert all(r == 1 for i, r in loads if i > 40)


def label_prompt(number: int) -> Prompt:
    variables = {"task": {"labels": ["a", "b"]}, "text": f"text {number}", "demonstrations": []}
    return Prompt(f"label/{number}", "label", (Message("user", "x"),), number, Sampling(0.0, 8), variables=variables)


@dataclass(frozen=True)
class Counted(Scripted):
    """A scripted teacher that counts how often it is opened and closed, and how many prompts are inside at once."""

    fails: bool = False
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("opened", "closed", "inside", "most"), 0))

    @contextlib.asynccontextmanager
    async def serve(self, log: Path):
        self.counts["opened"] += 1
        await asyncio.sleep(0.01)
        if self.fails:
            raise TeacherError("no such model")
        async with super().serve(log) as engine:
            yield Watched(engine, self.counts)
        self.counts["closed"] += 1


@dataclass(frozen=True)
class Watched:
    engine: object
    counts: dict[str, int]

    @property
    def window(self) -> int:
        return self.engine.window

    async def complete(self, prompt):
        self.counts["inside"] += 1
        self.counts["most"] = max(self.counts["most"], self.counts["inside"])
        await asyncio.sleep(0.001 * random.random())
        try:
            return await self.engine.complete(prompt)
        finally:
            self.counts["inside"] -= 1


def ask_many(teacher: Counted, count: int, log: Path):
    async def main():
        async with TeacherOnDemand(teacher, log) as on_demand:
            assert on_demand.engine is None
            return await asyncio.gather(
                *(on_demand.complete(label_prompt(i)) for i in range(count)), return_exceptions=True
            )

    return asyncio.run(main())


def test_a_teacher_is_opened_once_by_the_first_of_many_prompts_and_closed(tmp_path):
    teacher = Counted(window=4)
    answers = ask_many(teacher, 40, tmp_path / "deep" / "teacher.log")
    assert [answer.text in "ab" for answer in answers] == [True] * 40
    assert teacher.counts == {"opened": 1, "closed": 1, "inside": 0, "most": 4}


def test_a_teacher_nobody_asks_is_never_opened(tmp_path):
    teacher = Counted()
    assert ask_many(teacher, 0, tmp_path / "log") == []
    assert teacher.counts["opened"] == 0


def test_a_teacher_that_cannot_be_opened_is_tried_once_whoever_waits(tmp_path):
    teacher = Counted(fails=True)
    answers = ask_many(teacher, 30, tmp_path / "log")
    assert {str(answer) for answer in answers} == {"no such model"}
    assert teacher.counts["opened"] == 1
