"""What a run's folder holds, read once for all sections of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evokd_data.errors import RecipeError, WorkspaceError
from evokd_data.recipe_file import read_recipe_file
from evokd_data.registry import resolve
from evokd_data.reporting.dataset_card import model_name
from evokd_data.reporting.primary_metric import PrimaryMetric, primary_metric
from evokd_data.reporting.run_summary import summary
from evokd_data.settings import build
from evokd_data.storage.corrected_rounds import counts, withdrawn_rows
from evokd_data.storage.journal import read_answers
from evokd_data.storage.shards import Withdrawn
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json
from evokd_data.tasks import TASKS, Task

NO_PLAN: Mapping[str, Any] = {"weaknesses": [], "cells": []}


@dataclass(frozen=True)
class RoundFiles:
    """One round: its folder, its entry in the run's summary, and its JSON files; {} for one that is not there yet."""

    folder: RoundFolder
    entry: Mapping[str, Any]
    plan: Mapping[str, Any]
    totals: Mapping[str, Any]
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def index(self) -> int:
        """The round's number."""
        return self.folder.index

    @property
    def score(self) -> PrimaryMetric | None:
        """The primary metric of its student on the test set; None when it is not scored."""
        return primary_metric(self.metrics["test"]) if self.metrics.get("test") else None

    @property
    def corrections(self) -> Mapping[str, int] | None:
        """{"accept", "relabel", "reject"} of a corrected round, otherwise None."""
        return counts(self.plan["corrections"]) if "corrections" in self.plan else None

    def quotas(self) -> list[Mapping[str, Any]]:
        """What was asked for in all waves."""
        return [quota for wave in (self.plan["cells"], *self.plan.get("refills", ())) for quota in wave]


@dataclass(frozen=True)
class RunFiles:
    """One run. `summary` is that of `run_summary`; `inputs` is inputs.json."""

    workspace: Workspace
    summary: Mapping[str, Any]
    inputs: Mapping[str, Any]
    rounds: Sequence[RoundFiles]
    damages: dict[str, None] = field(default_factory=dict)
    """What of the journals cannot be read, a line each, in the order in which it was met."""

    def answers(self, journal: Path) -> Iterator[Mapping[str, Any]]:
        """The answers in a journal that can be read. A report of the rest is of more use than none."""

        def note(error: WorkspaceError) -> None:
            self.damages.setdefault(str(error).replace(f"{self.workspace.root}/", ""))

        return read_answers(journal, note)

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The sections of recipe.yaml; {} when the file is not there or cannot be read: names of models are all that is taken."""
        try:
            return read_recipe_file(self.workspace.recipe).table
        except RecipeError:
            return {}

    @cached_property
    def task(self) -> Task | None:
        """The task, from the settings that the run was begun with; None for one that this version does not know."""
        settings = dict(self.inputs["settings"].get("task") or {})
        kind = settings.pop("type", None)
        return build(resolve(TASKS, kind), settings, "task")[0] if kind in TASKS else None

    @cached_property
    def labels(self) -> list[str]:
        """The labels or types, in the order of the task."""
        if self.task is not None:
            return list(self.task.labels)
        return list(next((r.metrics["test"]["per_class"] for r in self.rounds if r.score), {}))

    @cached_property
    def withdrawn(self) -> Withdrawn:
        """The rows that a person has relabelled or rejected since."""
        return withdrawn_rows(self.workspace, max((round_files.index for round_files in self.rounds), default=0))

    @property
    def has_spans(self) -> bool:
        """Whether texts have spans instead of one label."""
        return self.task is not None and "spans" in self.task.columns()

    @property
    def of_teacher(self) -> list[RoundFiles]:
        """The rounds in which a teacher is asked: all but the seeds and corrected rounds."""
        return [round_files for round_files in self.rounds if round_files.index and round_files.corrections is None]

    @property
    def scored(self) -> list[RoundFiles]:
        """The rounds whose student is scored."""
        return [round_files for round_files in self.rounds if round_files.score]

    @property
    def best(self) -> RoundFiles | None:
        """The last adopted round; where no round was compared, the last that is scored."""
        if not self.scored:
            return None
        adoption = self.scored[-1].metrics.get("adoption")
        return self.by_index(adoption["best"]) if adoption else self.scored[-1]

    def by_index(self, index: int) -> RoundFiles | None:
        """A round by its number."""
        return next((round_files for round_files in self.rounds if round_files.index == index), None)

    @property
    def comparison(self) -> Path | None:
        """The results.json that the recipe's card names, where it is on this machine."""
        named = _section(self.recipe, "card").get("comparison")
        path = self.workspace.recipe_folder / named if isinstance(named, str) and named else None
        return path if path is not None and path.is_file() else None

    @property
    def teacher_name(self) -> str:
        """The teacher's model as the Hub or the last part of its path calls it, else the engine."""
        identity = self.inputs["teacher"]
        return model_name(identity, _section(self.recipe, "teacher")) or str(identity.get("engine", "teacher"))

    @property
    def student_name(self) -> str:
        """The student's base model, else its kind."""
        identity = self.inputs["student"]
        base = identity.get("base")
        name = model_name(base if isinstance(base, Mapping) else identity, _section(self.recipe, "student"))
        return name.removeprefix("package:") or str(identity.get("kind", "student"))


def read_run(workspace: Workspace) -> RunFiles:
    """All that is on disk. Raises WorkspaceError when the folder holds no run, or a file was altered since it was written."""
    run = summary(workspace)
    folders = {folder.index: folder for folder in workspace.rounds()}
    rounds = [
        RoundFiles(
            folders[entry["round"]],
            entry,
            _read(folders[entry["round"]].plan) or NO_PLAN,
            *(_read(path) for path in _files(folders[entry["round"]])),
        )
        for entry in run["rounds"]
    ]
    return RunFiles(workspace, run, read_json(workspace.inputs), rounds)


def _files(folder: RoundFolder) -> tuple[Path, Path, Path]:
    return folder.generated, folder.metrics, folder.manifest


def _read(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.exists() else {}


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, Mapping) else {}
