"""The order in which a student reads a data, and what each batch asks of it. Shared by all students; numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students import Examples

Example = SequenceExample | TokenExample

NOTHING = "the round has no samples to learn from"

WINDOW = 64  # batches that are read ahead and sorted by length: bounds both padding and memory
WINDOWS_PER_PASS = 4  # at least: sorting a whole pass would put the same few texts together every time


def length(example: Example) -> int:
    """Characters, roughly: what decides how much of a batch is padding."""
    return len(example.text) if isinstance(example, SequenceExample) else sum(map(len, example.words))


class BatchSampler:
    """What each batch is made of: `fresh` examples of this round, `earlier` ones of the rounds before.

    Examples are whatever stands for them, such as their numbers. With `replay` None all are one pool. Otherwise `replay` is the share of earlier examples in a batch
    ("review history", Liu et al. 2024, section 3), and passes are counted over the fresh ones.
    """

    def __init__(self, fresh: Sequence[Any], earlier: Sequence[Any], batch_size: int, replay: float | None) -> None:
        if replay is not None and fresh and earlier:
            from_earlier = min(round(batch_size * replay), len(earlier), batch_size - 1)
            self.parts = [(fresh, min(batch_size - from_earlier, len(fresh))), (earlier, from_earlier)]
        else:
            pool = _Joined(earlier, fresh)
            self.parts = [(pool, min(batch_size, len(pool)))]
        if not self.parts[0][1]:
            raise StudentError(NOTHING)

    def steps(self, passes: float, at_least: int) -> int:
        examples, per_batch = self.parts[0]
        return max(at_least, math.ceil(passes * len(examples) / per_batch))

    def batches(self, steps: int, seed: int, length: Callable[[Any], int] = length) -> Iterator[list[Any]]:
        """`steps` batches, each of examples alike in `length`, in an order that depends on the seed alone.

        Examples are read one by one, at most WINDOW batches ahead, and never held longer.
        """
        batches_per_pass = min(len(examples) // per_batch for examples, per_batch in self.parts if per_batch)
        ahead = max(1, min(WINDOW, batches_per_pass // WINDOWS_PER_PASS))
        orders = [_passes(len(examples), seed, part) for part, (examples, _) in enumerate(self.parts)]
        shuffle = np.random.default_rng([seed, len(self.parts)])
        for start in range(0, steps, ahead):
            window: list[list[Any]] = [[] for _ in range(min(ahead, steps - start))]
            for (examples, per_batch), order in zip(self.parts, orders, strict=True):
                read = [examples[next(order)] for _ in range(per_batch * len(window))]
                read.sort(key=length)
                for index, batch in enumerate(window):
                    batch.extend(read[index * per_batch : (index + 1) * per_batch])
            for index in shuffle.permutation(len(window)):
                yield window[index]


class _Joined(Sequence[Any]):
    """Two sequences as one, reading neither."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _passes(count: int, seed: int, part: int) -> Iterator[int]:
    """0..count-1 in one random order after another, without end."""
    random = np.random.default_rng([seed, part])
    while count:
        yield from map(int, random.permutation(count))


def in_windows(examples: Examples, size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """For predicting: batches of examples alike in length, each with its indices; reads WINDOW batches at a time."""
    for start in range(0, len(examples), size * WINDOW):
        window = [examples[index] for index in range(start, min(start + size * WINDOW, len(examples)))]
        order = sorted(range(len(window)), key=lambda index: length(window[index]))
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            yield [start + index for index in chosen], [window[index] for index in chosen]


class Labels(NamedTuple):
    """What an example teaches: the class of each of its rows, `hard`; or of its one row a distribution, `soft`."""

    hard: Sequence[int] | NDArray[Any]
    soft: Sequence[float] | NDArray[Any] = ()


def labels(example: Example, soft: bool) -> Labels:
    """A teacher's distribution, where there is one, is taken when `soft`. Raises StudentError where there is no label."""
    if isinstance(example, TokenExample):
        if example.targets is None:
            raise StudentError(f"a sample to learn from has no tags: {' '.join(example.words)[:80]!r}")
        return Labels(example.targets)
    if soft and example.soft is not None:
        return Labels((), example.soft)
    if example.target is None:
        raise StudentError(f"a sample to learn from has no label: {example.text[:80]!r}")
    return Labels((example.target,))


def distributions(taught: Sequence[Labels], classes: int, smoothing: float) -> NDArray[np.float32]:
    """What should be predicted: (rows, classes), each row summing to 1; one row per text, or one per word.

    A distribution is taken as it is; a hard label gets `smoothing` spread over all classes.
    """
    hard = np.full((classes, classes), smoothing / classes, dtype=np.float32)
    hard[np.diag_indices(classes)] += 1 - smoothing
    rows = [
        np.asarray([each.soft], dtype=np.float32) if len(each.soft) else hard[np.asarray(each.hard, dtype=np.int64)]
        for each in taught
    ]
    return np.concatenate(rows) if rows else np.zeros((0, classes), dtype=np.float32)


def weights(examples: Sequence[Example]) -> NDArray[np.float32]:
    """(rows,): the sample's weight, once per text or once per word."""
    per_example = [example.weight for example in examples]
    repeats = [1 if isinstance(example, SequenceExample) else len(example.words) for example in examples]
    return np.repeat(np.asarray(per_example, dtype=np.float32), repeats)
