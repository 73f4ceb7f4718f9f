"""The task contract: what a sample is, how it is shown to a teacher, how a student learns it, how it is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol

import orjson

from evokd_data.records import (
    Constraint,
    Mistake,
    Origin,
    Outcome,
    Prediction,
    Sample,
    SequenceExample,
    Target,
    TokenExample,
)

if TYPE_CHECKING:
    import pyarrow as pa

Unit = Literal["characters", "utf-16", "bytes", "graphemes"]
"""What offsets of spans count."""

TASKS = {
    "classification": "evokd_data.tasks.classification:Classification",
    "ner": "evokd_data.tasks.ner:NER",
}


UNANNOTATED: Final = object()
"""In place of the label of a row that nobody has labelled. Such rows are left out, and counted."""


@dataclass(frozen=True, slots=True)
class UnknownClass:
    """In place of a label whose number names no class of its column; -1 is what data sets have for hidden labels."""

    number: int
    names: tuple[str, ...]

    def __repr__(self) -> str:
        classes = ", ".join(f"{number}: {name}" for number, name in enumerate(self.names[:4]))
        more = ", ..." if len(self.names) > 4 else ""
        hidden = ", which marks hidden labels" if self.number == -1 else ""
        return f"{self.number}{hidden}: no class of the column ({classes}{more})"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of one source are read, where that is not as the task's settings say.

    `text` and `label` name the columns of text (or tokens) and of the label (or spans, or tags); "a.b" is the field b of the
    column a. `offsets` is the unit of spans' offsets. `label_map`: a label, type or tag as it stands in the source, numbers
    as words ("3"), -> the task's.
    """

    text: str | None = None
    label: str | None = None
    offsets: Unit | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)

    def named(self, value: Any) -> Any:
        """The task's name for a label of the source; the value itself where the map has none."""
        match value:
            case str():
                return self.label_map.get(value, self.label_map.get(value.removesuffix(".0"), value))
            case bool():
                return self.label_map.get(str(value).lower(), value)
            case int():
                return self.label_map.get(str(value), value)
            case float() if value.is_integer():  # a column of whole numbers in which one was missing
                return self.label_map.get(str(int(value)), int(value))
        return value


PLAIN: Final = Layout()
_MISSING: Final = object()


def cell(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of a field within it ("a.b"). Raises KeyError."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    if value is _MISSING:
        raise KeyError(column)
    return value


def has(row: Mapping[str, Any], column: str) -> bool:
    """Whether the row has the column, see `cell`."""
    try:
        cell(row, column)
    except KeyError:
        return False
    return True


class Unreadable(Exception):
    """An answer of the teacher from which no target can be read. The message is a rejection's reason, one word, with a detail
    after ": " or without."""


def sample_id(task: Task, text: str, target: Target) -> str:
    """32 hex digits of the sha256 of a sample's text and target."""
    # Text and target hold only strings and integers, for which orjson writes the same bytes as `digest.canonical`.
    content = orjson.dumps([text, task.to_row(target)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:32]


def unlabelled(task: Task, text: str) -> SequenceExample | TokenExample:
    """A text as a student reads it, when nobody knows its target."""
    target = task.target_of(task.labels[0]) or ()  # any target: a student ignores it in predict
    return task.supervise(Sample("", text, target, Origin(0, -1, 0, "")))


class Task(Protocol):
    """A task is a frozen dataclass whose fields are the recipe's `task` table.

    Storage: `columns`, `to_row`, `from_row`, `check`, `read_example`, `read_text`, `read_lines`, `may_be_called`.
    Prompts: `describe`, `show`, `answer_forms`, `label_constraint`, `read_label`, `span_probabilities`, `target_of`, `carries`.
    Learning: `classes`, `labels`, `supervise`, `decode`, `mistakes`, `score`.
    """

    name: ClassVar[str]
    hub_category: ClassVar[str]
    """The Hub's task category, e.g. "text-classification"."""
    templates: ClassVar[str]
    """The folder below evokd_data/prompts with its prompt templates. A task that is shown as another is names the other's."""
    suffixes: ClassVar[tuple[str, ...]]
    """Of files that only this task reads, see `read_lines`."""
    class_field: ClassVar[str]
    """The field of `columns` whose values are `labels`, such as "label" or "spans.type": readers get class numbers with names."""

    answer_forms: tuple[str, ...]
    """Values of its setting `labelling`: the forms in which a teacher can be asked for targets, the default first. Empty where a
    target is a label out of a list."""

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

    def read_example(self, row: Mapping[str, Any], path: str, layout: Layout = PLAIN) -> tuple[str, Target]:
        """Text and target of one row of a user's file. Raises DataError naming the column and the value."""

    def read_text(self, row: Mapping[str, Any], path: str, layout: Layout = PLAIN) -> str:
        """The text of one row of a user's file, with or without a target in the row. Raises DataError."""

    def read_lines(self, lines: Iterable[str], path: str) -> Iterator[Mapping[str, Any]]:
        """The rows of a text file in a format that only this task has (`suffixes`), such as CoNLL columns. Raises DataError
        naming the line."""

    def may_be_called(self, name: str) -> bool:
        """Whether a source may call a label, a type or a tag so: where it may not, `Layout.label_map` is wrong."""

    def describe(self) -> Mapping[str, Any]:
        """The task as templates see it (`task.labels`, `task.description`, ...)."""

    def show(self, sample: Sample) -> Mapping[str, Any]:
        """A sample as templates see it: `text`, `target` and the keys that the task adds; JSON-able."""

    def label_constraint(self, text: str) -> Constraint:
        """What the teacher may answer when it labels `text`."""

    def read_label(self, answer: str, text: str) -> Target:
        """The target in a labelling answer. Raises Unreadable."""

    def span_probabilities(self, answer: str, text: str, logprobs: Mapping[str, float]) -> tuple[float, ...] | None:
        """The probability of each span that `read_label` reads in the answer, in order, from the log-probabilities of its tokens
        (see Completion.choice_logprobs); None where they do not say. Empty where targets are no spans. Raises Unreadable."""

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

    def outcomes(self, samples: Sequence[Sample], probabilities: Sequence[Any]) -> list[Outcome]:
        """What `score` counts, sample by sample: from the sums over all of them follow the scores."""
