"""One reading of answers, for all engines."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.records import Constraint, refused
from evokd_data.teachers.answers import read_answer
from evokd_data.teachers.reasoning import strip_reasoning

SCHEMA = Constraint(json_schema={"type": "object", "properties": {"texts": {}}, "required": ["texts"]})
CHOICES = Constraint(choices=("PlayMusic", "B", "get weather"))
TEXTS = '{"texts": ["a b", "c"]}'
FENCE = "```"


@pytest.mark.parametrize(
    "written",
    [
        TEXTS,
        f"{FENCE}json\n{TEXTS}\n{FENCE}",
        f"{FENCE}\n{TEXTS}\n{FENCE}\n",
        f"~~~json\n{TEXTS}\n~~~",
        f"Sure! Here you are:\n\n{FENCE}json\n{TEXTS}\n{FENCE}\nI hope this helps {{really}}.",
        f"<think>\nI could say {{}} or {FENCE}\n</think>\n\n{FENCE}json\n{TEXTS}\n{FENCE}",
        f"The user wants texts.\n</think>\n\n{TEXTS}",
        f"[THINK]so {{}}[/THINK]{TEXTS}",
        f"◁think▷so◁/think▷{TEXTS}",
        f'{{"thought": "which form?"}}\n{TEXTS}',
        f'Sure! {TEXTS} I hope "this" helps',
    ],
)
def test_the_object_is_found_in_whatever_is_around_it(written: str) -> None:
    assert read_answer(written, SCHEMA, thinking=False) == TEXTS


@pytest.mark.parametrize(
    "written",
    [
        '{"texts": ["what does </think> mean", "```json"]}',
        '{"texts": ["a", "<think>b</think>"]}',
        '{"texts": ["line\\n</think>\\nline"]}',
    ],
)
def test_an_object_that_is_whole_is_left_as_it_is(written: str) -> None:
    assert read_answer(written, SCHEMA, thinking=True) == written


def test_a_part_of_an_object_that_was_cut_off_is_not_taken_for_it() -> None:
    spans = Constraint(json_schema={"type": "object", "required": ["entities"]})
    cut = '{"entities": [{"text": "a", "type": "PER"}, {"text": "b'
    assert read_answer(cut, spans, thinking=False) == cut


@pytest.mark.parametrize("cut", ['{"texts": ["a b", "c', '```json\n{"texts": ["a b", "c'])
def test_an_object_cut_off_keeps_its_beginning(cut: str) -> None:
    assert '{"texts": ["a b", "c' in read_answer(cut, SCHEMA, thinking=False)


@pytest.mark.parametrize(
    "written",
    [
        "PlayMusic",
        " PlayMusic\n",
        f"{FENCE}\nPlayMusic\n{FENCE}",
        f"{FENCE}json\n" + '{"answer": "PlayMusic"}' + f"\n{FENCE}",
        '{"answer": "PlayMusic"}',
        '{"label": "PlayMusic", "why": "jazz"}',
        '{"reason": 3, "intent": "PlayMusic"}',
        "<think>B? no</think>\n\nPlayMusic",
        "Okay, B or not?\n</think>\n\nPlayMusic",
    ],
)
def test_a_choice_is_found_in_whatever_is_around_it(written: str) -> None:
    assert read_answer(written, CHOICES, thinking=False) == "PlayMusic"


def test_what_is_no_choice_stays_for_the_task_to_read() -> None:
    for written in ("B, I think", "playmusic", '{"answer": 3}', "[]", ""):
        assert read_answer(written, CHOICES, thinking=False) == written


def test_a_marked_text_may_hold_anything() -> None:
    marked = f"{FENCE}\nplay [artist: miles]\n{FENCE}"
    assert read_answer(marked, Constraint(grammar="root ::= a"), thinking=False) == marked


@pytest.mark.parametrize(
    ("written", "text"),
    [("play jazz", "play jazz"), (f"{FENCE}text\nplay jazz\n{FENCE}", "play jazz"), (f"use {FENCE} here", f"use {FENCE} here"),
     ("the tag </think> is in a text", "the tag </think> is in a text")],
)  # fmt: skip
def test_a_free_text_loses_the_fence_around_it(written: str, text: str) -> None:
    assert read_answer(written, None, thinking=False) == text


@given(st.text(st.sampled_from('{}[]"`~\n:aB </think>'), max_size=60), st.booleans())
def test_reading_never_fails(text: str, thinking: bool) -> None:
    for constraint in (None, CHOICES, SCHEMA, Constraint(grammar="root ::= a")):
        assert isinstance(read_answer(text, constraint, thinking), str)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_any_object_is_read_back_from_a_fence(texts: list[str]) -> None:
    written = orjson.dumps({"texts": texts}).decode()
    for around in ("{}", FENCE + "json\n{}\n" + FENCE, "<think>so</think>\n{}"):
        assert read_answer(around.replace("{}", written), SCHEMA, thinking=False) == written


def test_reasoning_that_was_cut_off_is_no_answer() -> None:
    assert strip_reasoning("<thinking>and so", thinking=False) == ""
    assert strip_reasoning("<think>a</think><think>b</think>yes", thinking=False) == "yes"


def test_a_refusal_in_half_a_character_is_one_that_a_journal_can_hold():
    assert refused("400 a\ud83d b").finish_reason == "refused: 400 a? b"
