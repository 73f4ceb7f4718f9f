"""Quotas are asked for again until a round is full."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.records import Quota
from evokd_data.strategies.quotas import MAX_REFILLS, RequestPlan, contrasted_quotas, kind_of, refill

FIRST = [Quota("red", 10), Quota("blue", 10, "hard", "red")]


def accepted(red: int, blue: int) -> dict[Quota, int]:
    return {kind_of(quota): count for quota, count in zip(FIRST, (red, blue), strict=True)}


@pytest.mark.parametrize(
    ("red", "blue", "at_most", "asked_again"),
    [
        (10, 10, 3, []),  # full
        (5, 10, 1, []),  # nothing may be asked again
        (5, 10, 3, [(10, "red")]),  # 6 of 12 are kept, so 5 more need 10
        (5, 5, 3, [(10, "red"), (10, "blue")]),
        (5, 5, 1.5, [(5, "red"), (5, "blue")]),  # the allowance is divided
        (0, 10, 3, [(11, "blue")]),  # red is given up, blue takes its place
        (0, 0, 3, []),  # both are given up
        (12, 5, 3, [(6, "blue")]),  # the round lacks 3, whoever is written for them
    ],
)  # fmt: skip
def test_as_many_are_asked_again_as_what_was_kept_lets_one_expect(red, blue, at_most, asked_again):
    quotas = refill([FIRST], accepted(red, blue), at_most)
    assert [(quota.samples, quota.target) for quota in quotas] == asked_again
    assert {kind_of(quota) for quota in quotas} <= {kind_of(quota) for quota in FIRST}


def test_a_real_text_is_not_asked_for_again():
    first = [Quota("", 1, text="one"), Quota("", 1, text="two"), Quota("red", 2)]
    assert refill([first], {kind_of(first[2]): 2}, 3) == [Quota("red", 3)]


@given(
    st.lists(st.tuples(st.sampled_from(["red", "green", "blue"]), st.integers(1, 30)), min_size=1, max_size=6),
    st.floats(1, 5),
    st.lists(st.floats(0, 1), min_size=200, max_size=200),
)
def test_waves_end_and_never_ask_for_more_than_they_may(drawn, at_most, shares):
    waves = [[Quota(target, samples) for target, samples in drawn]]
    wanted = sum(quota.samples for quota in waves[0])
    kept: Counter[Quota] = Counter()
    draws = iter(shares)
    while True:
        for quota in waves[-1]:
            room = wanted - kept.total()
            kept[kind_of(quota)] += min(room, int(quota.samples * next(draws)))
        if not (quotas := refill(waves, kept, at_most)):
            break
        assert all(quota.samples > 0 for quota in quotas)
        waves.append(quotas)
    assert len(waves) <= MAX_REFILLS + 1
    assert sum(quota.samples for wave in waves for quota in wave) <= max(wanted, int(at_most * wanted))


def test_requests_go_on_counting_from_wave_to_wave():
    first, second = [Quota("red", 5), Quota("blue", 3)], [Quota("blue", 4)]
    alone, both = (RequestPlan(waves, 2, 0, 1) for waves in ([first], [first, second]))
    assert alone.wave_ends == [5] and both.wave_ends == [5, 7]
    assert list(both)[:5] == list(alone)
    assert [(request.index, request.count, request.quota.target) for request in list(both)[5:]] == [
        (5, 2, "blue"), (6, 2, "blue"),
    ]  # fmt: skip


def test_a_share_of_each_quota_is_written_against_the_two_nearest_labels_in_turn():
    """Of 8 hard texts .25 are 2: one against each; of 4 easy ones 1, against the first or the second by the round."""
    quotas = [Quota("a", 4, "easy"), Quota("a", 8, "hard"), Quota("d", 5)]
    near = {"a": ("b", "c", "d")}
    assert contrasted_quotas(quotas, near, 0.25, turn=0) == [
        Quota("a", 3, "easy"), Quota("a", 1, "easy", "b"),
        Quota("a", 6, "hard"), Quota("a", 1, "hard", "b"), Quota("a", 1, "hard", "c"), Quota("d", 5),
    ]  # fmt: skip
    assert Quota("a", 1, "easy", "c") in contrasted_quotas(quotas, near, 0.25, turn=1)
    assert contrasted_quotas(quotas, near, 0.0, turn=0) == contrasted_quotas(quotas, {}, 0.25, turn=0) == quotas


@given(st.lists(st.integers(1, 30), max_size=8), st.floats(0, 1), st.integers(0, 5))
def test_contrast_changes_no_number_of_texts_of_a_label(sizes, share, turn):
    quotas = [Quota("ab"[index % 2], size, "easy") for index, size in enumerate(sizes)]
    divided = contrasted_quotas(quotas, {"a": ["b"]}, share, turn)
    for label in "ab":
        assert sum(q.samples for q in divided if q.target == label) == sum(
            q.samples for q in quotas if q.target == label
        )
    assert {quota.contrast for quota in divided if quota.target == "b"} <= {""}
