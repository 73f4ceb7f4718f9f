"""SunGen's sample weights: how far each synthetic label is believed, learned from the synthetic samples themselves.

Gao et al., "Self-Guided Noise-Free Data Generation for Efficient Zero-Shot Learning", ICLR 2023 (arXiv 2205.12679),
section 3. Two problems, one in the other: the inner one fits a model to the samples by weighted cross-entropy, the outer
one moves the weights w down the gradient of a loss that wrong labels cannot mislead, the reverse cross-entropy of Wang
et al. 2019 (arXiv 1908.06112), taken of the model fitted with w:

    min over w of  L_rce(theta*(w)),   theta*(w) = argmin over theta of  sum_i w_i L_ce(x_i, y_i; theta)
    L_rce(x, y) = -sum_k p_k(x) log q_k = -A (1 - p_y(x)),  q the one-hot label and log 0 := A = -4

Where we differ from the paper:
- The inner model is a softmax over frozen features, not the small model itself. Its loss is convex, so that the
  gradient of theta*(w) is exact (implicit differentiation, one linear system) where the paper truncates a long
  back-propagation; and it costs seconds.
- The outer loss is taken of samples the inner model was not fitted to, fold by fold. A model with more features than
  samples fits wrong labels too, and the loss of what it has fitted says nothing.
- The student is then trained on all samples with their weights; the paper draws a subset by them.
- The user's seeds of round 0 are believed as they are; in later rounds they are weighted among the rest.

Weights are learned for texts with one label. Words' tags are learned with the weights the samples come with.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evokd_data.records import SequenceExample
from evokd_data.students import Examples, TrainingData
from evokd_data.students.batches import Example, in_windows
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import ExampleEncoder, position_limit
from evokd_data.students.hashing import rows_of
from evokd_data.students.linear import Linear
from evokd_data.students.transformer import Transformer

log = logging.getLogger(__name__)

SAMPLE_WEIGHTS = "sample_weights.npz"
FOLDS = 3
BLOCK = 4096  # samples weighted together: a memory bound, and more would not change what a weight is
NEWTON_STEPS = 3  # of the inner problem between two steps of the weights: it starts where it was
SYSTEM_STEPS = 20  # of conjugate gradients
HASHED = 1024  # features of a text, for a student without an encoder

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Reweighting(ABC):
    """Before a student's own `fit`: learn the weights, keep them beside its checkpoint, hand them on.

    `weight_steps` steps of the weights, each of `weight_rate` in root mean square, from 0.5 within [0, 1];
    `inner_decay` pulls the inner model's parameters to 0.
    """

    weight_steps: Annotated[int, Field(ge=1)] = 20
    weight_rate: Annotated[float, Field(gt=0)] = 0.1
    inner_decay: Annotated[float, Field(gt=0)] = 3e-3

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """The student's own figures, and how many weights were learned and how they came out."""
        if data.previous is None or not isinstance((data.fresh or data.earlier)[0], SequenceExample):
            return {**super().fit(data, into), "reweighted": 0}  # type: ignore[misc]
        weights = self._weights(data)
        earlier, fresh = np.split(weights, [len(data.earlier)])
        np.savez(into / SAMPLE_WEIGHTS, earlier=earlier, fresh=fresh)
        reweighted = replace(
            data, earlier=_Weighted(data.earlier, earlier), fresh=_Weighted(data.fresh, fresh), segments=()
        )
        figures = super().fit(reweighted, into)  # type: ignore[misc]
        tenths = [round(float(weight), 6) for weight in np.quantile(weights, np.linspace(0, 1, 11))]
        return {**figures, "reweighted": len(weights), "weight_tenths": tenths}

    def _weights(self, data: TrainingData) -> NDArray[np.float32]:
        """(earlier + fresh,): mean 1, in blocks drawn at random."""
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
        """(examples, features): what the weights are learned over."""


@dataclass(frozen=True)
class ReweightedTransformer(_Reweighting, Transformer):
    """A `transformer` whose samples are weighted by a softmax over the base model's mean-pooled last layer.

    Its settings are the transformer's, and `weight_steps`, `weight_rate`, `inner_decay`.
    """

    name: ClassVar[str] = "reweighted"

    def _features(self, examples: Sequence[Any], data: TrainingData) -> Floats:
        with deterministic(data.seed):
            return _embeddings(self._base().folder, examples, self.max_length)


@dataclass(frozen=True)
class ReweightedLinear(_Reweighting, Linear):
    """The `linear` student, its samples weighted by a softmax over its own kind of features, hashed into fewer buckets.

    Its settings are the linear student's, and `weight_steps`, `weight_rate`, `inner_decay`.
    """

    name: ClassVar[str] = "reweighted-linear"

    inner_decay: Annotated[float, Field(gt=0)] = 3e-4

    def _features(self, examples: Sequence[Any], data: TrainingData) -> Floats:
        dense = np.zeros((len(examples), HASHED))
        for row, example in zip(dense, examples, strict=True):
            for buckets, values in rows_of(example, HASHED, self.characters):
                row[buckets] = values
        return dense


class _Weighted(Sequence[Any]):
    """Examples with weights of their own, read as lazily as they were."""

    def __init__(self, examples: Examples, weights: NDArray[np.float32]) -> None:
        self._examples, self._weights = examples, weights

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        example = self._examples[index]
        return replace(example, weight=example.weight * float(self._weights[index]))


def _label(example: Example) -> int:
    """The class a sample is said to be of: its label, or the likeliest one of the teacher's distribution."""
    assert isinstance(example, SequenceExample)
    if example.target is not None:
        return example.target
    return int(np.argmax(example.soft or (1.0,)))


def learn_weights(
    features: Floats,
    labels: NDArray[np.int64],
    own: Floats,
    classes: int,
    *,
    seed: int,
    steps: int,
    rate: float,
    decay: float,
) -> Floats:
    """A weight in [0, 1] for each row of `features` (N, D), by how far its label agrees with what others teach.

    `own` are the weights the samples come with: a sample of none says nothing of the others.

    Rows that are wrong more often than they are right cannot be told from the rest: the outer loss tolerates label noise
    of the kind and share that Ghosh et al. 2017 (arXiv 1712.09482) give, below one half for two classes.
    """
    count = len(features)
    weights = np.full(count, 0.5)
    if count < 2 * FOLDS:
        return weights
    inputs = np.hstack([features, np.ones((count, 1))])
    wanted = np.eye(classes)[labels]
    fold = np.random.default_rng(seed).permutation(count) % FOLDS
    parameters = [np.zeros((inputs.shape[1], classes)) for _ in range(FOLDS)]
    for _ in range(steps):
        gradient = np.zeros(count)
        for number in range(FOLDS):
            fitted, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            inner = _Inner(inputs[fitted], wanted[fitted], own[fitted] * weights[fitted], decay)
            theta = parameters[number] = inner.solve(parameters[number])
            expected = _softmax(inputs[held] @ theta)
            believed = (expected * wanted[held]).sum(axis=1, keepdims=True)
            # The gradient of the held samples' L_rce / -A by theta; what it is divided by drops out below.
            outer = inputs[held].T @ (own[held, None] * believed * (expected - wanted[held]))
            # d theta* / d w_i = -H^-1 grad_i, so the weight's gradient is -(H^-1 outer) . grad_i
            gradient[fitted] -= own[fitted] * (inner.errors(theta) * (inner.inputs @ inner.divide(outer, theta))).sum(
                axis=1
            )
        scale = float(np.sqrt(np.mean(gradient**2)))
        if scale < 1e-12:
            break
        weights = np.clip(weights - rate * gradient / scale, 0.0, 1.0)
    return weights


class _Inner:
    """The inner problem: mean of w_i times cross-entropy, plus decay / 2 times the parameters' square."""

    def __init__(self, inputs: Floats, wanted: Floats, weights: Floats, decay: float) -> None:
        self.inputs, self.wanted, self.decay = inputs, wanted, decay
        self.share = (weights / max(weights.sum(), 1e-9))[:, None]

    def errors(self, theta: Floats) -> Floats:
        """(N, C): the gradient of each sample's own loss by its logits."""
        return _softmax(self.inputs @ theta) - self.wanted

    def solve(self, theta: Floats) -> Floats:
        """The parameters (D, C), by Newton's method from `theta`."""
        for _ in range(NEWTON_STEPS):
            gradient = self.inputs.T @ (self.share * self.errors(theta)) + self.decay * theta
            theta = theta - self.divide(gradient, theta)
        return theta

    def divide(self, right: Floats, theta: Floats) -> Floats:
        """H^-1 right, H the Hessian at `theta`, which is never written out."""
        expected = _softmax(self.inputs @ theta)

        def hessian(direction: Floats) -> Floats:
            change = expected * (self.inputs @ direction)
            change -= expected * change.sum(axis=1, keepdims=True)
            return self.inputs.T @ (self.share * change) + self.decay * direction

        return _conjugate_gradients(hessian, right)


def _conjugate_gradients(product: Callable[[Floats], Floats], right: Floats) -> Floats:
    solution = np.zeros_like(right)
    left = right.copy()
    direction = left.copy()
    size = float((left * left).sum())
    enough = 1e-10 * size
    for _ in range(SYSTEM_STEPS):
        if size <= enough:
            break
        moved = product(direction)
        step = size / float((direction * moved).sum())
        solution += step * direction
        left -= step * moved
        before, size = size, float((left * left).sum())
        direction = left + (size / before) * direction
    return solution


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _embeddings(folder: Path, examples: Sequence[Any], max_length: int) -> Floats:
    """(N, D): the last layer of the encoder in `folder`, mean over each text's tokens, scaled to length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()
    encoder = ExampleEncoder(tokenizer, model, position_limit(model, tokenizer, max_length))
    rows: list[Any] = [None] * len(examples)
    for indices, batch in in_windows(examples, 64):
        inputs, _ = encoder.encode(batch)
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1)
            pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1)
        for index, row in zip(indices, pooled.cpu().numpy(), strict=True):
            rows[index] = row
    embedded = np.stack(rows).astype(np.float64)
    embedded -= embedded.mean(axis=0)  # encoders' embeddings share a large common part
    return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-9)
