"""SunGen's sample weights: wrong labels are detected by their disagreement with the other samples."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from evokd_data.records import SequenceExample
from evokd_data.students import TrainingData
from evokd_data.students.linear import Linear
from evokd_data.students.reweighted import SAMPLE_WEIGHTS, ReweightedLinear, ReweightedTransformer, learn_weights
from tests.support.tiny_encoders import QUICK, make_base

pytestmark = pytest.mark.slow

CLASSES = ("fruit", "animal", "tool")
CUES = (
    ("apple", "pear", "plum", "cherry", "quince", "grape", "melon"),
    ("cat", "dog", "horse", "mouse", "heron", "goose", "otter"),
    ("hammer", "saw", "drill", "pliers", "chisel", "wrench", "anvil"),
)
OTHERS = ("the", "a", "i", "see", "was", "here", "now", "please", "maybe", "big", "small", "old", "new", "we", "they")


def texts(count: int, seed: int) -> list[SequenceExample]:
    """Six words that do not depend on the class, and one that does."""
    chance = random.Random(seed)
    examples = []
    for index in range(count):
        words = [chance.choice(OTHERS) for _ in range(6)]
        words.insert(chance.randrange(7), chance.choice(CUES[index % 3]))
        examples.append(SequenceExample(" ".join(words), index % 3))
    return examples


def noisy(examples: list[SequenceExample], share: float, seed: int) -> tuple[list[SequenceExample], np.ndarray]:
    """The examples with `share` of their labels flipped, and whether each is flipped."""
    chance = np.random.default_rng(seed)
    flipped = np.zeros(len(examples), dtype=bool)
    flipped[chance.permutation(len(examples))[: round(share * len(examples))]] = True
    shifts = chance.integers(1, 3, len(examples))
    return [
        replace(example, target=(example.target + int(shift)) % 3) if wrong else example
        for example, shift, wrong in zip(examples, shifts, flipped, strict=True)
    ], flipped


def fit(student, folder, fresh, earlier=(), previous=None):
    folder.mkdir()
    return student.fit(TrainingData(fresh, earlier, CLASSES, 3, previous), folder)


def weights(folder) -> np.ndarray:
    with np.load(folder / SAMPLE_WEIGHTS) as stored:
        return np.concatenate([stored["earlier"], stored["fresh"]])


def test_flipped_labels_weigh_less_and_the_student_is_better_for_it(tmp_path):
    test = texts(300, 99)
    scores: dict[str, list[float]] = {"linear": [], "reweighted-linear": []}
    for seed in range(3):
        train, flipped = noisy(texts(240, seed), 0.3, seed)
        for student in (Linear(buckets=4096), ReweightedLinear(buckets=4096)):
            folder = tmp_path / f"{student.name}-{seed}"
            fit(student, folder, train[120:], train[:120], previous=tmp_path)
            predicted = np.argmax(np.stack(list(student.predict(test, folder))), axis=1)
            scores[student.name].append(np.mean(predicted == [example.target for example in test]))
        learned = weights(folder)
        assert learned[flipped].mean() < 0.6 * learned[~flipped].mean()
        assert learned.mean() == pytest.approx(1, abs=1e-5) and learned.min() >= 0
    assert np.mean(scores["reweighted-linear"]) > np.mean(scores["linear"]) + 0.02


def test_an_encoder_finds_flipped_labels_by_its_embeddings(tmp_path):
    student = ReweightedTransformer(model=str(make_base(tmp_path / "base")), **QUICK)
    few = [SequenceExample(f"the {word} is here", index) for index, cues in enumerate(CUES) for word in cues[:5]] * 4
    train, flipped = noisy(few, 0.2, 1)
    figures = fit(student, tmp_path / "a", train, previous=tmp_path)
    assert figures["reweighted"] == len(train) and len(figures["weight_tenths"]) == 11
    learned = weights(tmp_path / "a")
    assert learned[flipped].mean() < 0.5 * learned[~flipped].mean()


def test_seeds_of_round_0_keep_their_weights(tmp_path):
    assert fit(ReweightedLinear(), tmp_path / "a", texts(30, 1))["reweighted"] == 0
    assert not (tmp_path / "a" / SAMPLE_WEIGHTS).exists()


def test_a_samples_own_weight_counts(tmp_path):
    train = texts(60, 1)
    wrong = [replace(example, target=(example.target + 1) % 3, weight=0.0) for example in train]
    fit(ReweightedLinear(), tmp_path / "a", [*train, *wrong], previous=tmp_path)
    predicted = np.argmax(np.stack(list(ReweightedLinear().predict(train, tmp_path / "a"))), axis=1)
    assert np.mean(predicted == [example.target for example in train]) > 0.95


@pytest.mark.parametrize("count", [1, 5, 7])
def test_a_handful_of_samples_keeps_its_weights_or_gets_sound_ones(count):
    learned = learn_weights(
        np.eye(8)[:count], np.zeros(count, int), np.ones(count), 3, seed=0, steps=5, rate=0.1, decay=1e-2
    )
    assert np.isfinite(learned).all() and ((learned >= 0) & (learned <= 1)).all()
