"""Metrics as pure functions of arrays; what they return is plain JSON.

`classification` returns, for n samples over C classes (all classes of the task in its order, whether they occur or not):

    n                    samples scored
    accuracy             share of samples whose most probable class is the expected one
    macro_f1             unweighted mean of the C classes' F1; a class neither expected nor predicted counts as 0
    per_class            class -> precision, recall, f1 (0 where undefined), support (samples that expect it)
    confusion            C lists of C counts: row = expected, column = predicted
    calibration_error    expected calibration error, see `calibration_error`
    intervals            accuracy, macro_f1 -> [low, high]: 95 %, see `intervals`
    notes                what the intervals cannot show, see `bootstrap.notes`; left out when there is nothing to say
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.tasks import bootstrap
from evokd_data.tasks.bootstrap import Interval

BINS = 15

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def classification(expected: Counts, probabilities: NDArray[Any], classes: Sequence[str], seed: int) -> dict[str, Any]:
    """All metrics of this page. `expected` (n,) class indices; `probabilities` (n, C); `seed` draws the bootstrap.

    Raises ValueError when the shapes do not agree or n is 0.
    """
    if not len(expected) or probabilities.shape != (len(expected), len(classes)):
        raise ValueError(
            f"cannot score {probabilities.shape} probabilities, {len(expected)} rows, {len(classes)} classes"
        )
    counts = confusion(expected, probabilities.argmax(axis=1), len(classes))
    right, predicted, expectations = margins(counts)
    per_class = precision_recall_f1(right, predicted, expectations)
    accuracy_interval, macro_f1_interval = intervals(counts, seed)
    notes = bootstrap.notes(classes, counts.sum(axis=1).tolist(), "text")
    return {
        "n": len(expected),
        "accuracy": float(counts.trace() / len(expected)),
        "macro_f1": float(per_class[2].mean()),
        "per_class": class_table(classes, *per_class, expectations),
        "confusion": counts.tolist(),
        "calibration_error": calibration_error(expected, probabilities),
        "intervals": {"accuracy": list(accuracy_interval), "macro_f1": list(macro_f1_interval)},
        **({"notes": notes} if notes else {}),
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


def class_table(
    names: Sequence[str], precision: Floats, recall: Floats, f1: Floats, support: Floats
) -> dict[str, dict[str, Any]]:
    """`per_class` of the metrics: name -> its figures, from arrays (C,) in the order of the names."""
    return {
        name: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": int(support[index]),
        }
        for index, name in enumerate(names)
    }


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


def intervals(counts: Counts, seed: int) -> tuple[Interval, Interval]:
    """95 % intervals of accuracy and macro F1, from a confusion matrix. It takes milliseconds.

    Accuracy: Wilson's. Macro F1: a percentile bootstrap stratified by class, because a resample without a class would count it as
    0; there is more to draw from than the texts, see `bootstrap`: what goes wrong of it goes into every other class alike. A class
    without a text stays without.
    """
    totals, right_of_all = counts.sum(axis=1), float(counts.trace())
    total, classes = float(totals.sum()), len(counts)
    error, half_an_error = bootstrap.pooled_error(right_of_all, total), bootstrap.HALF_AN_ERROR
    random = np.random.default_rng(seed)
    right, predicted, wrong = (np.zeros((bootstrap.RESAMPLES, classes)) for _ in range(3))
    for index in np.flatnonzero(totals):
        columns = np.union1d(counts[index].nonzero()[0], [index])
        weights = counts[index, columns] + (1 - error) * (columns == index)
        weights = np.append(weights, error + half_an_error * totals[index] / total)
        drawn = random.multinomial(totals[index], weights / weights.sum(), size=bootstrap.RESAMPLES)
        right[:, index] = drawn[:, np.searchsorted(columns, index)]
        predicted[:, columns] += drawn[:, :-1]
        wrong[:, index] = drawn[:, -1]
    predicted += (wrong.sum(axis=1, keepdims=True) - wrong) / max(1, classes - 1)
    macro_f1s = precision_recall_f1(right, predicted, np.broadcast_to(totals.astype(float), right.shape))[2].mean(
        axis=1
    )
    estimate = float(precision_recall_f1(*margins(counts))[2].mean())
    return bootstrap.share_interval(right_of_all, total), bootstrap.percentile_interval(macro_f1s, estimate)
