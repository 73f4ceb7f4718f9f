"""The scripted teacher: it obeys constraints, and is wrong on purpose in the share asked for."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.settings import build
from evokd_data.strategies.labelling import label_codes
from evokd_data.strategies.schemas import object_schema, texts_schema
from evokd_data.teachers.scripted import Scripted
from tests.support.example_task import TASK

DEMONSTRATIONS = [{"text": "a rose so very red", "target": "red"}, {"text": "the deep blue sea", "target": "blue"}]


def scripted(**settings) -> Scripted:
    teacher, problems = build(Scripted, settings, "teacher")
    assert teacher is not None, problems
    return teacher


def prompt(template: str, number: int = 0, constraint: Constraint | None = None, **variables) -> Prompt:
    message = Message("user", f"{template} {sorted(map(str, variables.values()))}")
    variables = {"task": TASK.describe(), "demonstrations": DEMONSTRATIONS, **variables}
    return Prompt(f"{template}/{number:06d}", template, (message,), number, Sampling(1.0, 64), constraint, variables)


def generate(number: int, count: int = 3) -> Prompt:
    return prompt("generate", number, Constraint(json_schema=texts_schema(count)), target="red", count=count)


def label(text: str, number: int = 0) -> Prompt:
    return prompt("label", number, TASK.label_constraint(text), text=text, codes={})


def scored(text: str, number: int = 0) -> Prompt:
    names = label_codes(TASK.classes)
    return prompt("label", number, Constraint(choices=tuple(names.values()), score=True), text=text, codes=names)


def ask(teacher, prompts, log) -> list[Completion]:
    async def main():
        async with teacher.serve(log) as engine:
            assert engine.window >= 1
            await engine.sleep()
            await engine.wake()
            json.dumps(dict(engine.environment()))
            return await asyncio.gather(*map(engine.complete, prompts))

    return asyncio.run(main())


def test_answers_keep_to_the_constraint(tmp_path):
    prompts = [generate(0, 4), label("a red rose"), scored("a red rose"), prompt("analyse", 1, Constraint(json_schema=object_schema("advice")), expected="red", got="blue")]  # fmt: skip
    texts, chosen, scores, advice = ask(scripted(), prompts, tmp_path / "log")
    assert len(json.loads(texts.text)["texts"]) == 4
    assert chosen.text in TASK.labels
    assert scores.text in "ABC" and set(scores.choice_logprobs) == set("ABC")
    assert list(json.loads(advice.text)) == ["advice"]


def test_another_seed_gives_another_text(tmp_path):
    answers = ask(scripted(), [generate(number) for number in range(50)], tmp_path / "log")
    assert len({answer.text for answer in answers}) == 50


@pytest.mark.slow
@given(st.sampled_from(TASK.labels), st.integers(0, 2**62))
def test_a_scripted_teacher_labels_its_own_texts_as_it_was_asked_to_write_them(target, seed):
    demonstrations = [example for example in DEMONSTRATIONS if example["target"] == target]
    schema = Constraint(json_schema=texts_schema(2))
    writing = prompt("generate", seed, schema, target=target, count=2, demonstrations=demonstrations)
    (written,) = ask(scripted(), [writing], None)
    texts = json.loads(written.text)["texts"]
    answers = ask(scripted(), [ask_for(text) for text in texts for ask_for in (label, scored)], None)
    assert [answer.text for answer in answers] == [target, label_codes(TASK.classes)[target]] * 2


def test_scores_are_log_probabilities(tmp_path):
    (answer,) = ask(scripted(), [scored("the deep blue sea")], tmp_path)
    assert sum(2.718281828459045**score for score in answer.choice_logprobs.values()) == pytest.approx(1)
    assert max(answer.choice_logprobs, key=answer.choice_logprobs.get) == answer.text == "C"


def test_wrong_and_broken_answers_come_in_the_share_asked_for(tmp_path):
    prompts = [label("a rose so very red", number) for number in range(400)]
    wrong = ask(scripted(wrong_labels=0.6), prompts, tmp_path)
    assert (
        0.3 < sum(answer.text != "red" for answer in wrong) / 400 < 0.5
    )  # a third of the wrong ones is right by chance
    broken = ask(scripted(broken_answers=0.5), [generate(number) for number in range(400)], tmp_path)
    assert 0.4 < sum(answer.finish_reason == "length" for answer in broken) / 400 < 0.6


def test_latency_is_that_of_one_answer_not_of_all(tmp_path):
    began = time.monotonic()
    ask(scripted(latency_s=0.1), [generate(number) for number in range(100)], tmp_path)
    assert 0.1 <= time.monotonic() - began < 5
    assert scripted(latency_s=0.1).identity() == scripted().identity()
