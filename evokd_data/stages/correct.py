"""Correct: a person's corrections become a round of their own. No teacher is asked.

`plan.json` is written first and says everything (see `storage.corrected_rounds`): from then on the round is begun, and whatever
command comes next makes its shards from the plan and the earlier rows, as a replay does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evokd_data.errors import WorkspaceError
from evokd_data.recipe import Recipe
from evokd_data.records import Origin, Sample
from evokd_data.storage.corrected_rounds import RELABEL, REVIEW, corrections_of, counts
from evokd_data.storage.shards import ShardedSamples, shard_name, write_rejections, write_shard
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.tasks import Task, sample_id


def plan_of_corrections(index: int, corrections: Sequence[Mapping[str, Any]], through: int) -> dict[str, Any]:
    """The content of plan.json of a corrected round. Its other keys are those of round 0: nothing is asked for."""
    nothing: dict[str, Any] = {"round": index, "budget": 0, "exam": None, "weaknesses": [], "cells": [], "refills": []}
    return {**nothing, "corrections": list(corrections), "through": through}


def begin_corrected_round(
    workspace: Workspace, index: int, corrections: Sequence[Mapping[str, Any]], through: int
) -> None:
    """Write the plan of a corrected round: what makes the corrections a round."""
    folder = workspace.round(index)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_checked_json(folder.plan, plan_of_corrections(index, corrections, through))


def write_corrected_round(recipe: Recipe, workspace: Workspace, index: int) -> dict[str, Any]:
    """Write the shards of a corrected round, from its plan and the earlier rows. Returns its totals.

    Raises WorkspaceError when the plan names a row that is in no earlier round.
    """
    folder, task = workspace.round(index), recipe.task
    corrections = corrections_of(folder) or []
    earlier = ShardedSamples(task, workspace.earlier_shards(index))
    try:
        samples = corrected_samples(task, index, corrections, earlier)
    except ValueError as error:
        raise WorkspaceError(f"{folder.plan}: {error}; remove {folder.root} and apply the corrections again") from None
    size = recipe.rounds.shard_size
    starts = range(0, max(1, len(samples)), size)
    for stale in (*folder.shard_files()[len(starts) :], *folder.rejection_files()[len(starts) :]):
        stale.unlink()  # an earlier process was killed here, and the shards were smaller then
    for number, start in enumerate(starts):
        part = samples[start : start + size]
        write_rejections(folder.rejections / shard_name(number), [])
        write_shard(folder.shards / shard_name(number), task, part, start, start + len(part))
    totals: dict[str, Any] = {"asked": 0, "kept": len(samples), "rejected": {}}
    totals |= {"prompt_tokens": 0, "completion_tokens": 0, "requests": len(samples)}
    return {**totals, "corrections": counts(corrections)}


def corrected_samples(
    task: Task, index: int, corrections: Sequence[Mapping[str, Any]], earlier: Iterable[Sample]
) -> list[Sample]:
    """The samples of corrected round `index`, one for each row that was relabelled, in the order of the corrections.

    A new label is certain, so the sample has no soft label. `earlier` holds at least the rows that are corrected. Raises ValueError for a
    correction whose row is not there, or whose target cannot be right.
    """
    relabelled = [entry for entry in corrections if entry["action"] == RELABEL]
    keys = {(entry["round"], entry["id"]) for entry in relabelled}
    originals = {(s.origin.round, s.id): s for s in earlier if (s.origin.round, s.id) in keys}
    samples = []
    for request, entry in enumerate(relabelled):
        original = originals.get((entry["round"], entry["id"]))
        if original is None:
            raise ValueError(f"corrects {entry['id']} of round {entry['round']}, which is not there")
        target = task.from_row(entry["to"])
        if problem := task.check(original.text, target):
            raise ValueError(f"gives {entry['id']} of round {entry['round']} a target that cannot be right: {problem}")
        source = original.origin
        origin = Origin(index, request, 0, REVIEW, source.difficulty, source.weakness, source.intended)
        name = sample_id(task, original.text, target)
        samples.append(Sample(name, original.text, target, origin, weight=original.weight))
    return samples


def last_record_taken(workspace: Workspace) -> int:
    """The number of the last record of corrections.jsonl that a round of this run has taken up; 0 for none."""
    plans = [read_json(folder.plan) for folder in workspace.rounds() if folder.plan.exists()]
    return max((plan.get("through", 0) for plan in plans), default=0)
