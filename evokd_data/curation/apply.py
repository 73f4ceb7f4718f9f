"""Apply corrections: they become the next round of the run, on which the student is trained and scored, and which is published.

The plan of that round is the one thing that is decided here; it is written whole. Killed before, nothing has happened; killed
afterwards, the same command, or any other that goes on with the run, makes what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.deployment.opening import recipe_of
from evokd_data.errors import WorkspaceError
from evokd_data.loop.rounds import LockedRun, complete_round, open_run, publish_rounds, teacher_of
from evokd_data.progress import Progress
from evokd_data.records import Revision
from evokd_data.reporting.html_report import renew
from evokd_data.reporting.tracking import track
from evokd_data.runner import Runner
from evokd_data.stages.correct import begin_corrected_round
from evokd_data.stages.generate import generate
from evokd_data.storage.corrected_rounds import ACCEPT, corrections_of, counts
from evokd_data.storage.corrections import CorrectionLog
from evokd_data.storage.workspace import Workspace


@dataclass(frozen=True)
class Applied:
    """A corrected round: how many rows were confirmed, relabelled and rejected, its metrics, its revision where it was published."""

    round: int
    counts: dict[str, int]
    metrics: dict[str, Any]
    revision: Revision | None


def apply_corrections(workspace: Workspace, progress: Progress, mirror: str | None = None) -> Applied:
    """Make a corrected round of the corrections that no round has taken up yet; train, score, and publish where the recipe says so.

    A corrected round that was begun and is not complete is completed instead. No teacher is opened. Raises WorkspaceError when there
    is nothing to correct, or when the round after the last complete one is begun already; and as `open_run`, `publish_rounds`. The
    report in the run's folder is written anew, where there is one.
    """
    recipe = recipe_of(workspace)
    with open_run(recipe, workspace.root.parent, progress=progress, mirror=mirror) as run:
        index = _unfinished(run) or _begin(run, progress)
        corrections = corrections_of(run.workspace.round(index)) or []
        with Runner() as loop:
            teacher = teacher_of(run, progress)  # never opened
            loop.run(generate(recipe, run.workspace, index, run.splits, teacher, progress))
        metrics = complete_round(run, index, progress)
        revision = publish_rounds(run, progress)[-1] if recipe.publish else None
        track(recipe, run.workspace, progress)
        if line := renew(run.workspace):
            progress.note(line)
        return Applied(index, counts(corrections), metrics, revision)


def _unfinished(run: LockedRun) -> int | None:
    """The corrected round that is begun and not complete or, without new corrections, complete and not published."""
    folders = run.workspace.rounds()
    if not folders or corrections_of(folders[-1]) is None:
        return None
    last = folders[-1]
    is_done = last.manifest.exists() and (last.revision.exists() or run.recipe.publish is None)
    return None if is_done else last.index


def _begin(run: LockedRun, progress: Progress) -> int:
    """Write the plan of a new round. Returns its number."""
    workspace = run.workspace
    review = ReviewedRun(workspace, CorrectionLog(workspace.root))
    corrections = review.corrections()
    if lost := review.lost():
        progress.note(f"{lost} corrections are left out: their rows were withdrawn since")
    if all(correction.decision.action == ACCEPT for correction in corrections):
        confirmed = f"{len(corrections)} rows are confirmed, and none is" if corrections else "no row is"
        raise WorkspaceError(
            f"{review.log.path}: there is nothing to apply: {confirmed} relabelled or rejected; look at them: evokd-data review "
            f"{workspace.root}"
        )
    index = review.folders[-1].index + 1
    folder = workspace.round(index)
    if folder.plan.exists():
        raise WorkspaceError(
            f"{folder.root}: this round is begun and not complete; finish it first, with the command that began it, then apply the "
            "corrections"
        )
    entries = [correction.as_json(review.task) for correction in corrections]
    begin_corrected_round(workspace, index, entries, review.log.records[-1]["n"])
    return index
