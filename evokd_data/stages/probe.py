"""Probe: the last student predicts the fresh shards before it is trained on them. Writes probe.arrow.

These predictions are the correct and wrong samples that the next round's analysis reads, so no held-out data is
needed to find weaknesses (Liu et al. 2024, section 3.3).
"""

from __future__ import annotations

from evokd_data.recipe import Recipe
from evokd_data.records import Prediction
from evokd_data.storage.shards import ShardedSamples, probe_schema, read_probe, target_text, write_rows
from evokd_data.storage.workspace import Workspace

DECIMALS = 6
"""Of a confidence, as of every probability that is compared: the last bits of a float32 are the machine's, and which
texts a plan shows goes by the order of these. What is equal then goes by index."""


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
