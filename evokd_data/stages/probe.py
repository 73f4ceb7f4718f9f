"""Probe: the last student predicts the fresh shards before it is trained on them. Writes probe.arrow.

The next round's analysis reads the right and wrong predictions, so no held-out data is needed to find weaknesses (Liu et
al. 2024, section 3.3).
"""

from __future__ import annotations

from evokd_data.recipe import Recipe
from evokd_data.records import Prediction
from evokd_data.storage.shards import ShardedSamples, probe_schema, read_probe, target_text, write_rows
from evokd_data.storage.workspace import Workspace

DECIMALS = 6
"""Decimals of a confidence. The last bits of a float32 depend on the machine, and the order of confidences decides which
texts a plan contains. Equal confidences are ordered by index."""


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
                    "expected": target_text(task, sample.target),
                    "predicted": target_text(task, predicted),
                    "confidence": round(float(confidence), DECIMALS),
                }
            )
        write_rows(folder.probe, probe_schema(), rows)
    return read_probe(recipe.task, folder.probe)
