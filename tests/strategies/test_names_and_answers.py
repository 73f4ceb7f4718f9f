"""Labels go by their names in every prompt, and every answer gives what is whole in it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from evokd_data.records import Completion, GenerationRequest, Prompt, Quota, Weakness
from evokd_data.strategies.composing import write_labelled_texts
from evokd_data.strategies.pooling import WithPool
from evokd_data.strategies.writing import read_text
from evokd_data.teachers.scripted import cue
from tests.support.example_task import TASK, brief, sample
from tests.support.written_drafts import RecordingTeacher, build_strategy, plan, write

NAMED = {"red": "a warm colour", "green": "the colour of leaves", "blue": "the colour of the sky"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("attrprompt", {}),
        ("auggpt", {}),
        ("evokd", {}),
        ("evokd", {"separation": False}),
        ("evokd", {"init": "auggpt"}),
        ("zerogen", {}),
    ],
)
@pytest.mark.parametrize("round", [1, 2])
def test_every_prompt_calls_labels_by_their_names_and_every_answer_is_read_by_them(name, settings, round):
    task = replace(TASK, label_names=NAMED)
    weaknesses = (
        Weakness("confused", "red", "blue", 3, 9, (sample("a sunset", "red"),), (sample("the sky", "blue"),), 0.3),
    )
    pool = ("a lagoon at noon",)
    round_brief = brief(
        task=task,
        round=round,
        weaknesses=weaknesses,
        pool=pool,
        demonstrations={
            label: [sample(f"{cue(label)} {thing}", label) for thing in ("one", "two")] for label in TASK.labels
        },
    )
    strategy, teacher = WithPool(build_strategy(name, settings), True), RecordingTeacher()
    drafts = write(strategy, round_brief, teacher, plan(strategy, round_brief))
    for prompt in teacher:
        shown = " ".join(message.content for message in prompt.messages).replace(
            prompt.variables.get("advice") or "\0", ""
        )
        assert not set(re.findall(r"\w+", shown)) & set(TASK.labels), (prompt.template, shown)
        if prompt.template in ("explain", "compose", "label", "analyse", "topics"):
            assert "the colour of leaves" in shown
    kept = [draft for of_request in drafts.values() for draft in of_request if draft.target is not None]
    assert kept and {draft.target for draft in kept} <= set(TASK.labels)


CUT = '{"samples": [{"text": "a  rose", "answer": "red"}, {"text": "a leaf", "answer": "green"}, {"text": "the s'


@pytest.mark.parametrize(
    ("answer", "drafts"),
    [
        (Completion(CUT, "length", 9, 9), [("a rose", "red", ""), ("a leaf", "green", ""), ("", None, "truncated")]),
        (
            Completion(
                '{"samples": [{"text": "a rose", "answer": "red"}, {"text": "a leaf"}, {"text": "x", "answer": "red"}]}',
                "stop",
                9,
                9,
            ),
            [("a rose", "red", ""), ("", None, "unreadable"), ("", None, "unreadable")],
        ),
        (
            Completion(
                '{"samples": [{"text": "a rose", "answer": "mauve"}, {"text": "a leaf", "answer": "green"}]}',
                "stop",
                9,
                9,
            ),
            [("a rose", None, "label_not_allowed"), ("a leaf", "green", ""), ("", None, "missing")],
        ),
        (Completion('{"samples": [{"text": "\\ud800", "answer": "red"}', "stop", 9, 9), [("", None, "unreadable")] * 3),
        (Completion("[" * 100_000, "length", 9, 9), [("", None, "truncated")] * 3),
    ],
)
def test_texts_with_labels_give_what_is_whole_in_the_answer(answer, drafts):
    async def ask(_: Prompt) -> Completion:
        return answer

    request = GenerationRequest(0, Quota("red", 3), 3, 1)
    made = asyncio.run(write_labelled_texts(brief(), request, ask, "evokd"))
    assert [(draft.text, draft.target, draft.problem) for draft in made] == drafts


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('"a rose"', "a rose"),
        ("'`a rose`'", "a rose"),
        ('"Casablanca" beats "Gone with the Wind"', '"Casablanca" beats "Gone with the Wind"'),
    ],
)
def test_quotes_around_a_text_are_dropped_and_those_of_its_words_stay(answer, text):
    assert read_text(Completion(answer, "stop", 1, 1), multiline=False) == (text, "")
