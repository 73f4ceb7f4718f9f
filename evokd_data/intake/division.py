"""One set of labelled texts divided into seeds and test: every class in both, no text on both sides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evokd_data.digest import derive_random
from evokd_data.normal_form import repetition_key
from evokd_data.records import Sample
from evokd_data.tasks import Task

FEW_TEST_TEXTS = 10
"""Below so many test texts of a class its score is mostly chance; a class gets as many where half of its texts leave that."""
MAX_TEST_TEXTS = 2000


@dataclass(frozen=True, slots=True)
class Division:
    """Both sides in the order of the file."""

    seeds: tuple[Sample, ...]
    test: tuple[Sample, ...]


def divide(task: Task, samples: Sequence[Sample], test_share: float, seed: int) -> Division:
    """A share of each class for the test, drawn at random; texts that differ in case, punctuation or white space only stay together.

    A class with several texts keeps at least one as a seed, and has FEW_TEST_TEXTS test texts where half of its texts are
    as many and MAX_TEST_TEXTS leaves room for them. A tagged text counts for the rarest type that it holds.
    """
    share = min(test_share, MAX_TEST_TEXTS / max(1, len(samples)))
    rounded = round if share == test_share else math.floor  # of many classes, every half text more would be too many
    strata = _strata(task, samples)
    few = min(FEW_TEST_TEXTS, max(1, MAX_TEST_TEXTS // max(1, len(strata))))
    in_test: set[str] = set()
    for stratum, keys in strata.items():
        count = len(keys)
        wanted = max(rounded(share * count), min(few, count // 2))
        derive_random(seed, "division", stratum).shuffle(keys)
        in_test.update(keys[: min(wanted, count - 1)])
    sides = [repetition_key(sample.text) in in_test for sample in samples]
    seeds = (sample for sample, is_test in zip(samples, sides, strict=True) if not is_test)
    return Division(tuple(seeds), tuple(sample for sample, is_test in zip(samples, sides, strict=True) if is_test))


def _strata(task: Task, samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Label -> the texts, as `repetition_key` has them, that are drawn together; "" for tagged texts without a span."""
    counts = class_counts(task, samples)
    strata: dict[str, dict[str, None]] = {}
    placed: set[str] = set()
    for sample in samples:
        key = repetition_key(sample.text)
        if key not in placed:
            placed.add(key)
            carried = [label for label in task.labels if task.carries(sample.target, label)]
            strata.setdefault(min(carried, key=counts.__getitem__, default=""), {})[key] = None
    return {label: list(keys) for label, keys in strata.items()}


def without_texts_of(samples: Iterable[Sample], others: Iterable[Sample]) -> list[Sample]:
    """The samples whose texts are, but for case, punctuation and white space, none of the others'."""
    barred = {repetition_key(sample.text) for sample in others}
    return [sample for sample in samples if repetition_key(sample.text) not in barred]


def class_counts(task: Task, samples: Sequence[Sample]) -> Mapping[str, int]:
    """Label -> the number of samples that carry it."""
    counts = Counter(dict.fromkeys(task.labels, 0))
    for sample in samples:
        counts.update(label for label in task.labels if task.carries(sample.target, label))
    return counts
