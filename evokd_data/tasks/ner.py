"""Spans of a text, each of one type: named entities, slots.

A row of a user's file, and of the published data:
    {"text": "play jazz by daft punk", "spans": [{"start": 13, "end": 22, "type": "artist", "surface": "daft punk"}]}
The same row as a template sees it:
    {"text": "play jazz by daft punk", "target": "play jazz by [artist: daft punk]", "spans": [...], "marked": ...}

Offsets count characters (code points) from 0; `end` is the offset after the span. Spans do not overlap, and begin and end
where words do (see `marking`). In a user's file a span may have no surface, or be {"text", "type"} without offsets, which
stands for all its occurrences (see `spans.locate`). The key "label" may replace "type". Instead of text and spans a row may
have {"tokens": [...], "ner_tags": [...]} with tags of any dialect (see `iob.runs`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from evokd_data.errors import DataError
from evokd_data.records import Constraint, Mistake, Prediction, Sample, SequenceExample, Span, Target, TokenExample
from evokd_data.registry import nearest
from evokd_data.settings import Count, from_anyone
from evokd_data.tasks import Unreadable, conll, iob, marking, spans, unknown_format

if TYPE_CHECKING:
    import pyarrow as pa

Column = Annotated[str, Field(min_length=1)]

MARK_REASONS = {
    "altered": "text_changed",
    "cut": "truncated",
    "type": "unknown_type",
    "nested": "overlap",
    "word": "misaligned",
    "ambiguous": "ambiguous",
}
"""The error of `marking.read` -> the reason of the rejection."""


@from_anyone(
    "types",
    "description",
    "type_descriptions",
    "labelling",
    "enum_words",
    "ignore_other_types",
    "text_column",
    "spans_column",
    "tokens_column",
    "tags_column",
)
@dataclass(frozen=True)
class NER:
    """`type_descriptions` tell the teacher what a type means. `labelling` is the form of its answer:

    - `grammar`: the text with marks in it, under a grammar made from the text. Nothing else can be written. Of a surface
      that occurs twice, one occurrence can be marked without the other.
    - `enum`: {"entities": [{"text", "type"}]} whose texts are runs of at most `enum_words` words of the text. Nothing can be
      invented. An entity stands for all its occurrences.
    - `json`: the same with free strings. An answer with a span that is not in the text is rejected.

    `ignore_other_types` drops spans of types that are not in `types` from the user's data. The `_column` settings name the
    columns of the user's files: texts and spans, or tokens and tags.
    """

    name: ClassVar[str] = "ner"
    hub_category: ClassVar[str] = "token-classification"

    types: Annotated[tuple[str, ...], Field(min_length=1)]
    description: str = ""
    type_descriptions: Mapping[str, str] = field(default_factory=dict)
    labelling: Literal["grammar", "json", "enum"] = "grammar"
    enum_words: Count = 8
    ignore_other_types: bool = False
    text_column: Column = "text"
    spans_column: Column = "spans"
    tokens_column: Column = "tokens"
    tags_column: Column = "ner_tags"

    def __post_init__(self) -> None:
        try:
            marking.grammar("text", self.types)
        except ValueError as error:
            raise ValueError(f"types: {error}") from None
        for index, type_ in enumerate(self.types):
            if type_ in self.types[:index]:
                raise ValueError(f"types: {type_!r} is given twice")
        for type_ in self.type_descriptions:
            if type_ not in self.types:
                raise ValueError(f"type_descriptions: {type_!r} is no type{nearest(type_, self.types)}")
        columns = ("text_column", "spans_column", "tokens_column", "tags_column")
        for index, column in enumerate(columns):
            for other in columns[:index]:
                if getattr(self, column) == getattr(self, other):
                    raise ValueError(f"{other} and {column} are both {getattr(self, column)!r}")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.types

    @property
    def classes(self) -> tuple[str, ...]:
        return iob.classes(self.types)

    def columns(self) -> Mapping[str, pa.DataType]:
        import pyarrow as pa

        span = {"start": pa.int32(), "end": pa.int32(), "type": pa.string(), "surface": pa.string()}
        return {"spans": pa.list_(pa.struct(list(span.items())))}

    def to_row(self, target: Target) -> Mapping[str, Any]:
        return {
            "spans": [
                {"start": span.start, "end": span.end, "type": span.type, "surface": span.surface}
                for span in _spans(target)
            ]
        }

    def from_row(self, row: Mapping[str, Any]) -> Target:
        return tuple(Span(span["start"], span["end"], span["type"], span["surface"]) for span in row["spans"])

    def check(self, text: str, target: Target) -> str:
        return spans.fault(text, _spans(target), self.types)

    def read_file(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """The rows of a CoNLL column file."""
        if path.suffix.lower() not in conll.SUFFIXES:
            raise unknown_format(path, *conll.SUFFIXES)
        for tokens, tags in conll.sentences(path):
            yield {self.tokens_column: tokens, self.tags_column: tags}

    def read_example(self, row: Mapping[str, Any], path: str) -> tuple[str, Target]:
        """The row's spans, sorted. `check` reports those that overlap or cut words. Raises DataError."""
        if self.text_column in row and self.spans_column in row:
            text, annotated = self._read_spans(row[self.text_column], row[self.spans_column], path)
        elif self.tokens_column in row and self.tags_column in row:
            text, annotated = self._read_tags(row[self.tokens_column], row[self.tags_column], path)
        else:
            raise DataError(
                f"{path}: columns {', '.join(map(str, row)) or 'none'}; a row needs {self.text_column!r} and "
                f"{self.spans_column!r}, or {self.tokens_column!r} and {self.tags_column!r}: "
                "set task.text_column, spans_column, tokens_column, tags_column"
            )
        return text, tuple(sorted(set(annotated), key=lambda span: (span.start, span.end, span.type)))

    def read_text(self, row: Mapping[str, Any], path: str) -> str:
        """The text, or its tokens joined. Raises DataError."""
        if self.text_column in row:
            return self._read_spans(row[self.text_column], [], path)[0]
        tokens = row.get(self.tokens_column)
        return self._read_tags(tokens, ["O"] * len(tokens) if isinstance(tokens, list) else [], path)[0]

    def _read_spans(self, text: Any, annotation: Any, path: str) -> tuple[str, Sequence[Span]]:
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: column {self.text_column!r} holds {text!r}; every row needs a text")
        if isinstance(annotation, str):  # a cell of a csv file
            try:
                annotation = json.loads(annotation)
            except ValueError:
                raise DataError(
                    f"{path}: column {self.spans_column!r} holds {annotation!r}, which is not JSON; write a list of spans"
                ) from None
        if not isinstance(annotation, list) or not all(isinstance(span, Mapping) for span in annotation):
            raise DataError(
                f"{path}: column {self.spans_column!r} holds {annotation!r}; spans are a list of "
                '{"start", "end", "type"} or {"text", "type"}, empty when the text has none'
            )
        located: list[Span] = []
        surfaces: list[tuple[str, str]] = []
        for span in annotation:
            type_ = span.get("type", span.get("label"))
            if not self._is_task_type(type_, path):
                continue
            start, end, surface = span.get("start"), span.get("end"), span.get("surface", span.get("text"))
            if start is None and end is None and isinstance(surface, str):
                surfaces.append((surface, type_))
            elif type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
                raise DataError(
                    f"{path}: span {dict(span)!r} needs start and end within the text's {len(text)} characters"
                )
            else:
                located.append(Span(start, end, type_, text[start:end] if surface is None else surface))
        try:
            return text, [*located, *spans.locate(text, surfaces)]
        except ValueError as error:
            raise DataError(
                f"{path}: column {self.spans_column!r}: {spans.REASONS[str(error)]}: {surfaces!r} in {text!r}; "
                "give start and end to say what is meant"
            ) from None

    def _read_tags(self, tokens: Any, tags: Any, path: str) -> tuple[str, Sequence[Span]]:
        for column, values in ((self.tokens_column, tokens), (self.tags_column, tags)):
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise DataError(
                    f"{path}: column {column!r} holds {values!r}; tokens, and tags by name, are lists of strings"
                )
        if len(tokens) != len(tags):
            raise DataError(
                f"{path}: {len(tokens)} tokens in {self.tokens_column!r}, {len(tags)} tags in {self.tags_column!r}"
            )
        tagged = [(token, tag) for token, tag in zip(tokens, tags, strict=True) if token.strip()]
        if not tagged:
            raise DataError(f"{path}: column {self.tokens_column!r} holds {tokens!r}; every row needs a text")
        text, offsets = iob.join_tokens([token for token, _ in tagged])
        try:
            runs = iob.runs([tag for _, tag in tagged])
        except ValueError as error:
            raise DataError(f"{path}: column {self.tags_column!r}: {error}") from None
        return text, iob.spans([run for run in runs if self._is_task_type(run[2], path)], offsets, text)

    def _is_task_type(self, type_: Any, path: str) -> bool:
        if type_ in self.types:
            return True
        if self.ignore_other_types and isinstance(type_, str):
            return False
        hint = nearest(type_, self.types) if isinstance(type_, str) else ""
        raise DataError(
            f"{path}: {type_!r} is no type of the task{hint}; to drop spans of other types set task.ignore_other_types: true"
        )

    def describe(self) -> Mapping[str, Any]:
        return {
            "types": list(self.types),
            "description": self.description,
            "type_descriptions": dict(self.type_descriptions),
            "labelling": self.labelling,
        }

    def show(self, sample: Sample) -> Mapping[str, Any]:
        """`target` is the right answer to a labelling prompt, `marked` the text with marks, `spans` the spans as stored."""
        annotated = _spans(sample.target)
        marked = marking.mark(sample.text, annotated)
        entities = list(dict.fromkeys((span.surface, span.type) for span in annotated))
        answer = {"entities": [{"text": surface, "type": type_} for surface, type_ in entities]}
        return {
            "text": sample.text,
            "target": marked if self.labelling == "grammar" else orjson.dumps(answer).decode(),
            "marked": marked,
            **self.to_row(annotated),
        }

    def label_constraint(self, text: str) -> Constraint:
        if self.labelling == "grammar":
            return Constraint(grammar=marking.grammar(text, self.types) if text.strip() else 'root ::= ""\n')
        offsets = marking.word_offsets(text)
        surface: dict[str, Any] = {"type": "string"}
        if self.labelling == "enum" and offsets:
            runs = (
                text[start:end]
                for first, (start, _) in enumerate(offsets)
                for _, end in offsets[first : first + self.enum_words]
            )
            surface = {"enum": list(dict.fromkeys(runs))}
        entity = {
            "type": "object",
            "properties": {"text": surface, "type": {"enum": list(self.types)}},
            "required": ["text", "type"],
            "additionalProperties": False,
        }
        return Constraint(
            json_schema={
                "type": "object",
                "properties": {"entities": {"type": "array", "items": entity, "maxItems": len(offsets)}},
                "required": ["entities"],
                "additionalProperties": False,
            }
        )

    def read_label(self, answer: str, text: str) -> Target:
        """The spans in the teacher's answer, whose form is `labelling`.

        Raises Unreadable: "no_label" for an empty answer, "unreadable" for an answer of another form, "unknown_type", a key
        of `spans.REASONS`; for marks also "text_changed" when the answer differs from the text, "truncated" when it ends
        before the text does.
        """
        if not answer.strip():
            raise Unreadable("no_label")
        if self.labelling == "grammar":
            try:
                return marking.read(answer, text, self.types)
            except ValueError as error:
                raise Unreadable(MARK_REASONS.get(str(error), "unreadable")) from None
        try:
            pairs = [(entity["text"], entity["type"]) for entity in orjson.loads(answer)["entities"]]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise Unreadable("unreadable") from None
        if not all(isinstance(part, str) for pair in pairs for part in pair):
            raise Unreadable("unreadable")
        if any(type_ not in self.types for _, type_ in pairs):
            raise Unreadable("unknown_type")
        try:
            return spans.locate(text, pairs)
        except ValueError as error:
            raise Unreadable(str(error)) from None

    def target_of(self, label: str) -> Target | None:
        return None

    def carries(self, target: Target, label: str) -> bool:
        return any(span.type == label for span in _spans(target))

    def supervise(self, sample: Sample) -> TokenExample:
        offsets = marking.word_offsets(sample.text)
        class_index = {tag: index for index, tag in enumerate(self.classes)}
        return TokenExample(
            tuple(sample.text[start:end] for start, end in offsets),
            tuple(offsets),
            tuple(class_index[tag] for tag in iob.tags(_spans(sample.target), offsets)),
            sample.weight,
        )

    def decode(self, example: SequenceExample | TokenExample, probabilities: Any) -> tuple[Target, float]:
        """The spans of the most probable tags, and the mean over the words of their tag's probability.

        `iob.runs` repairs illegal tags. A word without probabilities is O. White space in a surface becomes blanks, because
        an example does not hold the characters between its words.
        """
        assert isinstance(example, TokenExample)
        text = _text(example)
        names = self.classes
        tags = [names[tag] for tag in _most_probable(example, probabilities)]
        confidence = float(probabilities.max(axis=1).mean()) if len(probabilities) else 1.0
        return iob.spans(iob.runs(tags), example.offsets, text), confidence

    def mistakes(self, prediction: Prediction) -> Sequence[Mistake]:
        return spans.mistakes(_spans(prediction.expected), _spans(prediction.predicted))

    def score(self, samples: Sequence[Sample], probabilities: Sequence[Any], seed: int) -> dict[str, Any]:
        """The metrics of `span_measures.tagging` over the most probable tags, not repaired, and

        repaired_micro_f1   micro F1 of the spans that `decode` returns; it repairs tags that are illegal in IOB2
        errors              mistakes in these spans by kind, see `spans.mistakes`
        calibration_error   expected calibration error over words, see `measures.calibration_error`
        """
        import numpy as np

        from evokd_data.tasks.measures import calibration_error
        from evokd_data.tasks.span_measures import tagging

        examples = [self.supervise(sample) for sample in samples]
        expected = [example.targets or () for example in examples]
        predicted = [_most_probable(example, row) for example, row in zip(examples, probabilities, strict=True)]
        metrics = tagging(expected, predicted, self.types, seed)
        decoded = [_spans(self.decode(example, row)[0]) for example, row in zip(examples, probabilities, strict=True)]
        errors = spans.tally(
            mistake
            for sample, got in zip(samples, decoded, strict=True)
            for mistake in spans.mistakes(_spans(sample.target), got)
        )
        total = metrics["spans"] + sum(map(len, decoded))
        right = metrics["spans"] - sum(number for kind, number in errors.items() if kind != "spurious")
        predicted_words = [tag for tags, row in zip(expected, probabilities, strict=True) for tag in tags[: len(row)]]
        return {
            **metrics,
            "repaired_micro_f1": 2 * right / total if total else 0.0,
            "errors": errors,
            "calibration_error": calibration_error(np.asarray(predicted_words), np.concatenate([*probabilities]))
            if predicted_words
            else 0.0,
        }


def _spans(target: Target) -> tuple[Span, ...]:
    assert isinstance(target, tuple)
    return target


def _most_probable(example: TokenExample, probabilities: Any) -> list[int]:
    """A class index for each word of the example; O where the student gave no probabilities."""
    tags = probabilities.argmax(axis=1).tolist() if len(probabilities) else []
    return tags + [0] * (len(example.words) - len(tags))


def _text(example: TokenExample) -> str:
    """The words at their offsets, with blanks between them."""
    text = ""
    for word, (start, _) in zip(example.words, example.offsets, strict=True):
        text = text.ljust(start) + word
    return text
