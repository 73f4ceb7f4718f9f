"""Plan a round: the probe of the round before -> weaknesses -> quotas. Writes plan.json."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from evokd_data.digest import derive_seed
from evokd_data.errors import WorkspaceError
from evokd_data.generation import weakness
from evokd_data.generation.neighbours import neighbours
from evokd_data.recipe import Recipe
from evokd_data.records import LabelForm, Labelling, Quota, Sample, Sampling, Weakness
from evokd_data.registry import nearest
from evokd_data.seeds import Splits
from evokd_data.settings import short
from evokd_data.stages.exam import labelling_of, summary, task_in_form
from evokd_data.stages.pool import choose
from evokd_data.storage.corrected_rounds import live_samples
from evokd_data.storage.shards import SelectedSamples, ShardedSamples, read_probe
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json, write_checked_json
from evokd_data.strategies import Brief
from evokd_data.strategies.demonstrations import seeds_of
from evokd_data.strategies.labelling import can_be_scored


def plan(recipe: Recipe, workspace: Workspace, index: int, splits: Splits) -> tuple[Brief, list[list[Quota]]]:
    """The brief of round `index`, and its waves of quotas: those of the strategy, and those that were asked for again since. They
    are read from plan.json when it exists, else made and written there.

    Raises WorkspaceError when the strategy allots more texts than its budget, or when plan.json, which a person may have changed, asks
    for what cannot be.
    """
    folder = workspace.round(index)
    if not folder.plan.exists():
        brief, quotas = draft_plan(recipe, workspace, index, splits)
        write_checked_json(folder.plan, as_json(index, brief, quotas, latest_exam(workspace, index)))
        return brief, [quotas]
    stored = read_json(folder.plan)
    waves = [[Quota(**quota) for quota in quotas] for quotas in (stored["cells"], *stored.get("refills", ()))]
    chosen = [quota.text for quota in waves[0] if quota.text]
    weaknesses = _read_weaknesses(recipe, workspace, index, stored)
    for problem in _quota_problems(recipe, [quota for wave in waves for quota in wave], {w.name for w in weaknesses}):
        raise WorkspaceError(
            f"{folder.plan}: {problem}; correct it there, or remove the file to have the round planned again"
        )
    if "labelling" in stored:
        try:
            labelling = read_labelling(stored)
        except (KeyError, TypeError, ValueError) as error:
            raise WorkspaceError(
                f"{folder.plan}: 'labelling' is {short(stored['labelling'])} ({error}); drop it there"
            ) from None
    else:  # a plan that a person wrote
        labelling = labelling_of(recipe, latest_exam(workspace, index))
    brief = make_brief(recipe, workspace, index, labelling, weaknesses, chosen)
    return replace(brief, neighbours=_of_the_task(recipe, stored.get("neighbours", {}))), waves


def _quota_problems(recipe: Recipe, quotas: Iterable[Quota], weaknesses: Collection[str]) -> Iterator[str]:
    """Why quotas cannot be filled."""
    labels = recipe.task.labels
    for quota in quotas:
        if quota.target not in labels and not quota.text:
            yield f"target {short(quota.target)} is no label{nearest(quota.target, labels)}"
        if quota.contrast and quota.contrast not in labels:
            yield f"contrast {short(quota.contrast)} is no label{nearest(str(quota.contrast), labels)}"
        if quota.samples < 1:
            yield f"samples: {quota.samples}: a quota asks for at least one text"
        if quota.difficulty not in (None, "easy", "hard"):
            yield f"difficulty: {short(quota.difficulty)} is neither easy nor hard"
        if quota.weakness and quota.weakness not in weaknesses:
            known = nearest(str(quota.weakness), weaknesses) if weaknesses else ", which has none"
            yield f"weakness {short(quota.weakness)} is none of the plan's{known}"


def draft_plan(recipe: Recipe, workspace: Workspace, index: int, splits: Splits) -> tuple[Brief, list[Quota]]:
    """What `plan` writes where there is no plan.json; nothing is written."""
    chosen = choose(recipe, workspace, index, splits) if recipe.pool else []
    return make_plan(recipe, workspace, index, chosen)


def add_refill(folder: RoundFolder, quotas: Sequence[Quota]) -> None:
    """Write another wave of quotas into the round's plan.json, before anything of it is asked for."""
    stored = read_json(folder.plan)
    write_checked_json(folder.plan, {**stored, "refills": [*stored.get("refills", ()), quotas_as_json(quotas)]})


def make_plan(recipe: Recipe, workspace: Workspace, index: int, pool: Sequence[str] = ()) -> tuple[Brief, list[Quota]]:
    """The brief and the quotas of round `index`, from the rounds before; nothing is written. Raises as `plan` does."""
    exam = latest_exam(workspace, index)
    weaknesses = find_weaknesses(recipe, workspace, index, exam and summary(exam))
    brief = make_brief(recipe, workspace, index, labelling_of(recipe, exam), weaknesses, pool)
    brief = replace(brief, neighbours=_neighbours(recipe, workspace, brief))
    quotas = list(recipe.strategy.allot(brief))
    if sum(quota.samples for quota in quotas) > brief.budget:
        raise WorkspaceError(f"strategy {recipe.strategy.name!r} allotted more than its budget of {brief.budget}")
    return brief, quotas


def _neighbours(recipe: Recipe, workspace: Workspace, brief: Brief) -> Mapping[str, Sequence[str]]:
    """The neighbours of each class for a strategy that writes texts; as the plan before has them, because seeds stay the same."""
    if "generate" not in recipe.strategy.prompt_templates:
        return {}
    before = workspace.round(brief.round - 1).plan
    stored: Mapping[str, Sequence[str]] | None = read_json(before).get("neighbours") if before.exists() else None
    return stored or neighbours(recipe, {label: seeds_of(brief, label) for label in recipe.task.labels})


def _of_the_task(recipe: Recipe, stored: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Neighbours as a plan has them, without labels that the task does not know: a person, or a stranger, may have written it."""
    labels = recipe.task.labels
    return {label: [other for other in stored[label] if other in labels] for label in labels if label in stored}


def latest_exam(workspace: Workspace, index: int) -> Mapping[str, Any] | None:
    """The last exam that was taken up to round `index`; None when there was none."""
    folders = [folder for folder in (*workspace.before(index), workspace.round(index)) if folder.exam.exists()]
    return read_json(folders[-1].exam) if folders else None


def read_labelling(plan: Mapping[str, Any]) -> Labelling:
    """How texts were labelled, as plan.json has it."""
    stored = plan["labelling"]
    return Labelling(**{**stored, "form": LabelForm(**stored["form"]), "prior": tuple(stored["prior"])})


def make_brief(
    recipe: Recipe,
    workspace: Workspace,
    index: int,
    labelling: Labelling,
    weaknesses: Sequence[Weakness] = (),
    pool: Sequence[str] = (),
) -> Brief:
    """All that the strategy may know in round `index`. `pool` are the texts chosen from the user's pool."""
    earlier = live_samples(recipe.task, workspace, index)
    indices_by_label = {label: array("I") for label in recipe.task.labels}
    for sample_index, target in enumerate(earlier.targets()):
        for label, indices in indices_by_label.items():
            if recipe.task.carries(target, label):
                indices.append(sample_index)
    return Brief(
        task=task_in_form(recipe, labelling.form),
        templates=recipe.templates(),
        sampling=Sampling(recipe.teacher.temperature, recipe.teacher.max_tokens, recipe.teacher.top_p),
        round=index,
        seed=derive_seed(recipe.seed, index),
        budget=recipe.rounds.samples,
        earlier=earlier,
        demonstrations={label: SelectedSamples(earlier, indices) for label, indices in indices_by_label.items()},
        weaknesses=tuple(weaknesses),
        pool=tuple(pool),
        soft_labels=recipe.student.learns_soft_labels and can_be_scored(recipe.task),
        labelling=labelling,
    )


def find_weaknesses(recipe: Recipe, workspace: Workspace, index: int, exam: Mapping[str, Any] | None) -> list[Weakness]:
    """The weaknesses that the probe of the round before shows. None before round 2: round 0 has seeds only, and no probe. `exam` is the
    summary of the plan."""
    if index < 2:
        return []
    folder = workspace.round(index - 1)
    samples = ShardedSamples(recipe.task, folder.shard_files())
    return weakness.find(recipe.task, samples, read_probe(recipe.task, folder.probe), exam)


def as_json(index: int, brief: Brief, quotas: list[Quota], exam: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of plan.json: for people, and all that a rerun needs. `exam` is the content of the exam that decided how texts
    are labelled; its summary becomes a part of the plan, and so of the round's identity."""
    return {
        "round": index,
        "budget": brief.budget,
        "labelling": {key: value for key, value in asdict(brief.labelling).items() if key != "doubt" or value},
        "exam": exam and summary(exam),
        "neighbours": {label: list(nearest) for label, nearest in brief.neighbours.items()},
        "weaknesses": weaknesses_as_json(brief.weaknesses),
        "cells": quotas_as_json(quotas),
        "refills": [],
    }


def quotas_as_json(quotas: Iterable[Quota]) -> list[dict[str, Any]]:
    """Quotas as plan.json stores them."""
    return [{key: value for key, value in asdict(quota).items() if key != "text" or value} for quota in quotas]


def weaknesses_as_json(weaknesses: Iterable[Weakness]) -> list[dict[str, Any]]:
    """Weaknesses as plan.json stores them: samples by id and text."""
    return [
        {
            "name": w.name,
            "kind": w.kind,
            "expected": w.expected,
            "got": w.got,
            "missed": w.missed,
            "seen": w.seen,
            "rate": w.rate,
            "wrong": [{"id": s.id, "text": s.text} for s in w.wrong],
            "right": [{"id": s.id, "text": s.text} for s in w.right],
        }
        for w in weaknesses
    ]


def _read_weaknesses(recipe: Recipe, workspace: Workspace, index: int, stored: Mapping[str, Any]) -> list[Weakness]:
    if not stored["weaknesses"]:
        return []
    ids = {entry["id"] for w in stored["weaknesses"] for entry in (*w["wrong"], *w["right"])}
    sample_by_id: dict[str, Sample] = {
        sample.id: sample
        for sample in ShardedSamples(recipe.task, workspace.round(index - 1).shard_files())
        if sample.id in ids
    }

    def samples(entries: list[dict[str, str]]) -> tuple[Sample, ...]:
        return tuple(sample_by_id[entry["id"]] for entry in entries if entry["id"] in sample_by_id)

    return [
        Weakness(
            w["kind"],
            w["expected"],
            w["got"],
            w["missed"],
            w["seen"],
            wrong=samples(w["wrong"]),
            right=samples(w["right"]),
            rate=w.get("rate", 0.0),
        )
        for w in stored["weaknesses"]
    ]
