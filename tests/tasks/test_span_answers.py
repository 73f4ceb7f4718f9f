"""The probability of each span in a teacher's answer: a product over the tokens that decide it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.tasks.ner import NER
from evokd_data.teachers.scoring import token_logprobs

TEXT = "play around the world by daft punk"
MARKED = "play [track: around the world] by [artist: daft punk]"
LISTED = '{"entities":[{"text":"daft punk","type":"artist"}, {"text":"around the world","type":"track"}]}'
TASKS = {form: NER(("track", "artist"), labelling=form) for form in ("grammar", "json", "enum")}


def scored(answer: str, chances: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Log-probabilities of an answer's tokens: words and signs, each certain but for those that hold one of the `chances`."""
    pieces = re.findall(r"\s*\w+|\s*[^\w\s]|\s+", answer)
    logprobs = [math.log(next((p for word, p in chances if word in piece), 1.0)) for piece in pieces]
    scores = token_logprobs(answer, pieces, logprobs)
    assert scores is not None
    return scores


@pytest.mark.parametrize(
    ("form", "answer", "chances", "expected"),
    [
        ("grammar", MARKED, [("play", 0.1), ("by", 0.1)], (1.0, 1.0)),
        ("grammar", MARKED, [("track", 0.5), ("world", 0.5), ("punk", 0.9)], (0.25, 0.9)),
        ("grammar", MARKED, [("]", 0.5)], (0.5, 0.5)),
        ("grammar", f"  {MARKED} ", [("daft", 0.3)], (1.0, 0.3)),
        ("json", LISTED, [("entities", 0.1), ("text", 0.1), ("type", 0.1)], (1.0, 1.0)),
        ("json", LISTED, [("artist", 0.5), ("daft", 0.5), ("world", 0.9)], (0.9, 0.25)),
        ("enum", LISTED, [("track", 0.7)], (0.7, 1.0)),
    ],
)
def test_a_span_is_as_probable_as_words_and_type_where_they_stand(form, answer, chances, expected):
    task = TASKS[form]
    assert [span.type for span in task.read_label(answer, TEXT)] == ["track", "artist"]
    assert task.span_probabilities(answer, TEXT, scored(answer, chances)) == pytest.approx(expected)


def test_all_occurrences_of_an_entry_are_as_probable():
    answer = '{"entities":[{"text":"punk","type":"artist"}]}'
    assert TASKS["json"].span_probabilities(answer, "punk and punk", scored(answer, [("punk", 0.4)])) == pytest.approx(
        (0.4, 0.4)
    )


def test_quotes_and_braces_in_an_entity_are_read():
    text = 'she said "no {\\" twice'
    entity = 'said "no {\\" twice'
    answer = json.dumps({"entities": [{"text": entity, "type": "track"}]})
    assert TASKS["json"].span_probabilities(answer, text, scored(answer, [("no", 0.5)])) == pytest.approx((0.5,))


@pytest.mark.parametrize(
    ("form", "answer", "logprobs"),
    [
        ("grammar", MARKED, {"A": -0.1}),  # of choices, not of tokens
        ("grammar", MARKED, {"1:x": -0.1}),
        ("json", '{"entities":[{"type":"artist","text":"daft punk"}]}', {}),  # no constraint kept the order of the keys
    ],
)
def test_where_nothing_is_known_nothing_is_said(form, answer, logprobs):
    assert TASKS[form].span_probabilities(answer, TEXT, logprobs) is None


def test_an_answer_without_spans_has_no_probabilities():
    assert TASKS["grammar"].span_probabilities(TEXT, TEXT, {"0:4": -2.0}) == ()
    assert TASKS["json"].span_probabilities('{"entities":[]}', TEXT, {"0:4": -2.0}) == ()


# Tokens and their characters


def test_tokens_are_named_by_their_characters_in_the_part_that_counts():
    assert token_logprobs("[a: b]", ["<think>", "\n", "[a", ":", " b", "]"], [-9, -9, -0.5, 0, -1, -2]) == {
        "0:2": -0.5, "3:5": -1, "5:6": -2,
    }  # fmt: skip


def test_tokens_that_write_one_character_together_count_together():
    assert token_logprobs("é!", ["", "é", "!"], [-1.0, -0.5, 0.0]) == {"0:1": -1.5}


@pytest.mark.parametrize(
    ("text", "pieces", "logprobs"),
    [
        ("ab", ["a", "c"], [-1, -1]),
        ("ab", ["a", "b"], [-1]),
        ("ab", ["a", "b"], [-1, float("nan")]),
        ("ab", ["a", "b"], [-1, 5]),
    ],
)
def test_tokens_of_another_text_or_without_sound_numbers_say_nothing(text, pieces, logprobs):
    assert token_logprobs(text, pieces, logprobs) is None


@given(st.lists(st.tuples(st.text("ab]é 京", max_size=3), st.floats(-9, 0)), max_size=9))
def test_no_mass_is_lost_whatever_the_tokens_are(tokens):
    pieces, logprobs = [piece for piece, _ in tokens], [value for _, value in tokens]
    text = "".join(pieces)
    scores = token_logprobs(text, pieces, logprobs)
    assert scores is not None
    if text and pieces[-1]:
        assert math.fsum(scores.values()) == pytest.approx(math.fsum(logprobs), abs=1e-4)
