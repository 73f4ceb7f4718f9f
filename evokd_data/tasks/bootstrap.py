"""The bootstrap of all metrics: resampled counts in blocks of bounded memory, and the percentile interval."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
BLOCK_CELLS = 4_000_000  # counts drawn at a time: 32 MB, whatever the number of categories

Floats = NDArray[np.float64]


def resamples(total: int, probabilities: Floats, seed: int) -> Iterator[Floats]:
    """(B, K) blocks of counts, RESAMPLES rows in all: how often each of K categories is drawn in `total` draws.

    To draw n of n samples with replacement is one multinomial draw over the categories of samples that a metric treats
    alike, with the categories' shares as `probabilities` (K,). No sample is copied.
    """
    random = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // len(probabilities))
    for start in range(0, RESAMPLES, block):
        yield random.multinomial(total, probabilities, size=min(block, RESAMPLES - start)).astype(float)


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of a metric's values in the resamples."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
