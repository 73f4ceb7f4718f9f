"""The samples of a run that a person can review, and what was decided about them.

That is every sample of a complete round after round 0 which no later round has withdrawn. Seeds are the user's own, and are
corrected where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evokd_data.deployment.opening import recipe_of
from evokd_data.errors import DataError, WorkspaceError
from evokd_data.recipe import Recipe
from evokd_data.records import Prediction, Sample, Span, Target
from evokd_data.settings import short
from evokd_data.stages.correct import last_record_taken
from evokd_data.storage.corrected_rounds import ACCEPT, ACTIONS, RELABEL, withdrawn_rows
from evokd_data.storage.corrections import CorrectionLog, Decision, RowKey
from evokd_data.storage.shards import ShardedSamples, read_probe
from evokd_data.storage.workspace import RoundFolder, Workspace
from evokd_data.tasks import Task, sample_id


@dataclass(frozen=True)
class Correction:
    """A decision about a row, ready for a plan: `target` is the new one of a row that is relabelled, otherwise the row's."""

    sample: Sample
    decision: Decision
    target: Target

    def as_json(self, task: Task) -> dict[str, Any]:
        """The correction as plan.json stores it (see `storage.corrected_rounds`)."""
        is_relabelled = self.decision.action == RELABEL
        return {
            "round": self.sample.origin.round,
            "id": self.sample.id,
            "action": self.decision.action,
            "from": dict(task.to_row(self.sample.target)),
            "to": dict(task.to_row(self.target)) if is_relabelled else None,
            "becomes": sample_id(task, self.sample.text, self.target) if is_relabelled else None,
            "rule": self.decision.n if self.decision.by_rule else None,
        }


class ReviewedRun:
    """What can be reviewed of a run, as it is when this is made, and the log of what is decided."""

    def __init__(self, workspace: Workspace, log: CorrectionLog) -> None:
        self.workspace = workspace
        self.log = log
        self.recipe: Recipe = recipe_of(workspace)
        self.task: Task = self.recipe.task
        complete = [folder for folder in workspace.rounds() if folder.manifest.exists()]
        self.folders: list[RoundFolder] = [folder for folder in complete if folder.index]
        if not self.folders:
            raise WorkspaceError(
                f"{workspace.root}: no round with texts of the teacher is complete; next: evokd-data run RECIPE"
            )
        self.withdrawn = withdrawn_rows(workspace, self.folders[-1].index)
        files = [path for folder in self.folders for path in folder.shard_files()]
        self.samples = ShardedSamples(self.task, files, self.withdrawn)
        self.index_of: dict[RowKey, int] = {
            (sample.origin.round, sample.id): index for index, sample in enumerate(self.samples)
        }
        self.taken = last_record_taken(workspace)

    @cached_property
    def predictions(self) -> dict[RowKey, Prediction]:
        """What the student of the round before said of each row, before it learned the row."""
        return {
            (folder.index, prediction.id): prediction
            for folder in self.folders
            if folder.probe.exists()
            for prediction in read_probe(self.task, folder.probe)
        }

    def decisions(self) -> dict[RowKey, Decision]:
        """The decisions that no round has taken up yet, about rows that are there."""
        return {key: decision for key, decision in self.log.decisions(self.taken).items() if key in self.index_of}

    def decide(
        self,
        keys: Sequence[RowKey],
        action: str,
        value: Any = None,
        rule: Mapping[str, Any] | None = None,
    ) -> int:
        """Write down a decision about some rows. Returns the number of its record.

        `value` is the label, or the list of spans {"start", "end", "type"}, of rows that are relabelled. Raises DataError when a row is not
        there, or the value cannot be right for it, and WorkspaceError when a corrected round was added meanwhile.
        """
        if action not in ACTIONS:
            raise DataError(f"action: {action!r} is none of {', '.join(ACTIONS)}; give one of them")
        self._require_current()
        samples = [self.sample(key) for key in keys]
        to = None
        if action == RELABEL:
            targets = [target_from(self.task, sample.text, value) for sample in samples]
            if len(samples) == 1 and targets[0] == samples[0].target:
                action = ACCEPT
            else:
                to = dict(self.task.to_row(targets[0]))
        return self.log.add(self.taken, action, keys, to, rule)

    def undo(self) -> int | None:
        """Undo the last decision that is not undone and that no round has taken up. Returns its number; None when there is none.

        Raises WorkspaceError when a corrected round was added meanwhile.
        """
        self._require_current()
        records = list(self.log.open_records(self.taken))
        if not records:
            return None
        last: int = records[-1]["n"]
        self.log.add(self.taken, "undo", [], undoes=last)
        return last

    def _require_current(self) -> None:
        if last_record_taken(self.workspace) != self.taken:
            raise WorkspaceError(
                f"{self.workspace.root}: another process made a corrected round of the decisions meanwhile; end this review and begin it again"
            )

    def sample(self, key: RowKey) -> Sample:
        """The sample of a row. Raises DataError when there is none."""
        if key not in self.index_of:
            raise DataError(
                f"{key[1]} of round {key[0]}: is no sample of {self.workspace.root} that can be corrected; reload the page, or export "
                "again"
            )
        return self.samples[self.index_of[key]]

    def corrections(self) -> list[Correction]:
        """The decisions that no round has taken up yet, in the order of the rows. Rows that keep what they have under a new label
        are confirmed."""
        result = []
        for key, decision in sorted(self.decisions().items(), key=lambda item: self.index_of[item[0]]):
            sample = self.sample(key)
            target = self.task.from_row(decision.to) if decision.to is not None else sample.target
            if decision.action == RELABEL and target == sample.target:
                decision = Decision(decision.n, ACCEPT, None, decision.by_rule)
            result.append(Correction(sample, decision, target))
        return result

    def lost(self) -> int:
        """How many decisions are about rows that are gone: another round has withdrawn them since."""
        return sum(key not in self.index_of for key in self.log.decisions(self.taken))


def target_from(task: Task, text: str, value: Any) -> Target:
    """The target that a label, or a list of spans {"start", "end", "type"}, means for a text. Offsets count characters.

    Raises DataError, which quotes the value, when it cannot be right for the text.
    """
    try:
        target: Target = value if isinstance(value, str) else _spans(text, value)
        problem = task.check(text, target)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        problem = str(error) or type(error).__name__
    if problem:
        raise DataError(f"{short(value)}: cannot be right for {short(text)}: {problem}; correct it there")
    return target


def _spans(text: str, value: Any) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise ValueError("neither a label nor a list of spans")
    spans = [Span(int(span["start"]), int(span["end"]), str(span["type"]), "") for span in value]
    return tuple(
        Span(span.start, span.end, span.type, text[span.start : span.end])
        for span in sorted(spans, key=lambda span: (span.start, span.end))
    )
