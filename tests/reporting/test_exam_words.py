"""What the exam says in words, from the numbers in exam.json."""

from __future__ import annotations

from typing import Any

import pytest

from evokd_data.reporting.exam_words import NOT_STOPPED, message, mixture_in_words, rule_in_words
from evokd_data.reporting.report_sections.teacher import told_once

FORM = {"answer": "names", "turns": True, "demonstrations": 24}


def content(**changes: Any) -> dict[str, Any]:
    """An exam of 30 questions: the teacher alone is right on .87, with the student on .83."""
    chosen = {"form": FORM, "accuracy": 0.87, "low": 0.7, "high": 0.95, "score": -0.52, "student_weight": 2.0}
    whole: dict[str, Any] = {
        "questions": 30, "chance": 0.25, "chosen": chosen, "student": {"accuracy": 0.8}, "verdict": "useful",
        "pool": {"accuracy": 0.83, "low": 0.66, "high": 0.93, "log_likelihood": -0.41}, "rule": "reject",
    }  # fmt: skip
    return {key: {**whole[key], **changes[key]} if isinstance(changes.get(key), dict) else changes.get(key, whole[key])
            for key in whole}  # fmt: skip


def test_what_auto_decided_stands_in_a_sentence_with_the_number_it_follows_from() -> None:
    assert rule_in_words(content(), "auto", 0.5) == (
        "filters.label_disagreement: auto is reject here: a text that is labelled otherwise than it was asked for is dropped, because "
        "labels of teacher and student together are right on 0.83 of the seeds, and the lower end of that interval, 0.66, does not reach 0.90; "
        "a label counts from a probability of 0.5 on (filters.label_confidence)"
    )
    sure = content(rule="relabel", pool={"accuracy": 1.0, "low": 0.95})
    assert "auto is relabel here" in rule_in_words(sure, "auto", 0.0)
    assert rule_in_words(sure, "auto", 0.0).endswith("the lower end of that interval, 0.95, reaches 0.90")
    spans = {key: value for key, value in content(rule="relabel").items() if key not in ("pool", "student")}
    assert "auto is relabel for spans" in rule_in_words(spans, "auto", 0.5)


def test_a_rule_of_the_recipe_is_named_as_such() -> None:
    assert rule_in_words(content(), "intended", 0.5) == (
        "filters.label_disagreement is intended: such a text is kept with the label that was asked for, whatever the exam shows"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "the joint probabilities fit the seeds better (mean log-probability of the right label -0.41, of the teacher's own -0.52)",
        ),
        ({"pool": {"log_likelihood": -0.54}}, "fit the seeds as well, within one standard error (mean log-probability"),
        ({"chosen": {"student_weight": 0.0}}, "has no say in the labels"),
    ],
)
def test_a_mixture_that_is_right_less_often_than_the_teacher_is_explained(changes: dict[str, Any], words: str) -> None:
    assert words in mixture_in_words(content(**changes))


def test_a_mixture_that_is_right_as_often_needs_no_words() -> None:
    assert mixture_in_words(content(pool={"accuracy": 0.9})) == ""


def test_easy_seeds_are_said_to_be_easy_and_what_can_be_done() -> None:
    easy = message(content(verdict="uncertain", student={"accuracy": 1.0}))
    assert easy.startswith("the seeds are too easy to say what the teacher adds: a small student")
    assert "right on 1.00 of them, the teacher on 0.87 (0.70 to 0.95, 30 seeds)" in easy and easy.endswith(NOT_STOPPED)
    assert "6 seeds are too few" in message(content(verdict="uncertain", questions=6, student={"accuracy": 1.0}))


def test_of_many_seeds_that_cannot_tell_it_is_said_that_they_are_too_few() -> None:
    guessing = content(
        verdict="uncertain", questions=12, chance=0.5, chosen={"accuracy": 9 / 12}, student={"accuracy": 1.0}
    )
    assert message(guessing).startswith("12 seeds are too few to say how well the teacher labels: it is right on 0.75")
    better_than_chance = content(
        verdict="uncertain", questions=12, chance=0.5, chosen={"accuracy": 10 / 12}, student={"accuracy": 1.0}
    )
    assert message(better_than_chance).startswith("the seeds are too easy to say")


def test_a_verdict_that_stops_a_run_says_what_was_found_and_nothing_else() -> None:
    """A forced run goes on with the same verdict, and its report has it."""
    stopped = message(content(verdict="adds nothing", student={"accuracy": 0.93}))
    assert stopped == (
        "the teacher's labels add nothing to the seeds: a small student that has learned the other seeds alone is right on 0.93 of "
        "them, the teacher on 0.87 (0.70 to 0.95, 30 seeds); both together are right on 0.83, which is not surely more than that student alone"
    )


@pytest.mark.parametrize(("alone", "words"), [(1, "1 is alone in a class"), (2, "2 are alone in a class")])
def test_seeds_that_are_alone_in_their_class_are_counted(alone: int, words: str) -> None:
    assert f"30 seeds), or more often: {words}, whose example the exam could not show" in message(
        {**content(), "alone": alone}
    )


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (["no better than chance"], "no better than chance"),
        (
            ["the teacher is of use", "asked again: nothing changes"],
            "the teacher is of use. asked again: nothing changes",
        ),
        (["no better than chance", "no better than chance; asked again"], "no better than chance; asked again"),
    ],
)
def test_the_report_tells_each_exam_once(messages: list[str], told: str) -> None:
    assert told_once(messages) == told
