from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.generation.weakness import EXAMPLES, find
from evokd_data.records import Prediction, Weakness
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
def test_weaknesses_count_every_mistake_once_worst_first(outcomes):
    samples, predictions = probe(outcomes)
    weaknesses = find(TASK, samples, predictions)
    assert sum(weakness.missed for weakness in weaknesses) == sum(e != p for e, p, _ in outcomes)
    assert [weakness.missed for weakness in weaknesses] == sorted((w.missed for w in weaknesses), reverse=True)
    assert len({weakness.name for weakness in weaknesses}) == len(weaknesses)
    for weakness in weaknesses:
        assert weakness.seen == sum(e == weakness.expected for e, _, _ in outcomes) >= weakness.missed


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


def test_the_surest_predictions_come_first_and_ties_in_index_order():
    samples, predictions = probe(
        [("red", "blue", 0.5), ("red", "blue", 0.9), ("red", "blue", 0.5), ("blue", "blue", 0.7)]
    )
    (weakness,) = find(TASK, samples, predictions)
    assert weakness.wrong == (samples[1], samples[0], samples[2]) and weakness.right == (samples[3],)
    assert weakness.name == "confused:red>blue"


def test_both_sides_of_a_confusion_are_shown_as_the_student_got_them_right():
    outcomes = [("red", "blue", 0.5), ("red", "red", 0.9), ("blue", "blue", 0.8), ("green", "green", 0.99)]
    samples, predictions = probe(outcomes)
    (weakness,) = find(TASK, samples, predictions)
    assert weakness.right == (samples[1], samples[2])


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
def test_examples_are_the_surest_of_all_whatever_came_before_them(outcomes):
    samples, predictions = probe(outcomes)
    order = sorted(range(len(outcomes)), key=lambda i: (-outcomes[i][2], i))
    weaknesses = find(TASK, samples, predictions)
    assert bool(weaknesses) == any(expected != got for expected, got, _ in outcomes)
    for weakness in weaknesses:
        pair = (weakness.expected, weakness.got)
        wrong = [samples[i] for i in order if outcomes[i][:2] == pair]
        right = [samples[i] for i in order if outcomes[i][0] == outcomes[i][1] and outcomes[i][0] in pair]
        assert list(weakness.wrong) == wrong[:EXAMPLES]
        assert list(weakness.right) == right[:EXAMPLES]
