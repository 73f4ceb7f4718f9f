"""Neighbours: which classes are most like each class, by the user's seeds. Pure but for the student's encoder, which is only read.

A text that is written with the nearest classes in sight says more about where the border runs than one written beside any other class
(IDGF, "Clear Up Confusion", Zhang et al.: the two classes with the nearest seed centroids and three more as contrast).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from evokd_data.recipe import Recipe
from evokd_data.records import Sample
from evokd_data.strategies.labelling import can_be_scored
from evokd_data.students.hashing import hashed_matrix

NEAREST = 5
SEEDS_OF_A_CLASS = 50
"""Seeds that a centroid is made from: the first ones."""
DECIMALS = 4
"""Of a similarity: the last bits are the machine's, and the order must not depend on them."""


def neighbours(recipe: Recipe, seeds: Mapping[str, Sequence[Sample]]) -> dict[str, list[str]]:
    """Class -> at most NEAREST other classes, the most similar first, ties in the task's order. Empty for spans: a text holds several
    types.

    The similarity of two classes is the cosine of their centroids: the means of `Student.features` of their seeds, scaled to length 1;
    of hashed words and runs of characters where the student has no encoder.
    """
    labels = recipe.task.labels
    if not can_be_scored(recipe.task):
        return {}
    if len(labels) <= 2:
        return {label: [other for other in labels if other != label] for label in labels}
    rows = [[sample.text for sample in islice(seeds[label], SEEDS_OF_A_CLASS)] for label in labels]
    texts = [text for texts_of_class in rows for text in texts_of_class]
    features = recipe.student.quick().features(texts)
    features = np.asarray(hashed_matrix(texts) if features is None else features, dtype=np.float64)
    ends = np.cumsum([len(texts_of_class) for texts_of_class in rows])
    centroids = np.stack([_unit(_unit(part).mean(axis=0)) for part in np.split(features, ends[:-1])])
    similarities = np.round(centroids @ centroids.T, DECIMALS)
    nearest = {}
    for index, label in enumerate(labels):
        order = sorted((other for other in range(len(labels)) if other != index), key=lambda i: -similarities[index, i])
        nearest[label] = [labels[other] for other in order[:NEAREST]]
    return nearest


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors along the last axis, scaled to length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
