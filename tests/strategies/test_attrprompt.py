"""AttrPrompt: which attributes are drawn for a text, and where they come from."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from evokd_data.records import Completion, Draft, Prompt
from evokd_data.strategies.attrprompt import AttrPrompt
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.teachers.scripted import Scripted, ScriptedEngine
from tests.support.example_task import TASK, brief

LENGTHS = {"length": ("short", "long"), "tone": ("dry",)}


def run(strategy: AttrPrompt, topics: object) -> tuple[list[Prompt], list[Draft]]:
    """Every prompt of a round, and its drafts, with a scripted teacher that names these topics."""
    prompts: list[Prompt] = []
    round_brief = brief(budget=60)

    async def ask(prompt: Prompt) -> Completion:
        prompts.append(prompt)
        if prompt.template == "topics":
            return Completion(orjson.dumps(topics).decode(), "stop", 1, 1)
        return await ScriptedEngine(Scripted()).complete(prompt)

    async def main() -> list[Draft]:
        write = strategy.writer(round_brief, ask)
        planned = RequestPlan([strategy.allot(round_brief)], strategy.per_request, round_brief.seed, round_brief.round)
        return [draft for drafts in await asyncio.gather(*map(write, planned)) for draft in drafts]

    return prompts, asyncio.run(main())


def test_topics_are_asked_once_a_class_and_every_request_draws_each_attribute():
    prompts, drafts = run(AttrPrompt(attributes=LENGTHS), {"topics": ["roses", "  fire   engines ", "roses", 7, ""]})
    assert sorted(p.variables["target"] for p in prompts if p.template == "topics") == sorted(TASK.labels)
    advice = [p.variables["advice"] for p in prompts if p.template == "generate"]
    assert len(advice) == 60 == len(drafts)
    assert set(advice) == {
        f"topic: {topic}; length: {length}; tone: dry"
        for topic in ("roses", "fire engines")
        for length in ("short", "long")
    }
    assert all(p.variables["advice"] in p.messages[1].content for p in prompts if p.template == "generate")
    assert {p.template for p in prompts} == set(AttrPrompt.prompt_templates)


@pytest.mark.parametrize("answer", [{"topics": "roses"}, {"subjects": []}, ["roses"], {"topics": [1, None]}])
def test_an_answer_without_topics_leaves_the_other_attributes(answer):
    prompts, _ = run(AttrPrompt(attributes={"tone": ("dry",)}), answer)
    assert {p.variables["advice"] for p in prompts if p.template == "generate"} == {"tone: dry"}


def test_without_topics_the_teacher_is_not_asked_for_any():
    prompts, _ = run(AttrPrompt(topics=0, attributes={}), {"topics": ["roses"]})
    assert {p.template for p in prompts} == {"generate", "label"}
