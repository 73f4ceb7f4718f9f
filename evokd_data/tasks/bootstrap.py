"""Intervals of scores on few texts: Wilson's for a share, a smoothed bootstrap for F1, and what they cannot show, in words.

A bootstrap draws texts again from those there are, so an error that did not occur cannot occur in a resample: of 200 texts that
are all right it makes the interval 1 to 1, and of a class with one text nothing varies. So there is more to draw from: for each
class (or type) one text that errs as often as all texts together do, (errors + 1) / (texts + 2), and over all classes half an error,
as Jeffreys' prior has it for a share. docs/intervals.md has the coverage with one to 100 texts of a class, with it and without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from evokd_data.tasks.untested import listed, untested

RESAMPLES = 1000
HALF_AN_ERROR = 0.5
BLOCK_CELLS = 4_000_000  # counts drawn at a time: 32 MB, whatever the number of categories
FEW = 5
"""Texts of a class, or spans of a type, below which its errors are for the most part those of all classes."""
_Z = 1.959963984540054  # of the normal distribution, for 95 %

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def resamples(total: int, weights: Floats, seed: int) -> Iterator[Floats]:
    """(B, K) blocks of counts, RESAMPLES rows in all: how often each of K categories is drawn in `total` draws.

    To draw n of n samples with replacement is one multinomial draw over the categories of samples that a metric treats
    alike, with the categories' shares of `weights` (K,) as probabilities. No sample is copied.
    """
    random = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // len(weights))
    for start in range(0, RESAMPLES, block):
        yield random.multinomial(total, weights / weights.sum(), size=min(block, RESAMPLES - start)).astype(float)


def pooled_error(right: float, total: float) -> float:
    """The share of errors, with one right and one wrong text more (Laplace): never 0 or 1."""
    return (total - right + 1) / (total + 2)


def percentile_interval(values: Floats, estimate: float) -> Interval:
    """The 95 % interval of a metric's values in the resamples, NaN left out; widened where it would leave out the estimate."""
    values = values[~np.isnan(values)]
    if not len(values):
        return estimate, estimate
    low, high = np.percentile(values, [2.5, 97.5])
    return min(float(low), estimate), max(float(high), estimate)


def share_interval(right: float, total: float) -> Interval:
    """Wilson's 95 % interval of a share (Brown, Cai and DasGupta 2001). It holds the share, and is never a point."""
    share, square = right / total, _Z * _Z / total
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def notes(names: Sequence[str], support: Sequence[int], unit: str) -> list[str]:
    """What the intervals cannot show, in words: classes without a `unit` in the test set ("text", "span"), and with few."""
    few = [name for name, number in zip(names, support, strict=True) if 0 < number < FEW]
    sentence = untested(dict(zip(names, support, strict=True)))
    lines = [sentence] if sentence else []
    if few:
        lines.append(
            f"The test set has fewer than {FEW} {unit}s of {listed(few)}: how often they go wrong is for the most part taken from "
            "all of them together."
        )
    return lines
