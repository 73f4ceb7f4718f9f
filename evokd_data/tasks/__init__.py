"""The task contract: what a sample is, how it is shown to a teacher, how a student learns it, how it is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import orjson

from evokd_data.errors import DataError
from evokd_data.records import Constraint, Mistake, Prediction, Sample, SequenceExample, Target, TokenExample

if TYPE_CHECKING:
    import pyarrow as pa

TASKS = {
    "classification": "evokd_data.tasks.classification:Classification",
    "ner": "evokd_data.tasks.ner:NER",
}


def unknown_format(path: Path, *other_suffixes: str) -> DataError:
    """The error for a file in a format that cannot be read. `other_suffixes` are those that only the task reads."""
    formats = ", ".join((".jsonl", ".csv", ".tsv", ".parquet", ".arrow", *other_suffixes))
    return DataError(f"{path}: unknown format {path.suffix!r}; use one of {formats}")


class Unreadable(Exception):
    """An answer of the teacher from which no target can be read. The message is one word: a rejection's reason."""


def sample_id(task: Task, text: str, target: Target) -> str:
    """32 hex digits of the sha256 of a sample's text and target."""
    # Text and target hold only strings and integers, for which orjson writes the same bytes as `digest.canonical`.
    content = orjson.dumps([text, task.to_row(target)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:32]


class Task(Protocol):
    """A task is a frozen dataclass whose fields are the recipe's `task` table.

    Storage: `columns`, `to_row`, `from_row`, `check`, `read_example`, `read_text`, `read_file`.
    Prompts: `describe`, `show`, `label_constraint`, `read_label`, `target_of`, `carries`.
    Learning: `classes`, `labels`, `supervise`, `decode`, `mistakes`, `score`.
    """

    name: ClassVar[str]
    hub_category: ClassVar[str]
    """The Hub's task category, e.g. "text-classification"."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What a text can be requested for: labels, or span types. Quotas of a plan are counted in these."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The student's output classes in index order: labels, or IOB2 tags with "O" first."""

    def columns(self) -> Mapping[str, pa.DataType]:
        """Arrow columns that hold a target, by name, in order."""

    def to_row(self, target: Target) -> Mapping[str, Any]:
        """A target as the values of `columns`; JSON-able. A sample's digest is computed from it."""

    def from_row(self, row: Mapping[str, Any]) -> Target:
        """The target of a stored row; the inverse of `to_row`."""

    def check(self, text: str, target: Target) -> str:
        """Why this target cannot be right for this text ("" when it can): an unknown label, a moved span."""

    def read_example(self, row: Mapping[str, Any], path: str) -> tuple[str, Target]:
        """Text and target of one row of a user's file. Raises DataError naming the column and the value."""

    def read_text(self, row: Mapping[str, Any], path: str) -> str:
        """The text of one row of a user's file, with or without a target in the row. Raises DataError."""

    def read_file(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """The rows of a file in a format that only this task has, such as CoNLL columns. Raises DataError for others."""

    def describe(self) -> Mapping[str, Any]:
        """The task as templates see it (`task.labels`, `task.description`, ...)."""

    def show(self, sample: Sample) -> Mapping[str, Any]:
        """A sample as templates see it: `text`, `target` and the keys that the task adds; JSON-able."""

    def label_constraint(self, text: str) -> Constraint:
        """What the teacher may answer when it labels `text`."""

    def read_label(self, answer: str, text: str) -> Target:
        """The target in a labelling answer. Raises Unreadable."""

    def target_of(self, label: str) -> Target | None:
        """The target of any text written for `label`; None where the label does not decide it (spans must be located)."""

    def carries(self, target: Target, label: str) -> bool:
        """Whether a target equals `label` (classification) or holds a span of this type (tagging)."""

    def supervise(self, sample: Sample) -> SequenceExample | TokenExample:
        """The sample as a student learns it."""

    def decode(self, example: SequenceExample | TokenExample, probabilities: Any) -> tuple[Target, float]:
        """The target a student predicts from its probabilities (see Student.predict), and its confidence in [0, 1]."""

    def mistakes(self, prediction: Prediction) -> Sequence[Mistake]:
        """What is wrong with a prediction; empty when it is right."""

    def score(self, samples: Sequence[Sample], probabilities: Sequence[Any], seed: int) -> dict[str, Any]:
        """Metrics over all samples, JSON-able, always with `n` and `macro_f1`; `seed` draws the bootstrap."""
