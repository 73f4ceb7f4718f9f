"""Whether a run stopped because of its exam, and what a person should know then: for the report and `evokd-data show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evokd_data.reporting.exam_words import REFUSED
from evokd_data.storage.workspace import Workspace, read_json

REMEDY = 'What to do, in this order: docs/teachers.md, "When the verdict is bad".'


def stopped_by_exam(workspace: Workspace) -> dict[str, Any] | None:
    """{"round", "verdict", "message"}: the round that the run did not begin because of the exam before it, and what exam.json says.
    None for a run that no exam stopped."""
    for folder in workspace.rounds():
        # A preview takes the exam, too, but has no complete round before it.
        is_next = folder.index > 0 and workspace.round(folder.index - 1).manifest.exists()
        if not (is_next and folder.exam.exists()) or folder.plan.exists():  # a forced run goes on to its plan
            continue
        exam = read_json(folder.exam)
        if exam["verdict"] in REFUSED:
            return {"round": folder.index, "verdict": exam["verdict"], "message": exam["message"]}
    return None


def stopped_in_words(stopped: Mapping[str, Any] | None) -> list[str]:
    """The stop, then its reasons and what to do, as two sentences; none for None. `stopped` is that of `stopped_by_exam`."""
    if stopped is None:
        return []
    message = stopped["message"].rstrip(".")
    return [
        f"The run stopped before round {stopped['round']}, because of the exam's verdict: {stopped['verdict']}.",
        f"The exam says: {message}. {REMEDY}",
    ]
