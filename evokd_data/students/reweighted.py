"""SunGen's sample weights: how far each synthetic label is trusted, learned from the synthetic samples themselves.

Gao et al., "Self-Guided Noise-Free Data Generation for Efficient Zero-Shot Learning", ICLR 2023 (arXiv 2205.12679),
section 3. A bilevel optimisation: the inner problem fits a model to the samples by weighted cross-entropy, the outer
problem moves the weights w down the gradient of a loss that is robust to wrong labels, the reverse cross-entropy of Wang
et al. 2019 (arXiv 1908.06112), of the model fitted with w:

    min over w of  L_rce(theta*(w)),   theta*(w) = argmin over theta of  sum_i w_i L_ce(x_i, y_i; theta)
    L_rce(x, y) = -sum_k p_k(x) log q_k = -A (1 - p_y(x)),  q the one-hot label and log 0 := A = -4

Differences from the paper:
- The inner model is a softmax over frozen features, not the small model itself. Its loss is convex, so the gradient of
  theta*(w) is exact (implicit differentiation, one linear system) where the paper truncates a long back-propagation, and
  it costs seconds.
- The outer loss is computed on samples that the inner model was not fitted to, fold by fold. A model with more features
  than samples fits wrong labels too, and its loss on them says nothing.
- The student is then trained on all samples with their weights; the paper draws a subset by them.
- The user's seeds of round 0 keep their weights; in later rounds they are reweighted together with all other samples.

Weights are learned for texts with one label. Samples with tagged words keep their weights.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evokd_data.models import Model
from evokd_data.records import SequenceExample
from evokd_data.settings import Count, Rate, from_anyone
from evokd_data.students import Examples, TrainingData
from evokd_data.students.batches import Example
from evokd_data.students.deterministic import deterministic
from evokd_data.students.embeddings import embed_texts
from evokd_data.students.hashing import hashed_rows
from evokd_data.students.linear import Linear
from evokd_data.students.transformer import Transformer

log = logging.getLogger(__name__)

SAMPLE_WEIGHTS = "sample_weights.npz"
FOLDS = 3
BLOCK = 4096  # samples reweighted together: it bounds memory, and more of them would not change the weights
NEWTON_STEPS = 3  # of the inner problem between two steps of the weights: it starts from the previous solution
SYSTEM_STEPS = 20  # of conjugate gradients
HASHED = 1024  # features of a text, for a student without an encoder

Floats = NDArray[np.float64]


@from_anyone("weight_steps", "weight_rate", "inner_decay")
@dataclass(frozen=True)
class _Reweighting(ABC):
    """Learns the weights before the student's own `fit`, and writes them beside its checkpoint."""

    weight_steps: Count = 20
    """How many steps the weights take. They start at 0.5 and stay within [0, 1]."""
    weight_rate: Rate = 0.1
    """The root mean square of one step of the weights."""
    inner_decay: Rate = 3e-3
    """How strongly the parameters of the inner model are pulled to 0."""

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """The student's own figures, the number of learned weights, and their quantiles in tenths."""
        if data.previous is None or not isinstance((data.fresh or data.earlier)[0], SequenceExample):
            return {**super().fit(data, into), "reweighted": 0}  # type: ignore[misc]
        weights = self._weights(data)
        earlier, fresh = np.split(weights, [len(data.earlier)])
        np.savez(into / SAMPLE_WEIGHTS, earlier=earlier, fresh=fresh)
        reweighted = replace(
            data,
            earlier=_ReweightedExamples(data.earlier, earlier),
            fresh=_ReweightedExamples(data.fresh, fresh),
            segments=(),
        )
        figures = super().fit(reweighted, into)  # type: ignore[misc]
        tenths = [round(float(weight), 6) for weight in np.quantile(weights, np.linspace(0, 1, 11))]
        return {**figures, "reweighted": len(weights), "weight_tenths": tenths}

    def _weights(self, data: TrainingData) -> NDArray[np.float32]:
        """(earlier + fresh,): weights of mean 1, learned in blocks that are drawn at random."""
        total = len(data.earlier) + len(data.fresh)
        order = np.random.default_rng([data.seed, total]).permutation(total)
        weights = np.ones(total)
        for number, block in enumerate(np.array_split(order, -(-total // BLOCK))):
            examples = [
                data.earlier[i] if i < len(data.earlier) else data.fresh[i - len(data.earlier)] for i in map(int, block)
            ]
            labels = np.array([_label(example) for example in examples])
            weights[block] = learn_weights(
                self._features(examples, data),
                labels,
                np.array([example.weight for example in examples]),
                len(data.classes),
                seed=data.seed + number,
                steps=self.weight_steps,
                rate=self.weight_rate,
                decay=self.inner_decay,
            )
        return (weights / max(weights.mean(), 1e-9)).astype(np.float32)

    @abstractmethod
    def _features(self, examples: Sequence[Any], data: TrainingData) -> Floats:
        """(examples, D): the features that the inner model classifies by."""


@dataclass(frozen=True)
class ReweightedTransformer(_Reweighting, Transformer):
    """A `transformer` whose samples are weighted by a softmax over the base model's mean-pooled last layer."""

    name: ClassVar[str] = "reweighted"

    def _features(self, examples: Sequence[Any], data: TrainingData) -> Floats:
        with deterministic(data.seed):
            return _embeddings(self._base(), examples, self.max_length)


@dataclass(frozen=True)
class ReweightedLinear(_Reweighting, Linear):
    """The `linear` student, its samples weighted by a softmax over its own kind of features, hashed into fewer buckets."""

    name: ClassVar[str] = "reweighted-linear"

    inner_decay: Rate = 3e-4
    """How strongly the parameters of the inner model are pulled to 0."""

    def _features(self, examples: Sequence[Any], data: TrainingData) -> Floats:
        dense = np.zeros((len(examples), HASHED))
        for row, example in zip(dense, examples, strict=True):
            for buckets, values in hashed_rows(example, HASHED, self.characters):
                row[buckets] = values
        return dense


class _ReweightedExamples(Sequence[Any]):
    """Examples whose weights are multiplied by `weights`. An example is read when it is asked for."""

    def __init__(self, examples: Examples, weights: NDArray[np.float32]) -> None:
        self._examples, self._weights = examples, weights

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        example = self._examples[index]
        return replace(example, weight=example.weight * float(self._weights[index]))


def _label(example: Example) -> int:
    """The sample's label, or the most probable class of the teacher's distribution."""
    assert isinstance(example, SequenceExample)
    if example.target is not None:
        return example.target
    return int(np.argmax(example.soft or (1.0,)))


def learn_weights(
    features: Floats,
    labels: NDArray[np.int64],
    sample_weights: Floats,
    classes: int,
    *,
    seed: int,
    steps: int,
    rate: float,
    decay: float,
) -> Floats:
    """A weight in [0, 1] for each row of `features` (N, D), by how far its label agrees with the other samples.

    `labels` (N,) are class indices. `sample_weights` (N,) are the samples' own weights: a sample of weight 0 does not
    influence the others. Fewer than 2 * FOLDS samples all get 0.5.

    Labels that are wrong more often than right cannot be detected: the outer loss tolerates label noise of the kind and
    share that Ghosh et al. 2017 (arXiv 1712.09482) give, below one half for two classes.
    """
    count = len(features)
    weights = np.full(count, 0.5)
    if count < 2 * FOLDS:
        return weights
    inputs = np.hstack([features, np.ones((count, 1))])
    targets = np.eye(classes)[labels]
    fold = np.random.default_rng(seed).permutation(count) % FOLDS
    parameters = [np.zeros((inputs.shape[1], classes)) for _ in range(FOLDS)]
    for _ in range(steps):
        gradient = np.zeros(count)
        for number in range(FOLDS):
            fit, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            inner = _InnerProblem(inputs[fit], targets[fit], sample_weights[fit] * weights[fit], decay)
            theta = parameters[number] = inner.solve(parameters[number])
            predicted = _softmax(inputs[test] @ theta)
            of_label = (predicted * targets[test]).sum(axis=1, keepdims=True)
            # The gradient of the test samples' L_rce / -A by theta, up to a factor that `scale` cancels below.
            outer = inputs[test].T @ (sample_weights[test, None] * of_label * (predicted - targets[test]))
            # d theta* / d w_i = -H^-1 grad_i, so the weight's gradient is -(H^-1 outer) . grad_i
            of_weights = (inner.errors(theta) * (inner.inputs @ inner.solve_hessian(outer, theta))).sum(axis=1)
            gradient[fit] -= sample_weights[fit] * of_weights
        scale = float(np.sqrt(np.mean(gradient**2)))
        if scale < 1e-12:
            break
        weights = np.clip(weights - rate * gradient / scale, 0.0, 1.0)
    return weights


class _InnerProblem:
    """The weighted mean of the samples' cross-entropy, plus decay / 2 times the squared norm of the parameters."""

    def __init__(self, inputs: Floats, targets: Floats, weights: Floats, decay: float) -> None:
        self.inputs, self.targets, self.decay = inputs, targets, decay
        self.share = (weights / max(weights.sum(), 1e-9))[:, None]

    def errors(self, theta: Floats) -> Floats:
        """(N, C): the gradient of each sample's own loss by its logits."""
        return _softmax(self.inputs @ theta) - self.targets

    def solve(self, theta: Floats) -> Floats:
        """The parameters (D, C), by Newton's method from `theta`."""
        for _ in range(NEWTON_STEPS):
            gradient = self.inputs.T @ (self.share * self.errors(theta)) + self.decay * theta
            theta = theta - self.solve_hessian(gradient, theta)
        return theta

    def solve_hessian(self, right: Floats, theta: Floats) -> Floats:
        """H^-1 `right`, for the Hessian H at `theta`. Only products with H are computed, never H itself."""
        predicted = _softmax(self.inputs @ theta)

        def hessian(direction: Floats) -> Floats:
            change = predicted * (self.inputs @ direction)
            change -= predicted * change.sum(axis=1, keepdims=True)
            return self.inputs.T @ (self.share * change) + self.decay * direction

        return _conjugate_gradients(hessian, right)


def _conjugate_gradients(product: Callable[[Floats], Floats], right: Floats) -> Floats:
    """The solution x of H x = `right`, to a relative squared residual of 1e-10 or SYSTEM_STEPS steps. `product` is x -> H x."""
    solution = np.zeros_like(right)
    residual = right.copy()
    direction = residual.copy()
    square = float((residual * residual).sum())
    tolerance = 1e-10 * square
    for _ in range(SYSTEM_STEPS):
        if square <= tolerance:
            break
        image = product(direction)
        step = square / float((direction * image).sum())
        solution += step * direction
        residual -= step * image
        before, square = square, float((residual * residual).sum())
        direction = residual + (square / before) * direction
    return solution


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _embeddings(model: Model, examples: Sequence[Any], max_length: int) -> Floats:
    """(N, D): sentence embeddings, centred, scaled to length 1."""
    texts = [example.text if isinstance(example, SequenceExample) else " ".join(example.words) for example in examples]
    embedded = embed_texts(model, texts, max_length).astype(np.float64)
    embedded -= embedded.mean(axis=0)  # encoders' embeddings share a large common part
    return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-9)
