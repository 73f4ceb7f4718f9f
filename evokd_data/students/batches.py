"""Which examples form a batch, in which order, and the targets of each. Shared by all students; numpy only."""

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

NO_SAMPLES = "the round has no samples to learn from; look at the reasons of its rejections"

WINDOW = 64  # batches that are read ahead and sorted by length: bounds both padding and memory
WINDOWS_PER_PASS = 4  # at least: sorting a whole pass would put the same few texts together every time


def text_length(example: Example) -> int:
    """Characters: an estimate of the tokens, which decide how much of a batch is padding."""
    return len(example.text) if isinstance(example, SequenceExample) else sum(map(len, example.words))


class BatchSampler:
    """Batches of `fresh` examples of this round and `earlier` ones of the rounds before.

    Examples may be represented by anything, such as their row numbers. With `replay` None all examples are one pool.
    Otherwise `replay` is the share of earlier examples in a batch ("review history", Liu et al. 2024, section 3), and passes
    are counted over the fresh ones. Raises StudentError when there are no examples.
    """

    def __init__(self, fresh: Sequence[Any], earlier: Sequence[Any], batch_size: int, replay: float | None) -> None:
        if replay is not None and fresh and earlier:
            from_earlier = min(round(batch_size * replay), len(earlier), batch_size - 1)
            self.sources = [(fresh, min(batch_size - from_earlier, len(fresh))), (earlier, from_earlier)]
        else:
            pool = _Concatenation(earlier, fresh)
            self.sources = [(pool, min(batch_size, len(pool)))]
        if not self.sources[0][1]:
            raise StudentError(NO_SAMPLES)

    def steps(self, passes: float, at_least: int) -> int:
        """The number of batches in `passes` passes over the first source, rounded up, but no fewer than `at_least`."""
        examples, per_batch = self.sources[0]
        return max(at_least, math.ceil(passes * len(examples) / per_batch))

    def batches(self, steps: int, seed: int, length: Callable[[Any], int] = text_length) -> Iterator[list[Any]]:
        """`steps` batches, each of examples of similar `length`, in an order that depends on the seed alone.

        Examples are read one by one, at most WINDOW batches ahead, and not kept afterwards.
        """
        batches_per_pass = min(len(examples) // per_batch for examples, per_batch in self.sources if per_batch)
        ahead = max(1, min(WINDOW, batches_per_pass // WINDOWS_PER_PASS))
        orders = [_passes(len(examples), seed, source) for source, (examples, _) in enumerate(self.sources)]
        shuffle = np.random.default_rng([seed, len(self.sources)])
        for start in range(0, steps, ahead):
            window: list[list[Any]] = [[] for _ in range(min(ahead, steps - start))]
            for (examples, per_batch), order in zip(self.sources, orders, strict=True):
                read = [examples[next(order)] for _ in range(per_batch * len(window))]
                read.sort(key=length)
                for index, batch in enumerate(window):
                    batch.extend(read[index * per_batch : (index + 1) * per_batch])
            for index in shuffle.permutation(len(window)):
                yield window[index]


class _Concatenation(Sequence[Any]):
    """Two sequences as one. No item is read before it is asked for."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _passes(count: int, seed: int, source: int) -> Iterator[int]:
    """0..count-1 in one random order after another, without end."""
    random = np.random.default_rng([seed, source])
    while count:
        yield from map(int, random.permutation(count))


def prediction_batches(examples: Examples, size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """Batches of examples of similar length, each with its examples' indices. Reads WINDOW batches at a time."""
    for start in range(0, len(examples), size * WINDOW):
        window = [examples[index] for index in range(start, min(start + size * WINDOW, len(examples)))]
        order = sorted(range(len(window)), key=lambda index: text_length(window[index]))
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            yield [start + index for index in chosen], [window[index] for index in chosen]


class Labels(NamedTuple):
    """The targets of an example: the class of each of its rows, `hard`; or one distribution for its one row, `soft`."""

    hard: Sequence[int] | NDArray[Any]
    soft: Sequence[float] | NDArray[Any] = ()


def labels(example: Example, soft: bool) -> Labels:
    """An example's targets. With `soft` the teacher's distribution is preferred to the hard label.

    Raises StudentError when the example has no target.
    """
    if isinstance(example, TokenExample):
        if example.targets is None:
            raise StudentError(f"a sample to learn from has no tags: {' '.join(example.words)[:80]!r}")
        return Labels(example.targets)
    if soft and example.soft is not None:
        return Labels((), example.soft)
    if example.target is None:
        raise StudentError(f"a sample to learn from has no label: {example.text[:80]!r}")
    return Labels((example.target,))


def target_distributions(targets: Sequence[Labels], classes: int, smoothing: float) -> NDArray[np.float32]:
    """(R, classes): the distribution to predict for each row, a text or a word. Each row sums to 1.

    A soft label is used as it is. A hard label gives `smoothing` of its probability to all classes equally.
    """
    hard = np.full((classes, classes), smoothing / classes, dtype=np.float32)
    hard[np.diag_indices(classes)] += 1 - smoothing
    rows = [
        np.asarray([target.soft], dtype=np.float32)
        if len(target.soft)
        else hard[np.asarray(target.hard, dtype=np.int64)]
        for target in targets
    ]
    return np.concatenate(rows) if rows else np.zeros((0, classes), dtype=np.float32)


def row_weights(examples: Sequence[Example]) -> NDArray[np.float32]:
    """(R,): the weight of each row's sample; a row is a text or a word."""
    per_example = [example.weight for example in examples]
    repeats = [1 if isinstance(example, SequenceExample) else len(example.words) for example in examples]
    return np.repeat(np.asarray(per_example, dtype=np.float32), repeats)
