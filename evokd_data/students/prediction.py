"""Predicting with a network: examples in batches of similar length, one distribution for each text or word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evokd_data.students import Examples, Network, Predict
from evokd_data.students.batches import prediction_batches
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import ExampleEncoder, inherit

BATCH = 64


def network_predictor(network: Network, batch_size: int = BATCH) -> Predict:
    """See `Student.predictor`. The network computes on the accelerator when there is one, in float32."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = network.module.to(device)
    encoder = ExampleEncoder(network.tokenizer, module, network.max_length)

    def logits(inputs: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return module(**{name: tensor.to(device) for name, tensor in inputs.items()})

    def predict(examples: Examples) -> Sequence[Any]:
        with deterministic(0):
            return predict_in_batches(examples, batch_size, encoder, logits, network.classes, network.words)

    return predict


def predict_in_batches(
    examples: Examples,
    batch_size: int,
    encoder: ExampleEncoder,
    logits: Callable[[dict[str, Any]], Any],
    classes: Sequence[str],
    words: bool,
) -> Sequence[Any]:
    """Class probabilities as `Student.predict` gives them. `logits` maps a padded batch to a tensor, (N, C) or with `words` (N, T, C).

    A word beyond the last token that the model reads is "O" with probability 1; one without a token see `inherit`.
    """
    result: Any = [None] * len(examples) if words else np.empty((len(examples), len(classes)), dtype=np.float32)
    for indices, batch in prediction_batches(examples, batch_size):
        inputs, outputs = encoder.encode_batch(batch)
        probabilities = outputs.select(logits(inputs)).float().softmax(-1).cpu().numpy()
        if not words:
            result[indices] = probabilities
            continue
        ends = np.cumsum([len(example.words) for example in batch])
        rows = np.zeros((int(ends[-1]), len(classes)), dtype=np.float32)
        rows[outputs.rows] = probabilities
        has_output = np.zeros(len(rows), dtype=bool)
        has_output[outputs.rows] = True
        for index, part, read in zip(indices, np.split(rows, ends[:-1]), np.split(has_output, ends[:-1]), strict=True):
            result[index] = inherit(part, read, classes)
    return result
