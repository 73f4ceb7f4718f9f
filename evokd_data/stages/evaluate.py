"""Evaluate a round: scores of its student on test and dev, its probe, and metrics of its texts. Writes metrics.json.

The test set is scored here, and by the teacher after the loop; filters and the choice from the pool keep its texts out of the rounds. No decision of the loop depends on its scores: whether the round's
student is adopted follows from dev or seeds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evokd_data.digest import derive_seed
from evokd_data.generation.diversity import detector, diversity
from evokd_data.generation.seed_student import baseline_student, train_seed_student
from evokd_data.recipe import Recipe
from evokd_data.records import Outcome, Sample
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.reporting.significance import ROUND_0, paired_test
from evokd_data.seeds import Splits
from evokd_data.stages.adopt import adopt
from evokd_data.stages.probe import probe
from evokd_data.stages.train import TRAINING
from evokd_data.storage.corrected_rounds import corrections_of
from evokd_data.storage.outcome_files import SEEDS_ONLY, STUDENT, read_outcomes, write_outcomes
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json, write_checked_json
from evokd_data.strategies import POOL
from evokd_data.students import Student
from evokd_data.tasks import Task


def evaluate(recipe: Recipe, workspace: Workspace, index: int, splits: Splits, started: float) -> dict[str, Any]:
    """The metrics of round `index`, whose student is trained.

    `started` is the `time.monotonic()` at which the probe began: `seconds` covers probe, training and evaluation.
    """
    folder = workspace.round(index)
    test, outcomes = _scored(recipe.task, recipe.student, folder.student, splits.test, recipe.seed)
    seeds_only, seeds_only_outcomes = _seeds_only(recipe, workspace, splits) if index == 0 else (None, None)
    write_outcomes(folder.test_outcomes, recipe.task.labels, outcomes, seeds_only_outcomes)
    metrics = {
        "schema": "2",
        "round": index,
        "test": test,
        "dev": score(recipe.task, recipe.student, folder.student, splits.dev, recipe.seed) if splits.dev else None,
        "seeds_only": seeds_only,
        "paired": _paired(recipe, workspace, index, primary_metric(test).key, outcomes) if index else None,
        "adoption": adopt(recipe, workspace, index, splits),
        "probe": _probe_metrics(recipe, workspace, index),
        "training": read_json(folder.student / TRAINING),
        **_text_metrics(recipe, folder, splits),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_checked_json(folder.metrics, metrics)
    return metrics


def score(task: Task, student: Student, checkpoint: Path, samples: Sequence[Sample], seed: int) -> dict[str, Any]:
    """The metrics of a student on labelled samples, with the number of texts that it reads the beginning of, if any.

    `seed` is the recipe's: the same samples give the same intervals.
    """
    return _scored(task, student, checkpoint, samples, seed)[0]


def _scored(
    task: Task, student: Student, checkpoint: Path, samples: Sequence[Sample], seed: int
) -> tuple[dict[str, Any], list[Outcome]]:
    """The metrics of `score`, and what they count, sample by sample."""
    examples = [task.supervise(sample) for sample in samples]
    probabilities = student.predict(examples, checkpoint)
    metrics = task.score(samples, probabilities, derive_seed(seed, "bootstrap"))
    if truncated := student.truncated(examples, checkpoint):
        metrics["truncated"] = truncated
    return metrics, task.outcomes(samples, probabilities)


def _paired(recipe: Recipe, workspace: Workspace, index: int, key: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The round's student compared, text by text, with the two that know the seeds alone: {"round 0", "seeds_only"}, each a
    `significance.PairedTest`; without those whose outcomes are not here, as in a run that goes on from a published round."""
    first, seed = workspace.round(0).test_outcomes, derive_seed(recipe.seed, "paired")
    tests = {}
    for name, student in ((ROUND_0, STUDENT), (SEEDS_ONLY, SEEDS_ONLY)):
        others = read_outcomes(first, student)
        if others and (paired := paired_test(key, outcomes, others, len(recipe.task.labels), seed)):
            tests[name] = asdict(paired)
    return tests


def remarks(metrics: Mapping[str, Any]) -> list[str]:
    """What the user should know of a round's scores, one line each: what the student cannot read of the texts."""
    from evokd_data.students import pretrained

    lines = pretrained.remarks(metrics["training"])
    for split in ("test", "dev"):
        if truncated := (metrics[split] or {}).get("truncated"):
            lines.append(
                f"{split}: {truncated} of {metrics[split]['n']} texts are longer than the student reads; it is scored on their "
                "beginnings; raise student.max_length where its model can read more"
            )
    return lines


def _seeds_only(recipe: Recipe, workspace: Workspace, splits: Splits) -> tuple[dict[str, Any], list[Outcome]]:
    """The test score and outcomes of the best simple student on the seeds alone: what a loop has to beat (see generation/seed_student.py)."""
    train_seed_student(recipe, splits.seeds, workspace.seed_student)
    student = baseline_student(recipe)
    metrics, outcomes = _scored(recipe.task, student, workspace.seed_student, splits.test, recipe.seed)
    return {"kind": student.name, **metrics}, outcomes


def _probe_metrics(recipe: Recipe, workspace: Workspace, index: int) -> dict[str, Any] | None:
    """How the last student did on samples it had not seen. This is not a test score: the labels are the teacher's."""
    if index == 0:
        return None
    task, predictions = recipe.task, probe(recipe, workspace, index)
    wrong = [prediction.id for prediction in predictions if task.mistakes(prediction)]
    right = len(predictions) - len(wrong)
    per_class = {label: {"n": 0, "right": 0} for label in task.labels}
    for prediction in predictions:
        missed = {mistake.expected for mistake in task.mistakes(prediction)}
        for label in (label for label in task.labels if task.carries(prediction.expected, label)):
            per_class[label]["n"] += 1
            per_class[label]["right"] += label not in missed
    return {
        "n": len(predictions),
        "right": right,
        "accuracy": right / len(predictions) if predictions else None,
        "per_class": per_class,
        **({"wrong": wrong} if recipe.training.boost > 1 else {}),
    }


def _text_metrics(recipe: Recipe, folder: RoundFolder, splits: Splits) -> dict[str, Any]:
    """How varied the round's new texts are, and how easily a classifier tells them from real texts.

    The real texts are those of seeds, pool and dev, never of test.
    """
    if corrections_of(folder) is not None:  # it has no new texts
        return {"diversity": None, "detector": None}
    seed = derive_seed(recipe.seed, folder.index, "texture")
    texts = [
        sample.text for sample in ShardedSamples(recipe.task, folder.shard_files()) if sample.origin.strategy != POOL
    ]
    real_texts = [*(sample.text for sample in (*splits.seeds, *splits.dev)), *splits.pool]
    return {
        "diversity": diversity(texts, seed),
        "detector": detector(texts, list(dict.fromkeys(real_texts)), seed) if folder.index else None,
    }
