"""Show: what a run's folder says of its rounds, as one table of plain values."""

from __future__ import annotations

from typing import Any

from evokd_data.errors import WorkspaceError
from evokd_data.workspace import RoundFolder, Workspace, read_json


def summary(workspace: Workspace) -> dict[str, Any]:
    """{"name", "rounds": [...]} with one entry a round begun; what is not there yet is null.

    `tokens` are prompt and completion tokens of all answers, `seconds` those of generating and training in the
    process that finished each. Raises WorkspaceError when the folder holds no run.
    """
    if not workspace.inputs.exists():
        raise WorkspaceError(
            f"{workspace.root}: no run; give a folder under runs/, or start one: evokd-data run RECIPE"
        )
    return {"name": workspace.root.name, "rounds": [_round(folder) for folder in workspace.rounds()]}


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
        "metrics": {"test": metrics["test"], "dev": metrics["dev"], "probe": metrics["probe"]} if metrics else None,
        "tokens": totals["prompt_tokens"] + totals["completion_tokens"] if totals else None,
        "seconds": round(seconds, 3) if totals else None,
        "digest": manifest["identity"]["content"] if manifest else None,
        "revision": revision and {key: revision[key] for key in ("repo", "tag", "commit")},
    }
