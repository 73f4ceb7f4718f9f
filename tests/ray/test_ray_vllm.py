"""vLLM's engines in actors: what they write is what one engine of this process writes. A minute, three engines."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest
from test_ray_actors import alive, pids

from evokd_data.errors import TeacherError
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.teachers import Engine
from evokd_data.teachers.ray import Ray
from evokd_data.teachers.vllm import VLLM, version

sys.path.insert(0, str(Path(__file__).parents[1] / "vllm"))

pytestmark = [pytest.mark.ray, pytest.mark.vllm]

SETTINGS = {"dtype": "float32", "kv_cache_gib": 0.1, "max_num_seqs": 8}
CODES = Constraint(choices=tuple("ABCD"), score=True)


def prompt(number: int) -> Prompt:
    messages = (Message("user", f"play some jazz, number {number}"),)
    # Every fifth one is scored, every third one long: a worker that dies has both on the way.
    constraint = CODES if number % 5 == 0 else None
    return Prompt(
        f"generate/{number:06}",
        "generate",
        messages,
        7 + number,
        Sampling(1.0, 20 + 200 * (number % 3 == 0)),
        constraint,
    )


PROMPTS = [prompt(number) for number in range(48)]


async def ask(engine: Engine) -> list[Completion]:
    return await asyncio.gather(*map(engine.complete, PROMPTS))


def test_two_workers_one_of_them_killed_write_what_one_engine_writes(tmp_path):
    try:
        version()
    except TeacherError as error:
        pytest.skip(str(error))
    from tiny import build

    model = str(build(tmp_path / "model", ends=False))

    async def alone() -> list[Completion]:
        async with VLLM(model=model, **SETTINGS).serve(tmp_path / "alone.log") as engine:
            return await ask(engine)

    async def many() -> tuple[list[Completion], int]:
        async with Ray(model=model, workers=2, **SETTINGS).serve(tmp_path / "many.log") as fleet:
            while len(fleet._places) < 2:
                await asyncio.sleep(0.1)
            task = asyncio.create_task(ask(fleet))
            place = fleet._places[0]
            while place.answered < 4:
                await asyncio.sleep(0.01)
            assert place.tickets, "nothing on the way"
            victim = psutil.Process(int(place.worker.where.split()[-1].rstrip(")")))
            assert victim.pid in pids()
            below = [child.pid for child in victim.children(recursive=True)]
            victim.kill()
            answers = await task
            assert below and alive(below, 10) == [], "engine processes that outlive their actor"
            return answers, fleet.deaths

    expected = asyncio.run(alone())
    answers, deaths = asyncio.run(many())
    assert deaths == 1
    assert [(a.text, a.finish_reason, a.completion_tokens) for a in answers] == [
        (a.text, a.finish_reason, a.completion_tokens) for a in expected
    ]
    scored = [
        (a.choice_logprobs, e.choice_logprobs) for a, e in zip(answers, expected, strict=True) if e.choice_logprobs
    ]
    assert len(scored) == 10
    for one, other in scored:
        assert one == pytest.approx(other, abs=1e-4)
    assert len({answer.text for answer in answers}) > 30
