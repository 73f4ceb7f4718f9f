"""Training a student without a run, and what it left in its checkpoint."""

from __future__ import annotations

import numpy as np

from evokd_data.digest import file_digest
from evokd_data.students import TrainingData
from tests.support.student_data import CLASSES


def fit(student, folder, fresh, earlier=(), classes=CLASSES, seed=1, previous=None):
    folder.mkdir()
    return student.fit(TrainingData(fresh, earlier, classes, seed, previous), folder)


def right(student, folder, examples):
    """Share of the examples whose most probable class is the target."""
    rows = student.predict(examples, folder)
    return np.mean([row.argmax() == example.target for row, example in zip(rows, examples, strict=True)])


def digests(folder):
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


def weights_file(folder):
    """The file with what was trained: the head, where the checkpoint holds an untouched base model beside it."""
    paths = [path for path in folder.iterdir() if path.suffix in (".npz", ".safetensors")]
    (path,) = (
        [p for p in paths if p.name == "head.safetensors"]
        or [p for p in paths if p.name == "model.safetensors"]
        or paths
    )
    return path
