"""One label per text.

A row of a user's file, and of the published data:   {"text": "play some jazz", "label": "PlayMusic"}
The same row as a template sees it:                  {"text": "play some jazz", "target": "PlayMusic"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from evokd_data.errors import DataError
from evokd_data.records import Constraint, Mistake, Outcome, Prediction, Sample, SequenceExample, Target, TokenExample
from evokd_data.registry import nearest
from evokd_data.settings import from_anyone
from evokd_data.tasks import PLAIN, Layout, UnknownClass, Unreadable, cell
from evokd_data.tasks.nouns import all_in_words, plural, with_article

if TYPE_CHECKING:
    import pyarrow as pa

QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»", "「": "」", "『": "』"}
"""Marks that a teacher may put around a label: opening mark -> closing mark."""


@from_anyone(
    "labels", "description", "noun", "nouns", "label_names", "label_descriptions", "text_column", "label_column"
)
@dataclass(frozen=True)
class Classification:
    """One label for each text."""

    name: ClassVar[str] = "classification"
    hub_category: ClassVar[str] = "text-classification"
    templates: ClassVar[str] = "classification"
    suffixes: ClassVar[tuple[str, ...]] = ()
    class_field: ClassVar[str] = "label"
    answer_forms: ClassVar[tuple[str, ...]] = ()

    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    """The labels, as your files and the student have them. At least two."""
    description: str = ""
    """What the label says about a text, as a phrase that goes into prompts: "what a customer's message is about"."""
    noun: Annotated[str, Field(min_length=1)] = "text"
    """What one text is, in a word or a few: question, customer message, film review. It goes into every prompt."""
    nouns: str = ""
    """The plural of `noun`. By default the word before the first preposition gets an s, or the last word: "requests to a
    voice assistant". Give it where that is wrong."""
    label_names: Mapping[str, str] = field(default_factory=dict)
    """What labels are called in prompts, and what a student with frozen embeddings reads of a class: `ENTY` says
    nothing to a teacher, `entity` does. Without a name the label itself is written out: `PlayMusic` is "play music"."""
    label_descriptions: Mapping[str, str] = field(default_factory=dict)
    """What a label means, in a sentence for the teacher. Write one for labels that are easily confused."""
    text_column: Annotated[str, Field(min_length=1)] = "text"
    """The column of your files that holds the text. A source can have its own, see `seeds.text`."""
    label_column: Annotated[str, Field(min_length=1)] = "label"
    """The column of your files that holds the label. A source can have its own, see `seeds.label`."""

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"labels: {list(self.labels)!r}: a classifier needs at least two")
        for index, label in enumerate(self.labels):
            if not label or label != label.strip():
                raise ValueError(f"labels: {label!r} is empty or has white space around it")
            if label in self.labels[:index]:
                raise ValueError(f"labels: {label!r} is given twice")
        for setting in ("label_names", "label_descriptions"):
            for label in getattr(self, setting):
                if label not in self.labels:
                    raise ValueError(f"{setting}: {label!r} is no label{nearest(label, self.labels)}")
        labels_by_name: dict[str, str] = {}
        for label, name in self.names.items():
            if (other := labels_by_name.setdefault(name, label)) != label:
                raise ValueError(
                    f"label_names: {other!r} and {label!r} are both called {name!r}; give one another name"
                )
        if self.text_column == self.label_column:
            raise ValueError(f"text_column and label_column are both {self.text_column!r}")

    @property
    def names(self) -> Mapping[str, str]:
        """What each label is called in words, in the order of the labels."""
        return {**all_in_words(self.labels), **{label: name for label, name in self.label_names.items() if name}}

    @property
    def classes(self) -> tuple[str, ...]:
        return self.labels

    def columns(self) -> Mapping[str, pa.DataType]:
        import pyarrow as pa

        return {"label": pa.string()}

    def to_row(self, target: Target) -> Mapping[str, Any]:
        return {"label": target}

    def from_row(self, row: Mapping[str, Any]) -> Target:
        return str(row["label"])

    def check(self, text: str, target: Target) -> str:
        return "" if target in self.labels else f"{target!r} is no label of the task"

    def read_lines(self, lines: Iterable[str], path: str) -> Iterator[Mapping[str, Any]]:
        raise DataError(f"{path}: holds tokens with tags, and texts have one label in this task; name a file of rows")

    def may_be_called(self, name: str) -> bool:
        return name in self.labels

    def read_example(self, row: Mapping[str, Any], path: str, layout: Layout = PLAIN) -> tuple[str, Target]:
        """A number is the label that `layout.label_map` gives it, or the label that is written like it ("3")."""
        column = layout.label or self.label_column
        text, stored = self.read_text(row, path, layout), self._cell(row, column, path)
        label = layout.named(stored)
        if isinstance(label, int) and not isinstance(label, bool) and str(label) in self.labels:
            label = str(label)
        if isinstance(label, int | float) and not isinstance(label, bool):
            raise DataError(
                f"{path}: column {column!r} holds {label!r}; labels are names: say which each number is with "
                f"label_map, e.g. {{{label!r}: {self.labels[0]}}}, where the file is named"
            )
        if not isinstance(label, str):
            advice = (
                "name a split that has labels"
                if isinstance(label, UnknownClass)
                else "labels are names, written as strings"
            )
            raise DataError(f"{path}: column {column!r} holds {label!r}; {advice}")
        if label not in self.labels:
            hint = nearest(label, self.labels)
            if label.removesuffix(".0").isdigit():
                hint += f"; say which label each number is with label_map, e.g. {{{label.removesuffix('.0')}: {self.labels[0]}}}, where the file is named"
            raise DataError(f"{path}: column {column!r} holds {label!r}{hint}")
        return text, label

    def read_text(self, row: Mapping[str, Any], path: str, layout: Layout = PLAIN) -> str:
        column = layout.text or self.text_column
        text = self._cell(row, column, path)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: column {column!r} holds {text!r}; every row needs a text")
        return text

    def _cell(self, row: Mapping[str, Any], column: str, path: str) -> Any:
        try:
            return cell(row, column)
        except KeyError:
            raise DataError(
                f"{path}: no column {column!r}{nearest(column, map(str, row))}; set task.text_column, label_column, or text "
                "and label where the file is named"
            ) from None

    def describe(self) -> Mapping[str, Any]:
        return {
            "labels": list(self.labels),
            "names": dict(self.names),
            "noun": self.noun,
            "a_noun": with_article(self.noun),
            "nouns": self.nouns or plural(self.noun),
            "description": self.description,
            "label_descriptions": dict(self.label_descriptions),
        }

    def show(self, sample: Sample) -> Mapping[str, Any]:
        return {"text": sample.text, "target": sample.target}

    def label_constraint(self, text: str) -> Constraint:
        return Constraint(choices=self.labels)

    def read_label(self, answer: str, text: str) -> Target:
        """The label that the answer consists of, without white space and quotes around it.

        Case is ignored unless two labels differ in nothing else. Raises Unreadable: "no_label" when nothing is left without
        white space and quotes, "label_not_allowed" otherwise.
        """
        bare = answer.strip()
        while bare not in self.labels and len(bare) > 1 and QUOTES.get(bare[0]) == bare[-1]:
            bare = bare[1:-1].strip()
        if bare in self.labels:
            return bare
        if not bare.strip("".join({*QUOTES, *QUOTES.values()})):
            raise Unreadable("no_label")
        candidates = [label for label in self.labels if label.casefold() == bare.casefold()]
        if len(candidates) != 1:
            raise Unreadable("label_not_allowed")
        return candidates[0]

    def span_probabilities(self, answer: str, text: str, logprobs: Mapping[str, float]) -> tuple[float, ...] | None:
        return ()

    def target_of(self, label: str) -> Target | None:
        return label

    def carries(self, target: Target, label: str) -> bool:
        return target == label

    def supervise(self, sample: Sample) -> SequenceExample:
        assert isinstance(sample.target, str)
        return SequenceExample(sample.text, self.labels.index(sample.target), sample.soft, sample.weight)

    def decode(self, example: SequenceExample | TokenExample, probabilities: Any) -> tuple[Target, float]:
        """The most probable label and its probability; the first of several equally probable labels."""
        best = int(probabilities.argmax())
        return self.labels[best], float(probabilities[best])

    def mistakes(self, prediction: Prediction) -> Sequence[Mistake]:
        expected, got = prediction.expected, prediction.predicted
        assert isinstance(expected, str) and isinstance(got, str)
        return [] if expected == got else [Mistake("confused", expected, got)]

    def score(self, samples: Sequence[Sample], probabilities: Sequence[Any], seed: int) -> dict[str, Any]:
        """The metrics of `measures.classification`."""
        import numpy as np

        from evokd_data.tasks.measures import classification

        index = {label: position for position, label in enumerate(self.labels)}
        expected = np.fromiter((index[str(sample.target)] for sample in samples), dtype=np.int64)
        return classification(expected, np.asarray(probabilities), self.labels, seed)

    def outcomes(self, samples: Sequence[Sample], probabilities: Sequence[Any]) -> list[Outcome]:
        rows = []
        for sample, row in zip(samples, probabilities, strict=True):
            expected, predicted = self.labels.index(str(sample.target)), int(row.argmax())
            rows.append(Outcome((expected,), (predicted,), (expected,) if predicted == expected else ()))
        return rows
