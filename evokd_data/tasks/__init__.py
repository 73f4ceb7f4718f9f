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


def unknown_format(path: Path, *more: str) -> DataError:
    """For a file that nobody reads; `more` are suffixes that the task reads beside the common ones."""
    formats = ", ".join((".jsonl", ".csv", ".tsv", ".parquet", ".arrow", *more))
    return DataError(f"{path}: unknown format {path.suffix!r}; use one of {formats}")


class Unreadable(Exception):
    """An answer of the teacher from which no target can be read. The message is one word: a rejection's reason."""


def sample_id(task: Task, text: str, target: Target) -> str:
    """32 hex digits of the sha256 of what a sample says: its text and its target."""
    said = orjson.dumps(
        [text, task.to_row(target)], option=orjson.OPT_SORT_KEYS
    )  # `canonical`, of strings and integers
    return hashlib.sha256(said).hexdigest()[:32]


class Task(Protocol):
    """A task is a frozen dataclass whose fields are the recipe's `task` table.

    Stored: `columns`, `to_row`, `from_row`, `check`, `read_example`, `read_text`. Shown: `describe`, `label_constraint`, `read_label`.
    Learned: `classes`, `labels`, `supervise`, `decode`, `mistakes`, `score`.
    """

    name: ClassVar[str]
    hub_category: ClassVar[str]
    """The Hub's task category, e.g. "text-classification"."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What texts can be asked for: labels, or span types. Quotas of a plan are counted in these."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The student's output classes in index order: labels, or IOB2 tags with "O" first."""

    def columns(self) -> Mapping[str, pa.DataType]:
        """Arrow columns that hold a target, by name, in order."""

    def to_row(self, target: Target) -> Mapping[str, Any]:
        """A target as the values of `columns`; JSON-able, and what a sample's digest is made of."""

    def from_row(self, row: Mapping[str, Any]) -> Target:
        """The target of a stored row; `to_row` undone."""

    def check(self, text: str, target: Target) -> str:
        """Why this target cannot be right for this text ("" when it can): unknown label, moved span."""

    def read_example(self, row: Mapping[str, Any], path: str) -> tuple[str, Target]:
        """Text and target of one row of a user's file. Raises DataError naming the column and the value."""

    def read_text(self, row: Mapping[str, Any], path: str) -> str:
        """The text alone of one row of a user's file, whatever it says of a target. Raises DataError."""

    def read_file(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """The rows of a file in a format that only this task has, such as CoNLL columns. Raises DataError for others."""

    def describe(self) -> Mapping[str, Any]:
        """The task as templates see it (`task.labels`, `task.description`, ...)."""

    def show(self, sample: Sample) -> Mapping[str, Any]:
        """A sample as templates see it: `text`, `target` and whatever the task adds; JSON-able."""

    def label_constraint(self, text: str) -> Constraint:
        """What the teacher may answer when it labels `text`."""

    def read_label(self, answer: str, text: str) -> Target:
        """The target in a labelling answer. Raises Unreadable."""

    def target_of(self, label: str) -> Target | None:
        """The target of any text written for `label`, or None where that does not follow (spans must be found)."""

    def carries(self, target: Target, label: str) -> bool:
        """Whether a target is (classification) or holds (tagging) what a request aimed at."""

    def supervise(self, sample: Sample) -> SequenceExample | TokenExample:
        """The sample as a student learns it."""

    def decode(self, example: SequenceExample | TokenExample, probabilities: Any) -> tuple[Target, float]:
        """The target a student predicts from its probabilities (see Student.predict), and its confidence in [0, 1]."""

    def mistakes(self, prediction: Prediction) -> Sequence[Mistake]:
        """What is wrong with a prediction; empty when it is right."""

    def score(self, samples: Sequence[Sample], probabilities: Sequence[Any], seed: int) -> dict[str, Any]:
        """Metrics over all samples, JSON-able, always with `n` and `macro_f1`; `seed` draws the bootstrap."""
