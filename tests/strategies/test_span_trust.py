"""Which spans are believed: probabilities, a second answer where the first is uncertain, and what a text was written for."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from evokd_data.records import Completion, Draft, GenerationRequest, Prompt, Quota, Span
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.span_trust import disagreement, doubt_of, with_intended
from evokd_data.strategies.trust import calibrate, fit_prior
from evokd_data.teachers.scoring import token_logprobs
from tests.support.example_tagging_task import tagging_brief

TEXT = "Ada saw Bob in Rome"
ADA, BOB, ROME = Span(0, 3, "person", "Ada"), Span(8, 11, "person", "Bob"), Span(15, 19, "place", "Rome")
BOTH = "[person: Ada] saw [person: Bob] in Rome"
ALL = "[person: Ada] saw [person: Bob] in [place: Rome]"


def sure(answer: str, **chances: float) -> Completion:
    """An answer whose words have these probabilities, and whose other tokens are certain."""
    pieces = answer.replace(" ", "| ").replace("]", "|]").split("|")
    logprobs = [math.log(chances.get(piece.strip(), 1.0)) for piece in pieces]
    return Completion(answer, "stop", 1, 1, token_logprobs(answer, pieces, logprobs))


def label(
    *answers: Completion, intended: tuple[Span, ...] | None = None, **labelling: object
) -> tuple[Draft, list[Prompt]]:
    """The draft of TEXT, written for a person, and the prompts that labelled it, which get `answers` in turn."""
    asked: list[Prompt] = []

    async def ask(prompt: Prompt) -> Completion:
        asked.append(prompt)
        return answers[len(asked) - 1]

    brief = tagging_brief()
    brief = replace(brief, labelling=replace(brief.labelling, **{"scored": True, "doubt": 0.5, **labelling}))  # type: ignore[arg-type]
    request = GenerationRequest(0, Quota("person", 1), 1, 5)
    targets = None if intended is None else [intended]
    (draft,) = asyncio.run(label_texts(brief, request, ask, "test", [TEXT], "", targets))
    return draft, asked


def test_a_text_whose_spans_are_sure_is_labelled_once_and_keeps_their_probabilities():
    draft, asked = label(sure(BOTH, Ada=0.9, Bob=0.5))
    assert (draft.problem, draft.target, draft.soft) == ("", (ADA, BOB), (0.9, 0.5))
    assert len(asked) == 1 and asked[0].constraint is not None and asked[0].constraint.score


def test_an_uncertain_span_is_asked_for_again_with_the_demonstrations_in_another_order():
    draft, (first, second) = label(sure(BOTH, Bob=0.4), sure(BOTH, Ada=0.5, Bob=0.6))
    assert (draft.problem, draft.target) == ("", (ADA, BOB))
    assert draft.soft == (0.75, 0.5), "the mean of both answers"
    assert first.key == "label/000000/000000/000000" and second.key == "label/000000/000000/000001"
    assert first.seed != second.seed
    shown = [sorted(map(str, prompt.variables["shown"])) for prompt in (first, second)]
    assert shown[0] == shown[1] and first.variables["shown"] != second.variables["shown"]


def test_of_two_answers_that_agree_in_part_the_common_spans_are_kept():
    draft, _ = label(sure(BOTH, Bob=0.4), sure("[person: Ada] saw Bob in [place: Rome]"))
    assert (draft.problem, draft.target, draft.soft) == ("", (ADA,), (1.0,))


@pytest.mark.parametrize(
    ("second", "detail"),
    [
        (sure(TEXT), "'Bob' as person has a probability of 0.40, and a second answer has no span of the first"),
        (sure("[place: Ada] saw Bob in Rome"), "'Bob' as person has a probability of 0.40, and a second answer has no span of the first"),
        (Completion("I think", "stop", 1, 1), "'Bob' as person has a probability of 0.40, and a second answer is text_changed"),
    ],
)  # fmt: skip
def test_two_answers_that_agree_in_nothing_leave_the_text_uncertain(second, detail):
    draft, asked = label(sure(BOTH, Bob=0.4), second)
    assert (draft.problem, draft.detail, draft.target, len(asked)) == ("label_uncertain", detail, None, 2)


def test_a_second_answer_that_is_refused_is_a_refusal():
    draft, _ = label(sure(BOTH, Bob=0.4), Completion("", "refused: too hot", 1, 0))
    assert (draft.problem, draft.detail) == ("refused", "too hot")


def test_without_probabilities_nothing_is_asked_twice():
    for completion, changes in (
        (Completion(BOTH, "stop", 1, 1), {}),  # the engine gives none
        (sure(BOTH, Bob=0.4), {"scored": False}),
        (sure(TEXT), {}),  # no span, no probability
        (Completion(BOTH, "stop", 1, 1, {"A": -3.0}), {}),
    ):
        draft, asked = label(completion, **changes)
        assert (draft.problem, draft.soft or None, len(asked)) == ("", None, 1)


def test_below_label_confidence_a_span_must_be_confirmed_too_and_with_one_order_it_cannot_be():
    assert len(label(sure(BOTH, Bob=0.4), sure(BOTH), doubt=0.0, threshold=0.5)[1]) == 2
    form = replace(tagging_brief().labelling.form, demonstrations=1)
    draft, asked = label(sure(BOTH, Bob=0.4), doubt=0.0, threshold=0.5, form=form)
    assert (draft.problem, draft.detail, len(asked)) == (
        "label_uncertain",
        "'Bob' as person has a probability of 0.40",
        1,
    )
    draft, asked = label(sure(BOTH, Bob=0.4), doubt=0.5, threshold=0.0, form=form)
    assert (draft.problem, draft.soft, len(asked)) == ("", (1.0, 0.4), 1)


def test_probabilities_are_calibrated_before_they_are_judged():
    prior = (0.8, 0.2)
    draft, asked = label(sure(BOTH, Bob=0.8), sure(BOTH, Bob=0.8), prior=prior, temperature=2.0, doubt=0.6)
    assert len(asked) == 2
    assert draft.soft == (round(calibrate((1.0, 0.0), prior, 2.0)[0], 2), 0.5)


def test_several_votes_are_counted_and_not_weighed():
    one, two = sure(BOTH, Ada=0.1), sure(ALL, Ada=0.1)
    draft, asked = label(one, two, two, votes=3)
    assert (draft.problem, draft.target, draft.soft, len(asked)) == ("", (ADA, BOB, ROME), None, 3)


# What a text was written for


@pytest.mark.parametrize(
    ("rule", "intended", "answer", "problem", "target"),
    [
        ("reject", (ADA,), BOTH, "", (ADA, BOB)),  # a further span is no disagreement
        ("reject", (ADA, ROME), BOTH, "label_disagreement", None),
        ("reject", (), TEXT, "", ()),
        ("reject", (), BOTH, "label_disagreement", None),
        ("reject", None, TEXT, "label_disagreement", None),  # written for a person
        ("relabel", (ADA, ROME), BOTH, "", (ADA, BOB)),
        ("relabel", (), BOTH, "", (ADA, BOB)),
        ("intended", (ROME,), BOTH, "", (ADA, BOB, ROME)),
        ("intended", (Span(0, 11, "place", "Ada saw Bob"),), BOTH, "", (Span(0, 11, "place", "Ada saw Bob"),)),
    ],
)
def test_the_rule_says_what_becomes_of_a_text_by_the_spans_it_was_written_for(rule, intended, answer, problem, target):
    draft, _ = label(sure(answer), intended=intended, rule=rule)
    assert (draft.problem, draft.target) == (problem, target)
    if rule == "intended":
        assert draft.soft is None, "nobody gave a probability of all its spans"


def test_a_disagreement_names_what_was_asked_for():
    assert disagreement((ADA, ROME), (ADA,)) == "asked for 'Rome' as place"
    assert disagreement((), (ADA,)) == "asked for no span, labelled 'Ada' as person"
    assert with_intended((ROME,), (ADA, Span(12, 19, "place", "in Rome"))) == (ADA, ROME)


def test_a_fifth_lies_below_the_doubt():
    assert doubt_of([]) == 0.0
    values = [number / 100 for number in range(100)]
    assert sum(value < doubt_of(values[::-1]) for value in values) == 20


def test_a_prior_lets_one_expect_as_many_right_spans_as_there_were():
    readings = [
        (number % 4 > 0, 0.1) for number in range(400)
    ]  # three of four are right, each with a probability of .1
    prior = fit_prior(readings)
    assert calibrate((0.1, 0.9), prior)[0] == pytest.approx(0.75, abs=0.02)
    assert abs(calibrate((0.1, 0.9), fit_prior(readings[:4]))[0] - 0.1) < 0.6, "a few seeds say less"
    assert fit_prior([]) == (0.5, 0.5)
