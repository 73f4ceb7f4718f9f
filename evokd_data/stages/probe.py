"""Probe: the last student predicts the fresh shards before it is trained on them. Writes probe.arrow.

These predictions are the correct and wrong samples that the next round's analysis reads, so no held-out data is
needed to find weaknesses (Liu et al. 2024, section 3.3).
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from evokd_data.recipe import Recipe
from evokd_data.records import Prediction
from evokd_data.shards import ShardedSamples, read_table, write_rows
from evokd_data.tasks import Task
from evokd_data.workspace import Workspace

SCHEMA = pa.schema(
    {"id": pa.string(), "expected": pa.string(), "predicted": pa.string(), "confidence": pa.float32()},
    metadata={"evokd.schema": "1"},
)


def probe(recipe: Recipe, workspace: Workspace, index: int) -> list[Prediction]:
    """Predictions of the student of round `index - 1` on the shards of round `index`, in index order."""
    folder = workspace.round(index)
    if not folder.probe.exists():
        task = recipe.task
        samples = ShardedSamples(task, folder.shard_files())
        examples = [task.supervise(sample) for sample in samples]
        probabilities = recipe.student.predict(examples, workspace.round(index - 1).student) if examples else []
        rows = []
        for sample, example, row in zip(samples, examples, probabilities, strict=True):
            predicted, confidence = task.decode(example, row)
            rows.append(
                {
                    "id": sample.id,
                    "expected": _target_text(task, sample.target),
                    "predicted": _target_text(task, predicted),
                    "confidence": confidence,
                }
            )
        write_rows(folder.probe, SCHEMA, rows)
    return read_probe(recipe.task, folder.probe)


def _target_text(task: Task, target: object) -> str:
    return json.dumps(task.to_row(target), ensure_ascii=False, sort_keys=True)  # type: ignore[arg-type]


def read_probe(task: Task, path: Path) -> list[Prediction]:
    """The predictions of a probe.arrow, in index order."""
    return [
        Prediction(
            row["id"],
            task.from_row(json.loads(row["expected"])),
            task.from_row(json.loads(row["predicted"])),
            row["confidence"],
        )
        for row in read_table(path).to_pylist()
    ]
