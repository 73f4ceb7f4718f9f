"""Many engines as one: here each worker is an engine of this process, and some of them die."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import EngineStopped, RecipeError, TeacherError
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.teachers.fleet import DEATHS, Fleet, Host
from evokd_data.teachers.ray import Ray
from evokd_data.teachers.scripted import Scripted
from evokd_data.teachers.vllm import VLLM


def prompt(number: int) -> Prompt:
    wanted = Constraint(json_schema={"required": ["advice"]})
    seen = {"target": f"red {number}", "got": "blue"}
    return Prompt(f"analyse/{number:06}", "analyse", (Message("user", "x"),), number, Sampling(1.0, 64), wanted, seen)


PROMPTS = [prompt(number) for number in range(60)]


@dataclass(frozen=True)
class Mortal(Scripted):
    """A scripted teacher whose engine dies when it is asked `until` prompts, or one whose key is `poison`."""

    until: int | None = None
    poison: str = ""
    busy: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[MortalEngine]:
        async with super().serve(log) as engine:
            yield MortalEngine(self, engine)


class MortalEngine:
    def __init__(self, teacher: Mortal, engine) -> None:
        self.teacher, self.engine, self.asked, self.busy = teacher, engine, 0, 0
        self.window = engine.window

    async def complete(self, asked: Prompt) -> Completion:
        self.asked += 1
        if self.asked == self.teacher.until or asked.key == self.teacher.poison:
            self.asked = 10**9
        if self.asked >= 10**9:
            raise EngineStopped("the engine caught fire")
        self.busy += 1
        self.teacher.busy["most"] = max(self.teacher.busy["most"], self.busy)
        self.teacher.busy["all"] += 1
        try:
            return await self.engine.complete(asked)
        finally:
            self.busy -= 1

    async def sleep(self) -> None:
        self.teacher.busy["slept"] += 1

    async def wake(self) -> None:
        self.teacher.busy["woken"] += 1

    def environment(self):
        return {"engine": "mortal", "window": self.window}


def hiring(*teachers: Scripted) -> tuple[Callable[[int], Awaitable[Host]], list[int]]:
    """Hires the teachers in turn, the last one for ever; and the places they were hired for."""
    hired: list[int] = []

    async def hire(index: int) -> Host:
        teacher = teachers[min(len(hired), len(teachers) - 1)]
        hired.append(index)
        host = Host(teacher, Path("/dev/null"))
        await host.open(teacher.identity())
        return host

    return hire, hired


def ask(hire, places: int, prompts=PROMPTS) -> tuple[list[Completion], Fleet]:
    async def main():
        async with asyncio.timeout(30):
            async with Fleet(hire, places, lambda line: None) as fleet:
                return await asyncio.gather(*map(fleet.complete, prompts)), fleet

    return asyncio.run(main())


@pytest.fixture(scope="module")
def expected() -> list[Completion]:
    return ask(hiring(Scripted())[0], 1)[0]


@pytest.mark.parametrize("places", [2, 7])
def test_more_workers_give_the_same_answers(places, expected):
    answers, fleet = ask(hiring(Scripted(window=16))[0], places)
    assert answers == expected and len({answer.text for answer in answers}) == 60
    assert fleet.window == 16 * places and fleet.deaths == 0


@given(st.lists(st.integers(1, 30), max_size=4), st.integers(1, 4))
def test_whoever_dies_whenever_the_answers_are_the_same(lives, places):
    """Each place may lose a worker or two; none of the deaths takes the same prompt three times."""
    lives = lives[: min(2, places)]
    mortals = [Mortal(until=life, latency_s=0.001) for life in lives]
    answers, fleet = ask(hiring(*mortals, Scripted())[0], places)
    assert answers == ask(hiring(Scripted())[0], 1)[0]
    assert fleet.deaths <= len(lives)


def test_a_dead_worker_is_replaced_in_its_place(expected):
    hire, hired = hiring(Mortal(until=5), Mortal(latency_s=0.05), Scripted())
    answers, fleet = ask(hire, 2)
    assert answers == expected
    assert fleet.deaths == 1 and hired[:2] == [0, 1] and hired[2:] in ([0], [1])


def test_a_prompt_that_kills_every_worker_is_given_up_by_name():
    hire, hired = hiring(Mortal(poison=PROMPTS[0].key, latency_s=0.01))

    async def main():
        async with Fleet(hire, 4, lambda line: None) as fleet:
            others = [asyncio.create_task(fleet.complete(one)) for one in PROMPTS[1:4]]
            await asyncio.gather(*others)
            with pytest.raises(TeacherError, match=rf"{PROMPTS[0].key}: {DEATHS} workers died .* caught fire"):
                await fleet.complete(PROMPTS[0])
            assert (await fleet.complete(PROMPTS[5])).text

    asyncio.run(main())
    assert DEATHS + 1 <= len(hired) <= 4 + DEATHS


def test_workers_that_die_again_and_again_are_told_with_their_last_word():
    hire, hired = hiring(Mortal(until=1))
    with pytest.raises(TeacherError, match="caught fire"):
        ask(hire, 2)
    assert len(hired) <= 2 * DEATHS


def test_what_keeps_the_first_worker_from_opening_is_told_at_once():
    tried = []

    async def hire(index: int) -> Host:
        tried.append(index)
        raise RecipeError("teacher.engine_args.block_sise: no such argument")

    with pytest.raises(RecipeError, match="block_sise"):
        ask(hire, 3)
    assert sorted(tried) == [0, 1, 2]


def test_one_place_that_cannot_be_filled_leaves_the_others_at_work(expected):
    hire, _ = hiring(Scripted())

    async def partly(index: int) -> Host:
        if index == 1:
            raise TeacherError("no memory here")
        return await hire(index)

    assert ask(partly, 3)[0] == expected


def test_work_goes_where_there_is_room_and_no_window_is_passed():
    slow, fast = (Mortal(latency_s=latency, window=4, busy=Counter()) for latency in (0.2, 0.002))
    hire, _ = hiring(slow, fast)

    async def main():
        async with Fleet(hire, 2, lambda line: None) as fleet:
            await asyncio.sleep(0)  # both are open
            slots = asyncio.Semaphore(fleet.window)

            async def one(asked: Prompt) -> Completion:
                async with slots:
                    return await fleet.complete(asked)

            await asyncio.gather(*map(one, PROMPTS))

    asyncio.run(main())
    assert slow.busy["most"] <= 4 and fast.busy["most"] <= 4
    assert slow.busy["all"] + fast.busy["all"] == 60 and fast.busy["all"] > 2 * slow.busy["all"]


def test_a_worker_that_comes_late_finds_work_left():
    early, late = (Mortal(latency_s=0.02, window=4, busy=Counter()) for _ in range(2))
    hire, _ = hiring(early, late)

    async def slowly(index: int) -> Host:
        await asyncio.sleep(0.15 * index)
        return await hire(index)

    ask(slowly, 2)  # all of them at once
    assert early.busy["most"] <= 4 and late.busy["most"] <= 4
    assert late.busy["all"] > 10


def test_an_error_of_one_prompt_is_that_prompts_alone(expected):
    @dataclass(frozen=True)
    class Picky(Scripted):
        @asynccontextmanager
        async def serve(self, log: Path):
            async with super().serve(log) as engine:
                yield replace_complete(engine)

    def replace_complete(engine):
        class Refusing:
            window = engine.window
            environment = engine.environment

            async def complete(self, asked: Prompt) -> Completion:
                if asked.seed == 3:
                    raise TeacherError(f"refused {asked.key}")
                return await engine.complete(asked)

        return Refusing()

    async def main():
        async with Fleet(hiring(Picky())[0], 2, lambda line: None) as fleet:
            return await asyncio.gather(*map(fleet.complete, PROMPTS), return_exceptions=True)

    answers = asyncio.run(main())
    assert str(answers[3]) == f"refused {PROMPTS[3].key}"
    assert answers[:3] + answers[4:] == expected[:3] + expected[4:]


def test_a_prompt_nobody_waits_for_any_more_disturbs_nothing(expected):
    async def main():
        async with Fleet(hiring(Scripted(latency_s=0.05))[0], 2, lambda line: None) as fleet:
            tasks = [asyncio.create_task(fleet.complete(one)) for one in PROMPTS]
            await asyncio.sleep(0.01)
            for task in tasks[::2]:
                task.cancel()
            return await asyncio.gather(*tasks[1::2])

    assert asyncio.run(main()) == expected[1::2]


def test_another_model_on_a_workers_machine_is_refused():
    async def hire(index: int) -> Host:
        host = Host(Scripted(), Path("/dev/null"))
        await host.open({"digest": "0123"})
        return host

    with pytest.raises(TeacherError, match=r"teacher.model: here it is .*, at the driver {'digest': '0123'}"):
        ask(hire, 1)


def test_all_sleep_and_wake_and_tell_what_they_are():
    teacher = Mortal()

    async def main():
        async with Fleet(hiring(teacher, teacher, replace(teacher, window=3))[0], 3, lambda line: None) as fleet:
            await asyncio.sleep(0)
            await fleet.sleep()
            await fleet.wake()
            return fleet.environment()

    told = asyncio.run(main())
    assert (teacher.busy["slept"], teacher.busy["woken"]) == (3, 3)
    kinds = [{"engine": "mortal", "window": 256, "workers": 2}, {"engine": "mortal", "window": 3, "workers": 1}]
    assert told == {"workers": 3, "deaths": 0, "kinds": kinds}


def test_how_many_workers_there_are_is_no_part_of_what_the_teacher_is():
    model = {"model": "org/name", "revision": "0123456789" * 4}
    assert Ray(**model, workers=8, address="auto").identity() == VLLM(**model).identity()


def test_rays_client_protocol_is_refused():
    with pytest.raises(ValueError, match="address: auto"):
        Ray(model="org/name", address="ray://head:10001")
