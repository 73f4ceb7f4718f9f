"""A logistic regression on features that do not change: what `frozen` and `static` students train.

Examples are read a block at a time; only their features stay in memory.
"""

from __future__ import annotations

import logging
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students import TrainingData
from evokd_data.students.batches import Example, Labels, labels

log = logging.getLogger(__name__)

HEAD = "head.npz"
BLOCK = 512  # examples read at a time
SMALLEST_TARGET = 0.01  # soft targets below it are left out: each costs a row

Floats = NDArray[np.float32]
EmbedTexts = Callable[[Sequence[str]], Floats]
EmbedWords = Callable[[Sequence[TokenExample]], list[Floats]]


@dataclass(frozen=True)
class TrainingRows:
    """Features (R, D), a class index (R,) and a weight (R,) for each row: a text, a word, or one class of a soft label."""

    features: Floats
    targets: NDArray[np.int64]
    weights: NDArray[np.float64]
    first_block: Sequence[Example]
    """The first examples that were read, BLOCK at most."""


@dataclass(frozen=True)
class LogisticHead:
    """Coefficients (C, D) and intercepts (C,), with the steps of the optimiser and the mean loss at its end.

    A class without an example gets the lowest score everywhere.
    """

    coefficients: Floats
    intercepts: Floats
    steps: int
    loss: float


def training_rows(
    data: TrainingData, soft: bool, name_weight: float, embed_texts: EmbedTexts, embed_words: EmbedWords
) -> TrainingRows:
    """The rows of all examples, and for texts one more a class: its name, which weighs `name_weight`.

    A row without features, such as a word of which the tokenizer makes nothing, is left out.
    """
    words = isinstance((data.fresh or data.earlier)[0], TokenExample)
    features: list[Floats] = []
    targets: list[int] = []
    weights: list[float] = []
    first_block: list[Example] = []
    examples = chain(data.earlier, data.fresh)
    while block := list(islice(examples, BLOCK)):
        first_block = first_block or block
        rows = [row for example in block for row in _targets(example, soft)]
        targets += [target for _, target, _ in rows]
        weights += [weight for _, _, weight in rows]
        if words:
            features += embed_words(block)  # type: ignore[arg-type]  # all of one kind
        else:
            features.append(embed_texts([text for text, _, _ in rows]))
    if name_weight and not words:
        features.append(embed_texts(data.class_names or data.classes))
        targets += range(len(data.classes))
        weights += [name_weight] * len(data.classes)
    vectors = np.concatenate(features)
    has_features = np.any(vectors, axis=1)
    return TrainingRows(
        vectors[has_features], np.asarray(targets)[has_features], np.asarray(weights)[has_features], first_block
    )


def _targets(example: Any, soft: bool) -> Iterator[tuple[str, int, float]]:
    """(text, class index, weight) of each row of an example."""
    text = example.text if isinstance(example, SequenceExample) else ""
    yield from ((text, target, weight) for target, weight in weighted_targets(labels(example, soft), example.weight))


def weighted_targets(label: Labels, weight: float) -> list[tuple[int, float]]:
    """(class index, weight) of each row of an example that weighs `weight`."""
    if len(label.hard):
        return [(int(target), weight) for target in label.hard]
    return [(target, weight * float(share)) for target, share in enumerate(label.soft) if share >= SMALLEST_TARGET]


def fit_head(rows: TrainingRows, classes: int, c: float, max_iterations: int) -> LogisticHead:
    """The regression's one optimum. `c` is the inverse strength of the regularisation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    present = np.unique(rows.targets)
    coefficients = np.zeros((classes, rows.features.shape[1]), dtype=np.float32)
    intercepts = np.full(classes, -1e4, dtype=np.float32)
    if len(present) <= 1:
        intercepts[present] = 0
        return LogisticHead(coefficients, intercepts, 0, 0.0)
    regression = LogisticRegression(C=c, max_iter=max_iterations, tol=1e-6)
    regression.fit(rows.features.astype(np.float64), rows.targets, sample_weight=rows.weights)
    if len(present) == 2:  # sklearn keeps one row for two classes: the log-odds of the second
        coefficients[present[1]], intercepts[present] = regression.coef_[0], (0.0, regression.intercept_[0])
    else:
        coefficients[present], intercepts[present] = regression.coef_, regression.intercept_
    probabilities = regression.predict_proba(rows.features)
    loss = log_loss(rows.targets, probabilities, sample_weight=rows.weights, labels=present)
    return LogisticHead(coefficients, intercepts, int(regression.n_iter_.max()), float(loss))


def write_head(folder: Path, head: LogisticHead) -> None:
    """Into the checkpoint's file HEAD."""
    with (folder / HEAD).open("wb") as file:
        np.savez(file, coefficients=head.coefficients, intercepts=head.intercepts)


def read_head(folder: Path) -> tuple[Floats, Floats]:
    """Coefficients (C, D) and intercepts (C,). Raises StudentError when the file is damaged."""
    try:
        with np.load(folder / HEAD, allow_pickle=False) as stored:
            return stored["coefficients"], stored["intercepts"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StudentError(f"{folder / HEAD} is damaged ({error}); train the round again") from None


def figures_of(head: LogisticHead, data: TrainingData, started: float, **facts: Any) -> dict[str, Any]:
    """The figures of a training that began at `started` (time.perf_counter), as `Student.fit` returns them."""
    figures = {
        "steps": head.steps,
        "losses": [round(math.log(len(data.classes)), 6), round(head.loss, 6)],
        "fresh": len(data.fresh),
        "earlier": len(data.earlier),
        **facts,
        "seconds": round(time.perf_counter() - started, 3),
    }
    log.info("student: %d steps, loss %.4f, %.1f s", head.steps, head.loss, figures["seconds"])
    return figures


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities
