"""What a label's probabilities are worth: calibration, the pool of two opinions, intervals."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.strategies.trust import (
    calibrate,
    certain_label,
    chance_of_so_many,
    fit_temperature,
    pool,
    temperature_of_requests,
    wilson_interval,
)

rows = st.lists(st.floats(1e-3, 1), min_size=3, max_size=3).map(lambda row: tuple(value / sum(row) for value in row))


@given(rows, rows, st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_pool_is_a_distribution_and_without_weight_the_first_opinion(first, second, weight):
    pooled = pool(first, second, weight)
    assert math.fsum(pooled) == pytest.approx(1)
    if weight == 0:
        assert pooled == pytest.approx(first, abs=1e-4)
    leader = max(range(3), key=first.__getitem__)
    if leader == max(range(3), key=second.__getitem__):
        assert max(range(3), key=pooled.__getitem__) == leader, "what both hold likeliest stays so"


def test_two_opinions_with_mistakes_of_their_own_are_better_than_either():
    chance = random.Random(1)
    right = {"first": 0, "second": 0, "pool": 0}
    for _ in range(2000):
        truth = chance.randrange(4)
        opinions = []
        for noise in (1.0, 1.2):
            logits = [2.0 * (label == truth) + chance.gauss(0, 1.5 * noise) for label in range(4)]
            opinions.append(calibrate([math.exp(logit) for logit in logits]))
        for name, row in (("first", opinions[0]), ("second", opinions[1]), ("pool", pool(*opinions, 1.0))):
            right[name] += max(range(4), key=row.__getitem__) == truth
    assert right["pool"] > max(right["first"], right["second"]) + 60


def test_batch_calibration_takes_back_a_preference():
    assert calibrate((0.6, 0.3, 0.1), (0.6, 0.3, 0.1)) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert calibrate((0.6, 0.3, 0.1)) == pytest.approx((0.6, 0.3, 0.1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_is_found_again(temperature):
    chance = random.Random(3)
    readings = []
    for _ in range(800):
        true_row = calibrate([chance.random() ** 3 + 1e-3 for _ in range(5)])
        right = chance.choices(range(5), true_row)[0]
        readings.append((right, calibrate(true_row, (), 1 / temperature)))
    assert fit_temperature(readings) == pytest.approx(temperature, rel=0.2)
    assert fit_temperature([]) == pytest.approx(1, abs=1e-3)


def test_a_label_without_probabilities_stands_for_a_teacher_of_its_accuracy():
    assert certain_label(1, 3, 0.8) == pytest.approx((0.1, 0.8, 0.1))


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(9, 10, 0.596, 0.982), (0, 6, 0.0, 0.390), (18, 21, 0.654, 0.950)]
)
def test_an_interval_is_wilsons(right, count, low, high):
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=1e-3)


def test_intervals_hold_the_truth_as_often_as_they_say():
    chance = random.Random(2)
    covered = 0
    for _ in range(2000):
        share, count = chance.uniform(0.2, 0.95), chance.choice([6, 7, 18, 21, 60])
        low, high = wilson_interval(sum(chance.random() < share for _ in range(count)), count)
        covered += low <= share <= high
    assert 0.92 <= covered / 2000 <= 0.98


RIGHT, WRONG, UNSURE = (0.9, 0.05, 0.05), (0.05, 0.9, 0.05), (0.4, 0.3, 0.3)


@pytest.mark.parametrize(
    ("opinions", "temperature", "off_target"),
    [
        ([(0, RIGHT, RIGHT)] * 30, 1.0, 0.05),  # both give what was asked for
        ([(0, RIGHT, WRONG)] * 30, 1.0, 0.05),  # only the teacher does: trust is never raised
        ([(0, WRONG, UNSURE)] * 15 + [(0, RIGHT, UNSURE)] * 15, 2.8284, 0.05),  # a teacher that is sure of everything, and right on half
        ([(0, WRONG, RIGHT)] * 15 + [(0, RIGHT, RIGHT)] * 15, 2.0, 0.05),
        ([(0, WRONG, WRONG)] * 15 + [(0, RIGHT, RIGHT)] * 15, 1.0, 0.6),  # texts that are something else, for both
    ],
)  # fmt: skip
def test_a_teacher_is_flattened_to_what_its_own_texts_were_asked_for(opinions, temperature, off_target):
    assert temperature_of_requests(opinions, 1.0, 1.0) == (temperature, off_target)


def test_a_temperature_of_requests_is_never_below_the_least_and_at_most_8():
    assert temperature_of_requests([], 1.0, 1.7) == (1.7, 0.05)
    assert temperature_of_requests([(0, WRONG, RIGHT)] * 1000, 1.0, 1.0)[0] == 8.0
    assert temperature_of_requests([(0, WRONG, RIGHT)] * 1000, 1.0, 8.0)[0] == 8.0


def test_the_chance_of_so_many_is_the_binomial_tail():
    assert chance_of_so_many(0, 6, 1 / 6) == pytest.approx(1)
    assert chance_of_so_many(4, 6, 1 / 6) == pytest.approx(0.0087, abs=1e-4)
    assert chance_of_so_many(2, 6, 1 / 6) == pytest.approx(0.2632, abs=1e-4)


def test_the_chance_of_so_many_is_found_in_a_round_of_any_size():
    """Of 2,000 texts the number of ways is beyond any float: a round that large must not end its run."""
    assert chance_of_so_many(1400, 2000, 1 / 6) < 1e-300
    assert chance_of_so_many(50_000, 100_000, 0.5) == pytest.approx(0.50126, abs=1e-5)
    assert chance_of_so_many(500_500, 1_000_000, 0.5) == pytest.approx(0.1589, abs=1e-3)
