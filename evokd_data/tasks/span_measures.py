"""Metrics of tagging as pure functions of tags; what they return is plain JSON.

`tagging` returns, for n texts and T types (all of the task's, in its order, seen or not):

    n                        texts scored
    spans                    spans expected in them
    micro_f1, precision, recall    over the spans of all types
    macro_f1                 unweighted mean of the T types' F1; a type neither expected nor predicted counts as 0
    per_class                type -> precision, recall, f1 (0 where undefined), support (spans of it expected)
    intervals                micro_f1, macro_f1 -> [low, high]: 95 % percentile bootstrap over texts, see `bootstrap`

A span is right when its first word, its last word and its type are. Which spans a row of tags holds is read by seqeval, in
its strict mode for IOB2: a span begins with B-, and I- after another type, or after O, is of none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.tasks.measures import precision_recall_f1

RESAMPLES = 1000
BLOCK_CELLS = 4_000_000  # text counts drawn at a time: 32 MB, whatever the number of texts

Floats = NDArray[np.float64]
Rows = Sequence[Sequence[int]]
"""Class indices, one a word: 0 is O, 1 + 2t is B- and 2 + 2t is I- of type t."""


def tagging(expected: Rows, predicted: Rows, types: Sequence[str], seed: int) -> dict[str, Any]:
    """All metrics of this page, from as many rows of both, word for word; `seed` draws the bootstrap."""
    if not len(expected) or [len(row) for row in expected] != [len(row) for row in predicted]:
        raise ValueError(f"cannot score {len(predicted)} rows of tags against {len(expected)}, or not word for word")
    counts = span_counts(expected, predicted, len(types))
    per_type = counts.sum(axis=0)
    precision, recall, f1 = precision_recall_f1(*per_type)
    all_types = precision_recall_f1(*per_type.sum(axis=1, keepdims=True))
    micro_interval, macro_interval = bootstrap(counts, seed)
    return {
        "n": len(expected),
        "spans": int(per_type[2].sum()),
        "micro_f1": float(all_types[2][0]),
        "macro_f1": float(f1.mean()),
        "precision": float(all_types[0][0]),
        "recall": float(all_types[1][0]),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(per_type[2, index]),
            }
            for index, name in enumerate(types)
        },
        "intervals": {"micro_f1": list(micro_interval), "macro_f1": list(macro_interval)},
    }


def span_counts(expected: Rows, predicted: Rows, types: int) -> Floats:
    """(texts, 3, T): right spans, predicted spans, expected spans, by text and type."""
    wanted, found = _spans(expected), _spans(predicted)
    counts = np.zeros((len(expected), 3, types))
    for text, (want, find) in enumerate(zip(wanted, found, strict=True)):
        for kind, spans in enumerate((want & find, find, want)):
            for type_, number in Counter(type_ for _, _, type_ in spans).items():
                counts[text, kind, type_] = number
    return counts


def _spans(rows: Rows) -> list[set[tuple[int, int, int]]]:
    """First word, end and type's index of the spans in each row. Types go by number: seqeval trims hyphens from names."""
    from seqeval.scheme import IOB2, Entities

    named = [["O" if tag == 0 else f"{'BI'[(tag - 1) % 2]}-{(tag - 1) // 2}" for tag in row] for row in rows]
    return [{(each.start, each.end, int(each.tag)) for each in text} for text in Entities(named, IOB2).entities]


def bootstrap(counts: Floats, seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % percentile intervals of micro and macro F1 over RESAMPLES resamplings of the texts, from `span_counts`.

    Texts are drawn, not spans: those of one text are right or wrong together. How often each text is drawn is one
    multinomial draw, and a resample's counts are a product of matrices: no text is copied.
    """
    random = np.random.default_rng(seed)
    texts, _, types = counts.shape
    flat = counts.reshape(texts, 3 * types)
    share = np.full(texts, 1 / texts)
    micro, macro = [], []
    block = max(1, BLOCK_CELLS // texts)
    for start in range(0, RESAMPLES, block):
        drawn = random.multinomial(texts, share, size=min(block, RESAMPLES - start)).astype(float)
        sums = (drawn @ flat).reshape(-1, 3, types)
        macro.append(precision_recall_f1(*sums.transpose(1, 0, 2))[2].mean(axis=1))
        micro.append(precision_recall_f1(*sums.sum(axis=2).T)[2])
    return _interval(np.concatenate(micro)), _interval(np.concatenate(macro))


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
