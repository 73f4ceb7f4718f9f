"""Metrics as pure functions of arrays; what they return is plain JSON.

`classification` returns, for n samples over C classes (all of the task's, in its order, seen or not):

    n                    samples scored
    accuracy             share of samples whose most probable class is the expected one
    macro_f1             unweighted mean of the C classes' F1; a class neither expected nor predicted counts as 0
    per_class            class -> precision, recall, f1 (0 where undefined), support (samples that expect it)
    confusion            C lists of C counts: row = expected, column = predicted
    calibration_error    expected calibration error, see `calibration_error`
    intervals            accuracy, macro_f1 -> [low, high]: 95 % percentile bootstrap, see `bootstrap`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
RESAMPLES = 1000
BLOCK_CELLS = 4_000_000  # counts drawn at a time: 32 MB, whatever the number of classes

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def classification(expected: Counts, probabilities: NDArray[Any], classes: Sequence[str], seed: int) -> dict[str, Any]:
    """All metrics of this page. `expected` (n,) class indices; `probabilities` (n, C); n > 0; `seed` draws the bootstrap."""
    if not len(expected) or probabilities.shape != (len(expected), len(classes)):
        raise ValueError(
            f"cannot score {probabilities.shape} probabilities, {len(expected)} rows, {len(classes)} classes"
        )
    counts = confusion(expected, probabilities.argmax(axis=1), len(classes))
    precision, recall, f1 = precision_recall_f1(*margins(counts))
    accuracy_interval, macro_f1_interval = bootstrap(counts, seed)
    return {
        "n": len(expected),
        "accuracy": float(counts.trace() / len(expected)),
        "macro_f1": float(f1.mean()),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(counts[index].sum()),
            }
            for index, name in enumerate(classes)
        },
        "confusion": counts.tolist(),
        "calibration_error": calibration_error(expected, probabilities),
        "intervals": {"accuracy": list(accuracy_interval), "macro_f1": list(macro_f1_interval)},
    }


def confusion(expected: Counts, predicted: Counts, classes: int) -> Counts:
    """(C, C) counts, row = expected, column = predicted, from two (n,) arrays of class indices."""
    return np.bincount(expected * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def margins(counts: Counts) -> tuple[Floats, Floats, Floats]:
    """Per class, from a confusion matrix: right predictions, all predictions, all expectations; each (C,)."""
    return counts.diagonal().astype(float), counts.sum(axis=0).astype(float), counts.sum(axis=1).astype(float)


def precision_recall_f1(right: Floats, predicted: Floats, expected: Floats) -> tuple[Floats, Floats, Floats]:
    """Elementwise, for counts of one shape. Where a denominator is 0 the value is 0."""
    return _ratio(right, predicted), _ratio(right, expected), _ratio(2 * right, predicted + expected)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def calibration_error(expected: Counts, probabilities: NDArray[Any]) -> float:
    """Expected calibration error: the gap between confidence and accuracy, averaged over BINS bins of equal width,
    each weighted by its share of the samples.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2, equation 3. Bins are (low, high].
    """
    confidence = probabilities.max(axis=1).astype(float)
    right = (probabilities.argmax(axis=1) == expected).astype(float)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(expected))


def bootstrap(counts: Counts, seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % percentile intervals of accuracy and macro F1 over RESAMPLES resamplings of the scored samples.

    Samples with the same expected and predicted class are alike to both metrics, so drawing n of n samples with
    replacement is one multinomial draw over the cells of the confusion matrix: milliseconds, and no sample is copied.
    """
    random = np.random.default_rng(seed)
    row, column = counts.nonzero()
    cells = counts[row, column]
    total, classes = int(cells.sum()), len(counts)
    to_row, to_column = np.eye(classes)[row], np.eye(classes)[column]
    diagonal = to_row * (row == column)[:, None]
    accuracies, macro_f1s = [], []
    block = max(1, BLOCK_CELLS // len(cells))
    for start in range(0, RESAMPLES, block):
        drawn = random.multinomial(total, cells / total, size=min(block, RESAMPLES - start)).astype(float)
        right, predicted, expected = drawn @ diagonal, drawn @ to_column, drawn @ to_row
        accuracies.append(right.sum(axis=1) / total)
        macro_f1s.append(precision_recall_f1(right, predicted, expected)[2].mean(axis=1))
    return _interval(np.concatenate(accuracies)), _interval(np.concatenate(macro_f1s))


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
