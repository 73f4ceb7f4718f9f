"""The summary of a run: its rounds as one table of plain values, read from the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.errors import WorkspaceError
from evokd_data.reporting.primary_metric import PrimaryMetric, primary_metric
from evokd_data.reporting.stopped_run import stopped_by_exam
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json


def summary(workspace: Workspace) -> dict[str, Any]:
    """{"name", "rounds": [...], "mastery", "teacher", "stopped"} with one entry for each round that was begun. A value that is missing yet is None.

    `asked` counts texts that the teacher was asked for: 0 in a corrected round, which `corrected` tells apart. `teacher` holds the teacher's own scores on the test set (see stages/teacher_test.py).
    `stopped` is that of `stopped_run.stopped_by_exam`.

    `tokens` are prompt and completion tokens of all answers. `seconds` are those of generating and training, each in the
    process that finished it. Raises WorkspaceError when the folder holds no run.
    """
    if not workspace.inputs.exists():
        raise WorkspaceError(
            f"{workspace.root}: no run; give a folder under runs/, or start one: evokd-data run RECIPE"
        )
    rounds = [_round(folder) for folder in workspace.rounds()]
    teacher = read_json(workspace.teacher_test) if workspace.teacher_test.exists() else None
    return {
        "name": workspace.root.name,
        "rounds": rounds,
        "mastery": mastery(rounds),
        "teacher": teacher,
        "stopped": stopped_by_exam(workspace),
    }


def bars(run: Mapping[str, Any]) -> list[tuple[str, PrimaryMetric]]:
    """(name, score) of what a run's students are compared with, as far as it is measured: the simplest student on the seeds alone,
    and the teacher itself. `run` is a summary."""
    first = run["rounds"][0]["metrics"] if run["rounds"] else None
    scores = []
    if first and first["seeds_only"]:
        scores.append((f"seeds only, {first['seeds_only']['kind']}", primary_metric(first["seeds_only"])))
    if teacher := run["teacher"]:
        tested = first["test"]["n"] if first and first["test"] else teacher["n"]
        part = f", {teacher['n']} texts" if teacher["n"] != tested else ""
        scores.append((f"teacher, no examples{part}", primary_metric(teacher["zero_shots"])))
        scores.append((f"teacher, seeds shown{part}", primary_metric(teacher["with_seeds"])))
    return scores


def flat_rounds(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rounds of a summary, each with the cells of the table of rounds: `metric` (the primary one), `score`, `interval` (95 %, low
    and high), `adopted`. Each is None where it is missing yet."""
    rows = []
    for entry in run["rounds"]:
        metrics = entry["metrics"] or {}
        score = primary_metric(metrics["test"]) if metrics else None
        cells = {
            "metric": score and score.key,
            "score": score and score.value,
            "interval": score and score.interval,
            "adopted": (metrics.get("adoption") or {}).get("adopted"),
        }
        rows.append({**entry, **cells})
    return rows


SUMMARISED = ("test", "dev", "seeds_only", "paired", "adoption", "probe", "diversity", "detector")
RATE = 0.5  # the weight of the newest round in an estimate


def mastery(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """{class: [{"round", "n", "accuracy", "estimate"}]}: for each class and round, the number `n` of fresh samples, the share
    of them that the student of the round before predicted right, and an exponential moving average of this share.

    This is knowledge tracing (arXiv 2403.14661) with classes for skills. Each round has other samples, and their labels are
    the teacher's: the estimate says where the student stands, not how well it would do on a test. A corrected round has no fresh
    samples and is left out: a person looks at what the student is likely to get wrong.
    """
    histories: dict[str, list[dict[str, Any]]] = {}
    for entry in rounds:
        if entry["corrected"]:
            continue
        probe = (entry["metrics"] or {}).get("probe") or {}
        for name, counts in probe.get("per_class", {}).items():
            history = histories.setdefault(name, [])
            accuracy = counts["right"] / counts["n"] if counts["n"] else None
            before = history[-1]["estimate"] if history else None
            estimate = before if accuracy is None else accuracy
            if accuracy is not None and before is not None:
                estimate = before + RATE * (accuracy - before)
            history.append(
                {
                    "round": entry["round"],
                    "n": counts["n"],
                    "accuracy": None if accuracy is None else round(accuracy, 4),
                    "estimate": None if estimate is None else round(estimate, 4),
                }
            )
    return histories


def _round(folder: RoundFolder) -> dict[str, Any]:
    totals = read_json(folder.generated) if folder.generated.exists() else {}
    metrics = read_json(folder.metrics) if folder.metrics.exists() else {}
    manifest = read_json(folder.manifest) if folder.manifest.exists() else {}
    revision = read_json(folder.revision) if folder.revision.exists() else None
    seconds = totals.get("seconds", 0.0) + metrics.get("seconds", 0.0)
    return {
        "round": folder.index,
        "asked": totals.get("asked"),
        "corrected": "corrections" in totals,
        "kept": totals.get("kept"),
        "rejected": totals.get("rejected"),
        "metrics": {name: metrics.get(name) for name in SUMMARISED} if metrics else None,
        "tokens": totals["prompt_tokens"] + totals["completion_tokens"] if totals else None,
        "seconds": round(seconds, 3) if totals else None,
        "digest": manifest["identity"]["content"] if manifest else None,
        "revision": revision and {key: revision[key] for key in ("repo", "tag", "commit")},
    }
