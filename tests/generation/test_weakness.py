from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.generation.weakness import EXAMPLES, class_trust, find, is_trusted
from evokd_data.records import Prediction, Weakness
from tests.support.example_tagging_task import TAGGING, TEXTS, tagged_sample
from tests.support.example_task import TASK, sample

labels = st.sampled_from(TASK.labels)
outcomes = st.lists(st.tuples(labels, labels, st.floats(0, 1)), max_size=40)


def probe(outcomes):
    samples = [sample(f"text {number}", expected) for number, (expected, _, _) in enumerate(outcomes)]
    predictions = [
        Prediction(probed.id, probed.target, predicted, confidence)
        for probed, (_, predicted, confidence) in zip(samples, outcomes, strict=True)
    ]
    return samples, predictions


@given(outcomes)
def test_weaknesses_count_every_mistake_once_the_highest_rate_first(outcomes):
    samples, predictions = probe(outcomes)
    weaknesses = find(TASK, samples, predictions)
    assert sum(weakness.missed for weakness in weaknesses) == sum(e != p for e, p, _ in outcomes)
    assert [weakness.rate for weakness in weaknesses] == sorted((w.rate for w in weaknesses), reverse=True)
    assert len({weakness.name for weakness in weaknesses}) == len(weaknesses)
    for weakness in weaknesses:
        assert weakness.seen == sum(e == weakness.expected for e, _, _ in outcomes) >= weakness.missed
        assert weakness.rate > 0


@given(outcomes)
def test_examples_are_of_the_two_classes_and_on_their_side(outcomes):
    samples, predictions = probe(outcomes)
    predicted = {probed.id: prediction.predicted for probed, prediction in zip(samples, predictions, strict=True)}
    weaknesses = find(TASK, samples, predictions)
    assert bool(weaknesses) == any(expected != got for expected, got, _ in outcomes)
    for weakness in weaknesses:
        pair = {weakness.expected, weakness.got}
        assert 1 <= len(weakness.wrong) <= EXAMPLES and len(weakness.right) <= EXAMPLES
        assert all(s.target == weakness.expected and predicted[s.id] == weakness.got for s in weakness.wrong)
        assert all(s.target in pair and predicted[s.id] == s.target for s in weakness.right)


def test_the_least_sure_predictions_come_first_and_ties_in_index_order():
    samples, predictions = probe(
        [("red", "blue", 0.5), ("red", "blue", 0.9), ("red", "blue", 0.5), ("blue", "blue", 0.7)]
    )
    (weakness,) = find(TASK, samples, predictions)
    assert weakness.wrong == (samples[0], samples[2], samples[1]) and weakness.right == (samples[3],)
    assert weakness.name == "confused:red>blue"


def test_texts_of_doubtful_labels_are_shown_last_and_do_not_count():
    """Of four red texts taken for blue only two have a label that the teacher is sure of, at .8 or more."""
    samples, predictions = probe(
        [("red", "blue", 0.6), ("red", "blue", 0.5), ("red", "blue", 0.9), ("red", "blue", 0.7)]
    )
    softs = [(0.9, 0.1, 0.0), (0.7, 0.2, 0.1), (0.8, 0.2, 0.0), (0.5, 0.0, 0.5)]
    samples = [replace(each, soft=soft) for each, soft in zip(samples, softs, strict=True)]
    (weakness,) = find(TASK, samples, predictions)
    assert weakness.wrong == (samples[0], samples[2], samples[1], samples[3])
    # The only kind: its own rate is the mean, 2 of 2.
    assert (weakness.missed, weakness.seen, weakness.rate) == (4, 4, 1.0)
    (doubted,) = find(TASK, [samples[1], samples[3]], [predictions[1], predictions[3]])
    assert (doubted.missed, doubted.rate) == (2, 0.0)


@pytest.mark.parametrize(("soft", "trusted"), [(None, True), ((), True), ((0.9, 0.8), True), ((0.9, 0.79), False)])
def test_a_tagged_text_is_trusted_when_each_of_its_spans_is(soft, trusted):
    text, entities = TEXTS[0]
    assert is_trusted(TAGGING, replace(tagged_sample(text, entities), soft=soft)) is trusted


def test_a_rate_is_shrunken_towards_the_mean_of_all_kinds():
    """Mistakes 1 of 1 green and 9 of 19 red: the mean is 10 of 20. Green: (1 + 10 / 2) / (1 + 10), red: (9 + 10 / 2) / (19 + 10)."""
    outcomes = [("green", "blue", 0.5), *[("red", "blue", 0.5)] * 9, *[("red", "red", 0.9)] * 10]
    green, red = find(TASK, *probe(outcomes))
    assert (green.name, green.rate) == ("confused:green>blue", round(6 / 11, 6))
    assert (red.name, red.rate) == ("confused:red>blue", round(14 / 29, 6))


def test_mistakes_on_a_class_that_the_teacher_gets_wrong_count_less():
    """By the exam red is right in 0 of 5 seeds, all classes in 10 of 15: (0 + 20 / 3) / 15 = 4 / 9 of red labels are right."""
    exam = {"per_class": {name: {"n": 5, "right": right} for name, right in (("red", 0), ("green", 5), ("blue", 5))}}
    trust = class_trust(exam)
    assert trust == {"red": pytest.approx(4 / 9), "green": pytest.approx(7 / 9), "blue": pytest.approx(7 / 9)}
    samples, predictions = probe([("red", "blue", 0.5)] * 3 + [("green", "blue", 0.5)] * 3)
    assert [w.expected for w in find(TASK, samples, predictions)] == ["green", "red"]
    assert [(w.expected, w.rate) for w in find(TASK, samples, predictions, exam)] == [
        ("green", round(7 / 9, 6)), ("red", round(4 / 9, 6))
    ]  # fmt: skip
    assert class_trust(None) == class_trust({"per_class": None}) == {}


def test_both_sides_of_a_confusion_are_shown_as_the_student_got_them_right():
    outcomes = [("red", "blue", 0.5), ("red", "red", 0.9), ("blue", "blue", 0.8), ("green", "green", 0.99)]
    samples, predictions = probe(outcomes)
    (weakness,) = find(TASK, samples, predictions)
    assert weakness.right == (samples[2], samples[1])


def test_a_student_without_mistakes_has_no_weakness():
    assert find(TASK, *probe([("red", "red", 0.9), ("blue", "blue", 0.8)])) == []
    assert find(TASK, [], []) == []


sides = st.text(alphabet=r"a>\:", max_size=4)


@given(st.lists(st.tuples(sides.filter(bool), sides), min_size=2, max_size=30, unique=True))
def test_two_weaknesses_never_share_a_name(pairs):
    assert len({Weakness("confused", expected, predicted, 1, 1).name for expected, predicted in pairs}) == len(pairs)


def test_a_weakness_is_named_by_its_two_classes():
    assert Weakness("confused", "red", "blue", 1, 1).name == "confused:red>blue"
    assert Weakness("missed", "red", "", 1, 1).name == "missed:red"


@given(st.lists(st.tuples(labels, labels, st.sampled_from([0.25, 0.5, 0.75])), min_size=30, max_size=80))
@pytest.mark.slow
def test_examples_are_the_least_sure_of_all_whatever_came_before_them(outcomes):
    samples, predictions = probe(outcomes)
    order = sorted(range(len(outcomes)), key=lambda i: (outcomes[i][2], i))
    weaknesses = find(TASK, samples, predictions)
    assert bool(weaknesses) == any(expected != got for expected, got, _ in outcomes)
    for weakness in weaknesses:
        pair = (weakness.expected, weakness.got)
        wrong = [samples[i] for i in order if outcomes[i][:2] == pair]
        right = [samples[i] for i in order if outcomes[i][0] == outcomes[i][1] and outcomes[i][0] in pair]
        assert list(weakness.wrong) == wrong[:EXAMPLES]
        assert list(weakness.right) == right[:EXAMPLES]
