"""Metrics of tagging as pure functions of tags; what they return is plain JSON.

`tagging` returns, for n texts and T types (all types of the task in its order, whether they occur or not):

    n                        texts scored
    spans                    spans expected in them
    micro_f1, precision, recall    over the spans of all types
    macro_f1                 unweighted mean of the T types' F1; a type neither expected nor predicted counts as 0
    per_class                type -> precision, recall, f1 (0 where undefined), support (spans of it expected)
    intervals                micro_f1, macro_f1 -> [low, high]: 95 %, see `intervals`
    notes                    what the intervals cannot show, see `bootstrap.notes`; left out when there is nothing to say

A span is right when its first word, its last word and its type are right. seqeval reads the spans from a row of tags, in
its strict mode for IOB2: a span begins with B-; an I- after another type or after O belongs to no span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.records import Outcome
from evokd_data.tasks import bootstrap
from evokd_data.tasks.bootstrap import Interval
from evokd_data.tasks.measures import class_table, precision_recall_f1

Floats = NDArray[np.float64]
Rows = Sequence[Sequence[int]]
"""Class indices, one per word: 0 is O, 1 + 2t is B- and 2 + 2t is I- of type t."""


def tagging(expected: Rows, predicted: Rows, types: Sequence[str], seed: int) -> dict[str, Any]:
    """All metrics of this page; `seed` draws the bootstrap.

    Raises ValueError when there are no rows, or when the two do not have the same number of rows and words.
    """
    if not len(expected) or [len(row) for row in expected] != [len(row) for row in predicted]:
        raise ValueError(f"cannot score {len(predicted)} rows of tags against {len(expected)}, or not word for word")
    counts = span_counts(expected, predicted, len(types))
    per_type = counts.sum(axis=0)
    precision, recall, f1 = precision_recall_f1(*per_type)
    all_types = precision_recall_f1(*per_type.sum(axis=1, keepdims=True))
    micro_interval, macro_interval = intervals(counts, seed)
    notes = bootstrap.notes(types, per_type[2].astype(int).tolist(), "span")
    return {
        "n": len(expected),
        "spans": int(per_type[2].sum()),
        "micro_f1": float(all_types[2][0]),
        "macro_f1": float(f1.mean()),
        "precision": float(all_types[0][0]),
        "recall": float(all_types[1][0]),
        "per_class": class_table(types, precision, recall, f1, per_type[2]),
        "intervals": {"micro_f1": list(micro_interval), "macro_f1": list(macro_interval)},
        **({"notes": notes} if notes else {}),
    }


def span_counts(expected: Rows, predicted: Rows, types: int) -> Floats:
    """(texts, 3, T): right spans, predicted spans, expected spans, by text and type."""
    counts = np.zeros((len(expected), 3, types))
    for text, (expectations, predictions) in enumerate(zip(_spans(expected), _spans(predicted), strict=True)):
        for kind, spans in enumerate((expectations & predictions, predictions, expectations)):
            for type_, number in Counter(type_ for _, _, type_ in spans).items():
                counts[text, kind, type_] = number
    return counts


def outcomes(expected: Rows, predicted: Rows, types: int) -> list[Outcome]:
    """The counts of `span_counts`, text by text: each type as often as there is a span of it."""

    def positions(numbers: Floats) -> tuple[int, ...]:
        return tuple(np.repeat(np.arange(types), numbers.astype(int)).tolist())

    counts = span_counts(expected, predicted, types)
    return [Outcome(*(positions(text[kind]) for kind in (2, 1, 0))) for text in counts]


def _spans(rows: Rows) -> list[set[tuple[int, int, int]]]:
    """First word, end and type index of the spans in each row. Types go by index, because seqeval trims hyphens from names."""
    from seqeval.scheme import IOB2, Entities

    named = [["O" if tag == 0 else f"{'BI'[(tag - 1) % 2]}-{(tag - 1) // 2}" for tag in row] for row in rows]
    return [{(entity.start, entity.end, int(entity.tag)) for entity in text} for text in Entities(named, IOB2).entities]


def intervals(counts: Floats, seed: int) -> tuple[Interval, Interval]:
    """95 % percentile intervals of micro and macro F1 over resamples of the texts, from `span_counts`.

    Texts are resampled rather than spans, because the spans of one text are right or wrong together. There is more to draw from
    than the texts, see `bootstrap`: a text that is added for a type has as many spans of it as texts with it have on average, all of
    them right, or all wrong. A resample without any span has no micro F1 and is left out; a type that a resample has no
    span of is left out of its mean, and the mean is taken over the types that occur. The counts of a block of resamples are one
    product of matrices.
    """
    sums = counts.sum(axis=0)
    occurs = sums[2] > 0
    estimates = precision_recall_f1(*sums.sum(axis=1, keepdims=True))[2][0], precision_recall_f1(*sums)[2].mean()
    texts, weights = _with_added_texts(counts, occurs)
    micro, macro = [], []
    for drawn in bootstrap.resamples(len(counts), weights, seed):
        resampled = (drawn @ texts.reshape(len(texts), -1)).reshape(-1, *sums.shape)
        right, predicted, expected = resampled.sum(axis=2).T
        micro.append(np.where(predicted + expected > 0, precision_recall_f1(right, predicted, expected)[2], np.nan))
        present = (resampled[:, 2] > 0) & occurs
        f1 = precision_recall_f1(*resampled.transpose(1, 0, 2))[2]
        number = present.sum(axis=1)
        mean = np.divide((f1 * present).sum(axis=1), number, out=np.full(len(f1), np.nan), where=number > 0)
        macro.append(mean * occurs.mean())
    return (
        bootstrap.percentile_interval(np.concatenate(micro), float(estimates[0])),
        bootstrap.percentile_interval(np.concatenate(macro), float(estimates[1])),
    )


def _with_added_texts(counts: Floats, occurs: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The texts' counts (K, 3, T) with those of the added texts, and the weights of all (K,)."""
    right, predicted, expected = counts.sum(axis=(0, 2))
    expected_of_type = counts[:, 2].sum(axis=0)
    error = bootstrap.pooled_error(2 * right, predicted + expected)
    added = np.zeros((2 * int(occurs.sum()), 3, counts.shape[2]))
    for number, type_ in enumerate(np.flatnonzero(occurs)):
        spans = counts[counts[:, 2, type_] > 0, 2, type_].mean()
        added[2 * number, :, type_] = spans
        added[2 * number + 1, 1:, type_] = spans
    shares = expected_of_type[occurs] / max(1.0, expected)
    weights = np.stack([np.full(len(shares), 1 - error), error + bootstrap.HALF_AN_ERROR * shares], axis=1).ravel()
    return np.concatenate([counts, added]), np.concatenate([np.ones(len(counts)), weights])
