"""What every teacher promises (`teachers.Teacher`), and what those answer that can be served without a model.

A teacher with an engine of its own has the tests of its answers in tests/vllm and tests/ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pickle
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evokd_data import settings
from evokd_data.models import ModelReference
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.registry import resolve
from evokd_data.strategies.schemas import object_schema, texts_schema
from evokd_data.teachers import TEACHERS, Engine, Teacher
from tests.support.example_task import TASK
from tests.support.fake_chat_server import FakeServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS: dict[str, dict[str, Any]] = {
    "vllm": {"model": "org/teacher", "revision": COMMIT},
    "ray": {"model": "org/teacher", "revision": COMMIT, "workers": 2},
    "server": {"model": "org/teacher", "urls": ["http://127.0.0.1:9/v1"]},
    "scripted": {},
}
"""The required settings of a teacher, and some more."""
SERVED = ("scripted", "server")

every_teacher = pytest.mark.parametrize("name", TEACHERS)
every_served_teacher = pytest.mark.parametrize("name", SERVED)


def build_teacher(name: str, **changes: Any) -> Teacher:
    teacher, problems = settings.build(resolve(TEACHERS, name), {**SETTINGS.get(name, {}), **changes}, "teacher")
    assert teacher is not None, problems
    return teacher


@contextlib.asynccontextmanager
async def serving(name: str, log: Path) -> AsyncIterator[Engine]:
    """The teacher's engine, open; a teacher behind HTTP gets a server in this process."""
    async with contextlib.AsyncExitStack() as stack:
        changes = {}
        if name == "server":
            server = await stack.enter_async_context(FakeServer().serving())
            changes = {"urls": [server.url]}
        yield await stack.enter_async_context(build_teacher(name, **changes).serve(log))


def ask(name: str, prompts: Sequence[Prompt], log: Path) -> list[Completion]:
    """The answers to prompts that are in flight together."""

    async def main() -> list[Completion]:
        async with serving(name, log) as engine:
            return await asyncio.gather(*map(engine.complete, prompts))

    return asyncio.run(main())


def prompt(template: str, number: int = 0, constraint: Constraint | None = None, **variables: Any) -> Prompt:
    message = Message("user", f"{template} {sorted(map(str, variables.values()))}")
    demonstrations = [{"text": "a rose so very red", "target": "red"}, {"text": "the deep blue sea", "target": "blue"}]
    variables = {"task": TASK.describe(), "demonstrations": demonstrations, **variables}
    return Prompt(f"{template}/{number:06d}", template, (message,), number, Sampling(1.0, 64), constraint, variables)


def prompts(count: int) -> list[Prompt]:
    """Prompts of all kinds in turn, each with a seed of its own."""
    kinds = [
        lambda n: prompt("generate", n, Constraint(json_schema=texts_schema(3)), target="red", count=3),
        lambda n: prompt("label", n, TASK.label_constraint("a red rose"), text=f"a red rose {n}", codes={}),
        lambda n: prompt("analyse", n, Constraint(json_schema=object_schema("advice")), expected="red", got="blue"),
    ]
    return [kinds[number % len(kinds)](number) for number in range(count)]


@every_teacher
def test_its_settings_are_a_frozen_recipe_table(name: str) -> None:
    teacher = build_teacher(name)
    assert teacher.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        teacher.temperature = 0.5  # type: ignore[misc]
    again, problems = settings.build(type(teacher), settings.table(teacher), "teacher")
    assert (again, problems) == (teacher, [])
    assert pickle.loads(pickle.dumps(teacher)) == teacher
    _, problems = settings.build(type(teacher), {**SETTINGS.get(name, {}), "temprature": 1.0}, "teacher")
    assert problems == ["teacher.temprature: no such setting; did you mean 'temperature'?"]


@every_teacher
@pytest.mark.parametrize(
    ("setting", "value"), [("temperature", -0.1), ("temperature", 2.1), ("top_p", 0), ("top_p", 1.1), ("max_tokens", 0)]
)
def test_sampling_that_no_engine_can_do_is_refused(name: str, setting: str, value: float) -> None:
    teacher, problems = settings.build(resolve(TEACHERS, name), {**SETTINGS.get(name, {}), setting: value}, "teacher")
    assert teacher is None
    (problem,) = problems
    assert problem.startswith(f"teacher.{setting}: {value}: ")


@every_teacher
def test_its_identity_is_json_and_changes_with_the_sampling_alone(name: str) -> None:
    teacher = build_teacher(name)
    identity = dict(teacher.identity())
    assert json.loads(json.dumps(identity, allow_nan=False)) == identity == build_teacher(name).identity()
    changes: tuple[dict[str, Any], ...] = ({"temperature": 0.5}, {"top_p": 0.9}, {"max_tokens": 7})
    for change in changes:
        assert build_teacher(name, **change).identity() != identity, change
    speed = {field.name: field for field in dataclasses.fields(teacher) if not field.metadata.get("identity", True)}  # type: ignore[arg-type]
    assert not set(speed) & set(identity)
    for number in {"window", "concurrency", "workers"} & set(speed):
        assert build_teacher(name, **{number: 3}).identity() == identity, number


@every_teacher
def test_its_capabilities_are_declared(name: str) -> None:
    teacher = build_teacher(name)
    assert isinstance(teacher.partitioned, bool)
    assert teacher.parts_url() is None
    if (model := teacher.base_model) is not None:
        assert model == ModelReference("org/teacher", SETTINGS[name].get("revision"))
    assert (teacher.temperature, teacher.top_p, teacher.max_tokens) == (1.0, 1.0, 512)


def test_one_teacher_is_partitioned_and_keeps_parts_where_it_is_told() -> None:
    assert [name for name in TEACHERS if build_teacher(name).partitioned] == ["ray"]
    assert build_teacher("ray", parts="s3://bucket/parts").parts_url() == "s3://bucket/parts"


@pytest.mark.slow
@every_served_teacher
def test_answers_come_in_the_order_of_the_prompts_and_are_decided_by_each_alone(name: str, tmp_path: Path) -> None:
    asked = prompts(9)
    together = ask(name, asked, tmp_path / "log")
    assert together == ask(name, asked[::-1], tmp_path / "log")[::-1]
    assert together == [ask(name, [alone], tmp_path / "log")[0] for alone in asked]
    assert len({answer.text for answer in together}) > 3


@every_served_teacher
def test_tokens_are_counted(name: str, tmp_path: Path) -> None:
    for answer in ask(name, prompts(3), tmp_path / "log"):
        assert answer.prompt_tokens > 0 and answer.completion_tokens > 0 and answer.finish_reason == "stop"


@every_served_teacher
def test_an_open_engine_sleeps_wakes_and_says_what_it_is(name: str, tmp_path: Path) -> None:
    async def main() -> list[Completion]:
        async with serving(name, tmp_path / "log") as engine:
            assert engine.window >= 1
            before = await engine.complete(prompts(1)[0])
            await engine.sleep()
            await engine.wake()
            environment = dict(engine.environment())
            assert json.loads(json.dumps(environment, allow_nan=False)) == environment and environment
            return [before, await engine.complete(prompts(1)[0])]

    before, after = asyncio.run(main())
    assert before == after


def test_every_teacher_has_settings_to_be_tested_with() -> None:
    assert set(SETTINGS) == set(TEACHERS), "give the new teacher its required settings in SETTINGS"
