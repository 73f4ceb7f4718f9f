"""The order in which examples are read, and what a batch of them asks a model to predict."""

from __future__ import annotations

import numpy as np
import pytest

from evokd_data.records import SequenceExample
from evokd_data.students.batches import BatchSampler, Labels, prediction_batches, target_distributions


def numbered(count, start=0):
    return [SequenceExample("x" * (index % 7), index) for index in range(start, start + count)]


def test_one_pass_reads_every_example_once():
    sampler = BatchSampler(numbered(30), numbered(20, 100), 8, replay=None)
    steps = sampler.steps(1, at_least=0)
    read = [example.target for batch in sampler.batches(steps, seed=1) for example in batch]
    assert steps == 7
    assert sorted(set(read)) == [*range(30), *range(100, 120)]
    assert len(read) == 56


def test_each_batch_holds_the_share_of_earlier_examples_that_replay_says():
    sampler = BatchSampler(numbered(30), numbered(200, 100), 8, replay=0.25)
    batches = list(sampler.batches(sampler.steps(2, at_least=0), seed=1))
    assert len(batches) == 10
    assert {sum(example.target >= 100 for example in batch) for batch in batches} == {2}
    fresh = [example.target for batch in batches for example in batch if example.target < 100]
    assert sorted(fresh) == sorted([*range(30)] * 2)


def test_a_handful_of_examples_is_read_often_enough_and_never_twice_in_a_batch():
    sampler = BatchSampler(numbered(5), [], 16, replay=0.5)
    batches = list(sampler.batches(sampler.steps(3, at_least=40), seed=1))
    assert len(batches) == 40
    assert all(sorted(example.target for example in batch) == [0, 1, 2, 3, 4] for batch in batches)


def test_without_replay_no_earlier_example_is_read():
    sampler = BatchSampler(numbered(30), numbered(200, 100), 8, replay=0)
    assert {example.target for batch in sampler.batches(9, seed=1) for example in batch} == set(range(30))


def test_without_fresh_examples_the_earlier_ones_are_read():
    sampler = BatchSampler([], numbered(5), 2, replay=0.5)
    assert {example.target for batch in sampler.batches(9, seed=1) for example in batch} == set(range(5))


def test_the_order_hangs_on_the_seed_alone():
    orders = [
        [e.target for b in BatchSampler(numbered(50), [], 8, None).batches(9, seed) for e in b] for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_batches_hold_texts_of_like_length():
    mixed = [SequenceExample("x" * (index % 128), 0) for index in range(1024)]
    padded = sum(
        8 * max(len(example.text) for example in batch) for batch in BatchSampler(mixed, [], 8, None).batches(128, 1)
    )
    assert 1 <= padded / sum(len(example.text) for example in mixed) < 1.1


def test_windows_return_every_index_once():
    read = [index for indices, _ in prediction_batches(numbered(100), 3) for index in indices]
    assert sorted(read) == list(range(100))


def test_smoothing_softens_hard_labels_and_leaves_soft_ones():
    rows = target_distributions([Labels((1,)), Labels((), (0.5, 0.5))], 2, smoothing=0.2)
    assert rows == pytest.approx(np.array([[0.1, 0.9], [0.5, 0.5]]))
