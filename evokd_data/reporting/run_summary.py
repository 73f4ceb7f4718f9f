"""Show: what a run's folder says of its rounds, as one table of plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.errors import WorkspaceError
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json


def summary(workspace: Workspace) -> dict[str, Any]:
    """{"name", "rounds": [...], "mastery"} with one entry a round begun; what is not there yet is null.

    `tokens` are prompt and completion tokens of all answers, `seconds` those of generating and training in the
    process that finished each. Raises WorkspaceError when the folder holds no run.
    """
    if not workspace.inputs.exists():
        raise WorkspaceError(
            f"{workspace.root}: no run; give a folder under runs/, or start one: evokd-data run RECIPE"
        )
    rounds = [_round(folder) for folder in workspace.rounds()]
    return {"name": workspace.root.name, "rounds": rounds, "mastery": mastery(rounds)}


SHOWN = ("test", "dev", "probe", "diversity", "detector")
RATE = 0.5  # what the newest round counts in an estimate


def mastery(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Per class, round by round: how many fresh samples of it the student of the round before met and got right, and an
    exponential moving estimate of that share. {class: [{"round", "n", "accuracy", "estimate"}]}

    Tracing what a learner has mastered, skill by skill (arXiv 2403.14661), with classes for skills. The samples are other
    ones each round, and their labels the teacher's: it says where the student stands, not how well it would do on a test.
    """
    traced: dict[str, list[dict[str, Any]]] = {}
    for entry in rounds:
        probe = (entry["metrics"] or {}).get("probe") or {}
        for name, met in probe.get("per_class", {}).items():
            line = traced.setdefault(name, [])
            accuracy = met["right"] / met["n"] if met["n"] else None
            before = line[-1]["estimate"] if line else None
            estimate = before if accuracy is None else accuracy
            if accuracy is not None and before is not None:
                estimate = before + RATE * (accuracy - before)
            line.append(
                {
                    "round": entry["round"],
                    "n": met["n"],
                    "accuracy": None if accuracy is None else round(accuracy, 4),
                    "estimate": None if estimate is None else round(estimate, 4),
                }
            )
    return traced


def _round(folder: RoundFolder) -> dict[str, Any]:
    totals = read_json(folder.generated) if folder.generated.exists() else {}
    metrics = read_json(folder.metrics) if folder.metrics.exists() else {}
    manifest = read_json(folder.manifest) if folder.manifest.exists() else {}
    revision = read_json(folder.revision) if folder.revision.exists() else None
    seconds = totals.get("seconds", 0.0) + metrics.get("seconds", 0.0)
    return {
        "round": folder.index,
        "asked": totals.get("asked"),
        "kept": totals.get("kept"),
        "rejected": totals.get("rejected"),
        "metrics": {name: metrics.get(name) for name in SHOWN} if metrics else None,
        "tokens": totals["prompt_tokens"] + totals["completion_tokens"] if totals else None,
        "seconds": round(seconds, 3) if totals else None,
        "digest": manifest["identity"]["content"] if manifest else None,
        "revision": revision and {key: revision[key] for key in ("repo", "tag", "commit")},
    }
