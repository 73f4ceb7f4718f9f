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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from evokd_data.errors import DataError
from evokd_data.records import (
    Constraint,
    Mistake,
    Outcome,
    Prediction,
    Sample,
    SequenceExample,
    Span,
    Target,
    TokenExample,
)
from evokd_data.registry import nearest
from evokd_data.settings import Count, from_anyone
from evokd_data.tasks import PLAIN, Layout, Unreadable, cell, conll, has, iob, marking, span_answers, span_rows, spans
from evokd_data.tasks.nouns import all_in_words, plural, with_article
from evokd_data.tasks.span_rows import as_list, first_wrong, is_list, is_tag_like

if TYPE_CHECKING:
    import pyarrow as pa

Column = Annotated[str, Field(min_length=1)]

ANSWER_FORMS = ("grammar", "enum", "json")
"""The values of `NER.labelling` but for `auto`: those with which less can be invented come first."""


@from_anyone(
    "types", "description", "noun", "nouns", "type_descriptions", "labelling", "enum_words", "ignore_other_types",
    "text_column", "spans_column", "tokens_column", "tags_column",
)  # fmt: skip
@dataclass(frozen=True)
class NER:
    """Spans of each text, each of one type."""

    name: ClassVar[str] = "ner"
    hub_category: ClassVar[str] = "token-classification"
    templates: ClassVar[str] = "ner"
    suffixes: ClassVar[tuple[str, ...]] = conll.SUFFIXES
    class_field: ClassVar[str] = "spans.type"

    types: Annotated[tuple[str, ...], Field(min_length=1)]
    """The types of spans that the student must find."""
    description: str = ""
    """What the texts are and what is marked in them, as a phrase that goes into prompts."""
    noun: Annotated[str, Field(min_length=1)] = "text"
    """What one text is, in a word or a few: sentence, customer message, medical report. Prompts ask for it."""
    nouns: str = ""
    """The plural of `noun`. By default the word before the first preposition gets an s, or the last word. Give it where that is
    wrong."""
    type_descriptions: Mapping[str, str] = field(default_factory=dict)
    """What a type means, in a sentence for the teacher, e.g. whether a title belongs to a name."""
    labelling: Literal["auto", "grammar", "json", "enum"] = "auto"
    """The form of the teacher's answer. `auto`: that which serves your teacher best on the seeds, by its exam; without an
    exam the first that its engine can be held to. `grammar`: the text with marks in it, under a grammar made from the text;
    nothing else can be written, and of a surface that occurs twice one occurrence can be marked. `enum`: a list of
    entities whose texts are runs of words of the text; nothing can be invented, and an entity stands for all its
    occurrences. `json`: the same list with free strings; an answer with a span that is not in the text is rejected."""
    enum_words: Count = 8
    """With `labelling: enum`, the most words an entity has."""
    ignore_other_types: bool = False
    """Drop spans of types that are not in `types` from your data. By default such a span is an error."""
    text_column: Column = "text"
    """The column of your files that holds the text, beside `spans_column`."""
    spans_column: Column = "spans"
    """The column of your files that holds the spans of a text."""
    tokens_column: Column = "tokens"
    """The column of your files that holds the words of a text, beside `tags_column`."""
    tags_column: Column = "ner_tags"
    """The column of your files that holds a tag for each word."""

    @property
    def answer_forms(self) -> tuple[str, ...]:
        return ANSWER_FORMS if self.labelling == "auto" else (self.labelling,)

    @property
    def _form(self) -> str:
        return self.answer_forms[0]

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
        for first, second in combinations(("text_column", "spans_column", "tokens_column", "tags_column"), 2):
            if getattr(self, first) == getattr(self, second):
                raise ValueError(f"{first} and {second} are both {getattr(self, first)!r}")

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

    def read_lines(self, lines: Iterable[str], path: str) -> Iterator[Mapping[str, Any]]:
        """The rows of a CoNLL column file."""
        for tokens, tags in conll.sentences(lines, path):
            yield {self.tokens_column: tokens, self.tags_column: tags}

    def may_be_called(self, name: str) -> bool:
        type_ = iob.type_of(name) if iob.is_tag(name) else name
        return type_ in ("", *self.types) or self.ignore_other_types

    def read_example(self, row: Mapping[str, Any], path: str, layout: Layout = PLAIN) -> tuple[str, Target]:
        """The row's spans, sorted. `check` reports those that overlap or cut words. Raises DataError."""
        text, spans_at = layout.text or self.text_column, layout.label or self.spans_column
        tokens, tags_at = layout.text or self.tokens_column, layout.label or self.tags_column
        by_spans, by_tags = has(row, text) and has(row, spans_at), has(row, tokens) and has(row, tags_at)
        if by_spans and by_tags and (layout.text or layout.label):
            # The columns have been named, and what they hold says what they are.
            by_spans = not (is_list(cell(row, tokens)) and all(map(is_tag_like, as_list(cell(row, tags_at)) or [{}])))
        if by_spans:
            example, annotated = self._read_spans(row, text, spans_at, path, layout)
        elif by_tags:
            example, annotated = self._read_tags(row, tokens, tags_at, path, layout)
        else:
            raise DataError(
                f"{path}: columns {', '.join(map(str, row)) or 'none'}; a row needs {text!r} and {spans_at!r}, or {tokens!r} "
                f"and {tags_at!r}: set task.text_column, spans_column, tokens_column, tags_column, or text and label where "
                "the file is named"
            )
        visible = set(spans.without_invisible_edges(example, annotated))
        return example, tuple(sorted(visible, key=lambda span: (span.start, span.end, span.type)))

    def read_text(self, row: Mapping[str, Any], path: str, layout: Layout = PLAIN) -> str:
        """The text, or its tokens joined. Raises DataError."""
        column = layout.text or self.text_column
        if has(row, column) and not (layout.text and is_list(cell(row, column))):
            return self._text(cell(row, column), column, path)
        column = layout.text or self.tokens_column
        tokens = as_list(cell(row, column)) if has(row, column) else None
        return self._join(tokens, ["O"] * len(tokens) if isinstance(tokens, list) else [], column, path)[0]

    def _text(self, text: Any, column: str, path: str) -> str:
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: column {column!r} holds {text!r}; every row needs a text")
        return text

    def _read_spans(
        self, row: Mapping[str, Any], text_at: str, spans_at: str, path: str, layout: Layout
    ) -> tuple[str, Sequence[Span]]:
        text = self._text(cell(row, text_at), text_at, path)
        try:
            annotations = [replace(a, type=layout.named(a.type)) for a in span_rows.parse(cell(row, spans_at))]
        except ValueError as error:
            raise DataError(f"{path}: column {spans_at!r} {error}") from None
        annotations = [annotation for annotation in annotations if self._is_task_type(annotation.type, path)]
        try:
            return text, span_rows.place(text, annotations, layout.offsets, self.types)
        except ValueError as error:
            raise DataError(f"{path}: column {spans_at!r}: {error}") from None

    def _read_tags(
        self, row: Mapping[str, Any], tokens_at: str, tags_at: str, path: str, layout: Layout
    ) -> tuple[str, Sequence[Span]]:
        tokens, tags = as_list(cell(row, tokens_at)), as_list(cell(row, tags_at))
        if isinstance(tags, list):
            tags = [layout.named(tag) for tag in tags]
        for column, values in ((tokens_at, tokens), (tags_at, tags)):
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise DataError(f"{path}: column {column!r} holds {first_wrong(values)}")
        if len(tokens) != len(tags):
            raise DataError(f"{path}: {len(tokens)} tokens in {tokens_at!r}, {len(tags)} tags in {tags_at!r}")
        text, offsets, tags = self._join(tokens, tags, tokens_at, path)
        try:
            runs = iob.runs(tags)
        except ValueError as error:
            raise DataError(f"{path}: column {tags_at!r}: {error}") from None
        runs = [(first, last, layout.named(type_)) for first, last, type_ in runs]
        return text, iob.spans([run for run in runs if self._is_task_type(run[2], path)], offsets, text)

    def _join(
        self, tokens: Any, tags: Sequence[str], column: str, path: str
    ) -> tuple[str, list[tuple[int, int]], list[str]]:
        """Text, offsets and tags of the tokens that are not blank."""
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError(f"{path}: column {column!r} holds {first_wrong(tokens)}")
        tagged = [(token, tag) for token, tag in zip(tokens, tags, strict=True) if token.strip()]
        if not tagged:
            raise DataError(f"{path}: column {column!r} holds {tokens!r}; every row needs a text")
        text, offsets = iob.join_tokens([token for token, _ in tagged])
        return text, offsets, [tag for _, tag in tagged]

    def _is_task_type(self, type_: Any, path: str) -> bool:
        if type_ in self.types:
            return True
        if self.ignore_other_types and isinstance(type_, str):
            return False
        hint = nearest(type_, self.types) if isinstance(type_, str) else ""
        raise DataError(
            f"{path}: {type_!r} is no type of the task{hint}; to drop spans of other types set task.ignore_other_types: true, "
            "to rename them label_map where the file is named"
        )

    def describe(self) -> Mapping[str, Any]:
        return {
            "types": list(self.types),
            "names": dict(all_in_words(self.types)),
            "noun": self.noun,
            "a_noun": with_article(self.noun),
            "nouns": self.nouns or plural(self.noun),
            "description": self.description,
            "type_descriptions": dict(self.type_descriptions),
            "labelling": self._form,
        }

    def show(self, sample: Sample) -> Mapping[str, Any]:
        """`target` is the right answer to a labelling prompt, `marked` the text with marks, `spans` the spans as stored."""
        annotated = _spans(sample.target)
        marked = marking.mark(sample.text, annotated)
        entities = list(dict.fromkeys((span.surface, span.type) for span in annotated))
        answer = {"entities": [{"text": surface, "type": type_} for surface, type_ in entities]}
        return {
            "text": sample.text,
            "target": marked if self._form == "grammar" else orjson.dumps(answer).decode(),
            "marked": marked,
            **self.to_row(annotated),
        }

    def label_constraint(self, text: str) -> Constraint:
        if self._form == "grammar":
            return Constraint(grammar=marking.grammar(text, self.types) if text.strip() else 'root ::= ""\n')
        offsets = marking.word_offsets(text)
        surface: dict[str, Any] = {"type": "string"}
        if self._form == "enum" and offsets:
            runs = (
                text[start:end]
                for first, (start, _) in enumerate(offsets)
                for _, end in offsets[first : first + self.enum_words]
            )
            surface = {"enum": list(dict.fromkeys(runs))}
        return Constraint(json_schema=span_answers.list_schema(surface, self.types, len(offsets)))

    def read_label(self, answer: str, text: str) -> Target:
        """The spans in the teacher's answer, in the form of `labelling`.

        Raises Unreadable: "no_label" for an empty answer, "unreadable" for an answer of another form, "unknown_type", a key
        of `spans.REASONS`; for marks also "text_changed" when the answer differs from the text, "truncated" when it ends
        before the text does.
        """
        if not answer.strip():
            raise Unreadable("no_label")
        return tuple(spans.without_invisible_edges(text, (span for span, _ in self._read_answer(answer, text))))

    def span_probabilities(self, answer: str, text: str, logprobs: Mapping[str, float]) -> tuple[float, ...] | None:
        """Of its mark, or of its entry in a list, given all that stands before it: the product over the tokens of words and type."""
        places = [place for _, place in self._read_answer(answer, text)]
        return span_answers.probabilities([place for place in places if place is not None], logprobs, len(places))

    def _read_answer(self, answer: str, text: str) -> list[tuple[Span, span_answers.Place | None]]:
        """The spans, each with its characters in the answer, as far as they are known."""
        if self._form == "grammar":
            try:
                return [(span, [place]) for span, place in marking.read_marks(answer, text, self.types)]
            except ValueError as error:
                raise Unreadable(span_answers.MARK_REASONS.get(str(error), "unreadable")) from None
        try:
            pairs = span_answers.read_list(answer)
        except ValueError:
            raise Unreadable("unreadable") from None
        if any(type_ not in self.types for _, type_ in pairs):
            raise Unreadable("unknown_type")
        try:
            located = spans.locate(text, pairs)
        except ValueError as error:
            raise Unreadable(str(error)) from None
        places = span_answers.entity_places(answer, pairs)
        return [(span, places.get((span.surface, span.type))) for span in located]

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
        text = iob.text_of(example)
        names = self.classes
        tags = [names[tag] for tag in iob.most_probable(example, probabilities)]
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
        predicted = [iob.most_probable(example, row) for example, row in zip(examples, probabilities, strict=True)]
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

    def outcomes(self, samples: Sequence[Sample], probabilities: Sequence[Any]) -> list[Outcome]:
        """Of the most probable tags, not repaired, as `score` counts them."""
        from evokd_data.tasks.span_measures import outcomes

        examples = [self.supervise(sample) for sample in samples]
        predicted = [iob.most_probable(example, row) for example, row in zip(examples, probabilities, strict=True)]
        return outcomes([example.targets or () for example in examples], predicted, len(self.types))


def _spans(target: Target) -> tuple[Span, ...]:
    assert isinstance(target, tuple)
    return target
