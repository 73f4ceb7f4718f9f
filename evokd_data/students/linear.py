"""Logistic regression over hashed characters and words: no torch, seconds on a CPU. A baseline, and what dry runs train."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.records import TokenExample
from evokd_data.settings import Count, Rate, from_anyone, identity
from evokd_data.students import Examples, Network, Predict, Student, TrainingData
from evokd_data.students.batches import BatchSampler, labels, prediction_batches, row_weights, target_distributions
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.hashing import SparseRow, hashed_rows

log = logging.getLogger(__name__)

WEIGHTS = "weights.npz"
PREDICTION_BATCH = 256
CACHED_EXAMPLES = 20_000  # whose features are kept between passes, about 2 KB each

Floats = NDArray[np.float64]


@from_anyone("characters", "buckets", "epochs", "min_steps", "batch_size", "learning_rate", "decay", "soft_labels")
@dataclass(frozen=True)
class Linear(Student):
    """Multinomial logistic regression, trained by Adagrad on all rounds, always from scratch.

    A text's features are its words, word pairs and runs of characters within its words. For tagging, a word's features are its own
    and those of its neighbours.
    """

    name: ClassVar[str] = "linear"

    characters: tuple[Count, Count] = (2, 5)
    """[shortest, longest] run of characters within a word that is a feature."""
    buckets: Annotated[int, Field(ge=16)] = 2**16
    """The number of features: words, word pairs and runs of characters are hashed into so many."""
    epochs: Rate = 20.0
    """Passes over the samples."""
    min_steps: Annotated[int, Field(ge=0)] = 100
    """The fewest batches of a training: a few seeds would otherwise be a few steps."""
    batch_size: Count = 64
    """Texts in one step."""
    learning_rate: Rate = 0.1
    """The learning rate of Adagrad."""
    decay: Annotated[float, Field(ge=0)] = 1e-4
    """How strongly weights are pulled to 0."""
    soft_labels: bool = True
    """Learn the teacher's probability of each class where there is one, instead of its label alone."""

    def __post_init__(self) -> None:
        if self.characters[0] > self.characters[1]:
            raise ValueError(f"characters: {list(self.characters)} runs backwards; write [shortest, longest]")

    @property
    def learns_soft_labels(self) -> bool:
        return self.soft_labels

    def identity(self) -> Mapping[str, Any]:
        return identity(self)

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: steps, fresh and earlier samples, mean loss of each tenth of the training, seconds."""
        started = time.perf_counter()
        sampler = BatchSampler(data.fresh, data.earlier, self.batch_size, replay=None)
        steps = sampler.steps(self.epochs, self.min_steps)
        rows_of = lru_cache(CACHED_EXAMPLES)(lambda example: list(hashed_rows(example, self.buckets, self.characters)))
        weight = np.zeros((self.buckets, len(data.classes)))
        squares = np.full_like(weight, 1e-8)
        losses = []
        for batch in sampler.batches(steps, data.seed):
            features = _SparseMatrix(row for example in batch for row in rows_of(example))
            hard_and_soft = [labels(example, self.soft_labels) for example in batch]
            targets = target_distributions(hard_and_soft, len(data.classes), smoothing=0.0)
            share = row_weights(batch)[:, None] / len(targets)
            probabilities = features.probabilities(weight)
            losses.append(-float((share * targets * np.log(probabilities + 1e-30)).sum()))
            buckets, gradient = features.gradient(share * (probabilities - targets))
            gradient += self.decay * weight[buckets]
            squares[buckets] += gradient**2
            weight[buckets] -= self.learning_rate * gradient / np.sqrt(squares[buckets])
        if not np.isfinite(losses).all():
            raise StudentError(
                "the student's loss is not finite; lower student.learning_rate or check samples' weights"
            )
        used = np.flatnonzero(weight.any(axis=1))
        np.savez(into / WEIGHTS, used=used, weight=weight[used].astype(np.float32))
        words = isinstance((data.fresh or data.earlier)[0], TokenExample)
        write_metadata(into, self.name, data.classes, words=words, buckets=self.buckets, characters=self.characters)
        figures: dict[str, Any] = {
            "steps": steps,
            "losses": [round(float(part.mean()), 6) for part in np.array_split(losses, min(10, steps))],
            "fresh": len(data.fresh),
            "earlier": len(data.earlier),
            "seconds": round(time.perf_counter() - started, 3),
        }
        log.info("student: %d steps, loss %.4f, %.1f s", steps, figures["losses"][-1], figures["seconds"])
        return figures

    def weights(self, checkpoint: Path) -> Sequence[Path]:
        return [checkpoint / WEIGHTS]

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        return self.predictor(checkpoint)(examples)

    def network(self, checkpoint: Path) -> Network:
        raise StudentError(
            f"{checkpoint}: a student of the kind {self.name!r} cannot be exported: its features are hashed runs of characters, and "
            "no operator of ONNX computes them; it needs no export, for it runs on numpy alone: evokd-data predict"
        )

    def predictor(self, checkpoint: Path) -> Predict:
        metadata = read_metadata(checkpoint, self.name)
        weight = np.zeros((metadata["buckets"], len(metadata["classes"])))
        try:
            with np.load(checkpoint / WEIGHTS, allow_pickle=False) as stored:
                weight[stored["used"]] = stored["weight"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StudentError(f"{checkpoint / WEIGHTS} is damaged ({error}); train the round again") from None
        return lambda examples: self._predict(examples, metadata, weight)

    def _predict(self, examples: Examples, metadata: Mapping[str, Any], weight: Floats) -> Sequence[Any]:
        shape = (len(examples), len(metadata["classes"]))
        result: Any = [None] * len(examples) if metadata["words"] else np.empty(shape, dtype=np.float32)
        for indices, batch in prediction_batches(examples, PREDICTION_BATCH):
            rows = [list(hashed_rows(example, metadata["buckets"], metadata["characters"])) for example in batch]
            features = _SparseMatrix(row for example in rows for row in example)
            probabilities = features.probabilities(weight).astype(np.float32)
            if not metadata["words"]:
                result[indices] = probabilities
                continue
            ends = np.cumsum([len(example) for example in rows])
            for index, part in zip(indices, np.split(probabilities, ends[:-1]), strict=True):
                result[index] = part
        return result


class _SparseMatrix:
    """Rows of features as one sparse matrix (R, buckets), compressed by row."""

    def __init__(self, rows: Iterable[SparseRow]) -> None:
        rows = list(rows)
        lengths = [len(buckets) for buckets, _ in rows]
        self.row = np.repeat(np.arange(len(rows)), lengths)
        self.start = np.cumsum([0, *lengths[:-1]])
        self.bucket = np.concatenate([buckets for buckets, _ in rows]) if rows else np.zeros(0, dtype=np.int64)
        self.value = np.concatenate([values for _, values in rows])[:, None] if rows else np.zeros((0, 1))

    def probabilities(self, weight: Floats) -> Floats:
        """(R, C) from weights (buckets, C). No row is empty, because each has its constant."""
        if not len(self.row):
            return np.zeros((0, weight.shape[1]))
        logits = np.add.reduceat(weight[self.bucket] * self.value, self.start)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def gradient(self, errors: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The buckets (B,) that occur, and the gradient of their weights (B, C), from the logits' gradient (R, C)."""
        if not len(self.row):
            return self.bucket, np.zeros((0, errors.shape[1]))
        order = np.argsort(self.bucket, kind="stable")
        buckets, start = np.unique(self.bucket[order], return_index=True)
        return buckets, np.add.reduceat((errors[self.row] * self.value)[order], start)
