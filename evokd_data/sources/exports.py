"""Exports of annotation tools as rows {"text", "label"}; `label` is a label, a list of spans, or UNANNOTATED.

    doccano         {"text": "...", "label": [[0, 2, "ORG"]]}; {"entities": [{"start_offset", "end_offset", "label"}]};
                    {"label": ["sports"]}; data_export/pipeline/factories.py
    label-studio    JSON: {"data": {"text": "..."}, "annotations": [{"result": [{"from_name", "type", "value"}]}]};
                    JSON-MIN and CSV: {"text": "...", "label": [{"start", "end", "text", "labels": ["ORG"]}], "annotation_id"}
    argilla         {"fields": {"text": "..."}, "responses": {"label": [{"value", "user_id"}]}}; flat: {"text", "label.responses"}
    prodigy         {"text": "...", "spans": [{"start", "end", "label"}], "answer": "accept"}; {"options", "accept": ["sports"]}

Offsets of doccano (issue 2290) and Argilla (issue 5729) are JavaScript's: they count UTF-16 units, and an emoji is two.
Prodigy's are Python's. Label Studio's were of both kinds (issue 1347, pull request 1559), 1.23 counts characters; its spans bring
their text along, which decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evokd_data import strict_json
from evokd_data.errors import DataError
from evokd_data.tasks import UNANNOTATED, Unit, offsets

Row = Mapping[str, Any]
Answer = tuple[Any, Callable[[], Any]]
"""The text, and what gives its label."""

UNITS: dict[str, Unit | None] = {
    "doccano": "utf-16",
    "label-studio": None,
    "argilla": "utf-16",
    "prodigy": "characters",
}
"""Format -> the unit of its offsets; None where the spans' texts must tell."""

LABEL_STUDIO_UNITS: tuple[Unit, ...] = ("characters", "utf-16")

ARGILLA_REMEDY = "discard all but one, and export dataset.records.to_list(flatten=True), which tells what was discarded"

HOUSEKEEPING = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
"""What Label Studio adds to the fields of a task in JSON-MIN and CSV."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is read of an export. `text` and `label` name a field and a question where there are several; `spans`: spans of
    the text are asked for, not a label for all of it."""

    spans: bool
    text: str | None
    label: str | None


def detect(rows: Iterable[Row], is_row: Callable[[Row], bool]) -> str | None:
    """The tool that wrote these rows, by what only it writes; None when none of them did.

    `is_row` says whether the task can read a row as it is.
    """
    for row in rows:
        keys = row.keys()
        if "_task_hash" in keys or "_input_hash" in keys:
            return "prodigy"
        if isinstance(row.get("data"), Mapping) and ("annotations" in keys or "completions" in keys):
            return "label-studio"
        if {"annotation_id", "annotator", "lead_time"} <= keys:
            return "label-studio"
        if isinstance(row.get("fields"), Mapping) and "responses" in keys:
            return "argilla"
        if any(key.endswith(".responses") for key in keys):
            return "argilla"
        if "text" in keys and any(_is_doccano(row.get(key)) for key in ("label", "labels", "entities")):
            return None if is_row(row) else "doccano"
    return None


def convert(rows: Iterable[Row], tool: str, question: Question, source: str, labelled: bool) -> Iterator[Row]:
    """Rows {"text", "label"}; without `labelled` the labels are not looked at, and all are UNANNOTATED.

    Raises DataError, which names source and row, for a row that the tool does not export.
    """
    read = _READERS[tool]
    for number, row in enumerate(rows, 1):
        try:
            text, label = read(row, question)
            yield {"text": text, "label": label() if labelled else UNANNOTATED}
        except _NotReadable as error:
            raise DataError(f"{source}, row {number}: {error}") from None


class _NotReadable(Exception):
    """The row is not what the tool exports, or does not decide; the message says what to do."""


def _is_doccano(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    if isinstance(first, Mapping):
        return "start_offset" in first
    return isinstance(first, str) or (isinstance(first, list) and [type(item) for item in first] == [int, int, str])


def _doccano(row: Row, question: Question) -> Answer:
    def label() -> Any:
        keys = [question.label] if question.label else ["label", "labels", "entities", "cats"]
        key = next((key for key in keys if key in row), None)
        if key is None:
            raise _NotReadable(f"has none of {', '.join(map(repr, keys))}; export as JSONL, or set `label`")
        value = row[key]
        if question.spans:
            if not isinstance(value, list):
                raise _NotReadable(f"{key!r} holds {value!r}; export a project for sequence labelling as JSONL")
            return value
        if isinstance(value, str):  # doccano's CSV
            value = value.split("#") if value else []
        return _only(value, key)

    return row.get(question.text) if question.text else row.get("text", row.get("data")), label


def _label_studio(row: Row, question: Question) -> Answer:
    if not isinstance(row.get("data"), Mapping):
        return _label_studio_min(row, question)

    def label() -> Any:
        annotations = row.get("annotations", row.get("completions")) or []
        done = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
        truths = [annotation for annotation in done if annotation.get("ground_truth")]
        answers = [
            _label_studio_answer(annotation.get("result") or [], question, text) for annotation in truths or done
        ]
        return _agreed(answers, f"task {row.get('id')}", "delete all but one, or mark one as ground truth")

    text = _text(row["data"], question)
    return text, label


def _label_studio_answer(results: Sequence[Row], question: Question, text: Any) -> Any:
    """The answer in the results of one annotation."""
    key = "labels" if question.spans else "choices"
    fitting = [result for result in results if isinstance(result.get("value"), Mapping) and key in result["value"]]
    names = list(dict.fromkeys(str(result.get("from_name")) for result in fitting))
    if question.label is not None:
        fitting = [result for result in fitting if result.get("from_name") == question.label]
    elif len(names) > 1:
        raise _NotReadable(f"has answers to {', '.join(map(repr, names))}; name one of them in `label`")
    if question.spans:
        return [_with_line_breaks(result["value"], text) for result in fitting]
    return _only([choice for result in fitting for choice in result["value"]["choices"]], "choices")


def _with_line_breaks(value: Row, text: Any) -> Row:
    """A span's value with the text it has where it lies: Label Studio writes a line break in it as a backslash and an n."""
    written, start, end = value.get("text"), value.get("start"), value.get("end")
    if isinstance(text, str) and isinstance(written, str) and "\\n" in written and type(start) is type(end) is int:
        for unit in LABEL_STUDIO_UNITS:
            for first, last in offsets.in_characters(text, [(start, end)], unit) or ():
                if _one_form(text[first:last]) == _one_form(written):
                    return {**value, "text": text[first:last]}
    return dict(value)


def _one_form(text: str) -> str:
    """A text in which line breaks, whether they are written out or not, are the same."""
    return text.replace("\\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def _label_studio_min(row: Row, question: Question) -> Answer:
    """JSON-MIN: the fields of the task, and an answer for each question that has one, in one object."""
    if not {"annotation_id", "annotator"} <= row.keys():
        raise _NotReadable(f"has the keys {_names(row)}; export from Label Studio as JSON, JSON-MIN or CSV")
    cells = {key: _cell(value) for key, value in row.items() if key not in HOUSEKEEPING}
    annotations = {key: value for key, value in cells.items() if _is_list_of(value, "labels")}
    fields = {key: value for key, value in cells.items() if key not in annotations and key != question.label}

    def label() -> Any:
        if question.spans:
            answers = annotations
            nothing: Any = []
        else:
            answers = {k: v for k, v in cells.items() if (isinstance(v, str) and v != text) or _is_choices(v)}
            nothing = UNANNOTATED
        name = question.label or next(iter(answers), "")
        if question.label is None and len(answers) > 1:
            raise _NotReadable(f"has answers to {', '.join(map(repr, answers))}; name one of them in `label`")
        if row["annotation_id"] in (None, ""):
            return UNANNOTATED
        answer = cells.get(name) or nothing
        if question.spans:
            return [_with_line_breaks(v, text) for v in answer] if _is_list_of(answer, "labels") else answer
        return _only(answer["choices"] if isinstance(answer, Mapping) else answer, name)

    text = _text(fields, question)
    return text, label


def _argilla(row: Row, question: Question) -> Answer:
    end = ".responses"
    responses: dict[str, list[tuple[Any, Any]]] = {}
    if isinstance(row.get("fields"), Mapping):
        fields = row["fields"]
        if not isinstance(row.get("responses") or {}, Mapping):
            raise _NotReadable("holds responses of Argilla 1; export with argilla 2: dataset.records.to_json(path)")
        for name, items in (row.get("responses") or {}).items():
            responses[name] = [(item.get("value"), item.get("status")) for item in items]
    elif any(key.endswith(end) for key in row):
        fields = {
            key: value for key, value in row.items() if "." not in key and key not in ("id", "_server_id", "status")
        }
        for key in (key for key in row if key.endswith(end)):
            values = row[key] or []
            states = row.get(f"{key}.status") or [None] * len(values)
            responses[key.removesuffix(end)] = list(zip(values, states, strict=False))
    else:
        raise _NotReadable(f"has the keys {_names(row)}; export from Argilla with dataset.records.to_json(path)")

    # `to_json` writes no state of a response: of a record that nobody has completed it may be a draft or discarded.
    unsaid = "draft" if row.get("status") == "pending" else "submitted"

    def label() -> Any:
        done = {
            name: [value for value, state in items if (state or unsaid) not in ("draft", "discarded")]
            for name, items in responses.items()
        }
        answers = {name: values for name, values in done.items() if values}
        if question.label is not None:
            answers = {question.label: done.get(question.label, [])}
        else:
            answers = {
                name: values for name, values in answers.items() if isinstance(values[0], list) == question.spans
            }
        if len(answers) > 1:
            raise _NotReadable(f"has answers to {', '.join(map(repr, answers))}; name one of them in `label`")
        return _agreed(next(iter(answers.values()), []), f"record {row.get('id')}", ARGILLA_REMEDY)

    return _text(fields, question), label


def _prodigy(row: Row, question: Question) -> Answer:
    def label() -> Any:
        if row.get("answer", "accept") != "accept":
            return UNANNOTATED
        if question.spans:
            if row.get("_is_binary"):
                raise _NotReadable(
                    "is the answer to one suggestion, which says nothing of the text's other spans; annotate with "
                    "ner.manual or ner.correct"
                )
            return row.get(question.label or "spans") or []
        if question.label is None and ("options" in row or "accept" in row):
            return _only(row.get("accept") or [], "accept")
        return row.get(question.label or "label", UNANNOTATED)

    return row.get(question.text or "text"), label


def _text(fields: Row, question: Question) -> Any:
    """The field with the text: the one that is named, else `text`, else the only string."""
    if question.text is not None:
        if question.text not in fields:
            raise _NotReadable(f"has no field {question.text!r}, but {_names(fields)}; name one in `text`")
        return fields[question.text]
    if "text" in fields:
        return fields["text"]
    strings = [key for key, value in fields.items() if isinstance(value, str)]
    if len(strings) != 1:
        raise _NotReadable(f"has the fields {_names(fields)}; name the one with the text in `text`")
    return fields[strings[0]]


def _only(values: Any, key: str) -> Any:
    """The one label; UNANNOTATED for an empty list."""
    if not isinstance(values, list):
        return values
    if len(values) > 1:
        raise _NotReadable(
            f"{key!r} holds {values!r}, more than one label; keep one, a text has one label in this task"
        )
    return values[0] if values else UNANNOTATED


def _agreed(answers: Sequence[Any], name: str, remedy: str) -> Any:
    """The answer that all annotators gave; UNANNOTATED without one."""
    answers = [answer for answer in answers if answer is not UNANNOTATED]
    if not answers:
        return UNANNOTATED
    if any(_comparable(answer) != _comparable(answers[0]) for answer in answers):
        raise _NotReadable(f"{name} has {len(answers)} annotations that differ; {remedy}")
    return answers[0]


def _comparable(answer: Any) -> Any:
    """An answer in which the order of spans does not matter."""
    return sorted(map(repr, answer)) if isinstance(answer, list) else answer


def _cell(value: Any) -> Any:
    """A value of JSON-MIN; in Label Studio's CSV, lists are JSON in a cell."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return strict_json.loads(value)
        except ValueError:
            return value
    return value


def _is_list_of(value: Any, key: str) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and key in item for item in value)


def _is_choices(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("choices"), list)


def _names(row: Row) -> str:
    return ", ".join(map(repr, list(row)[:8])) or "none"


_READERS: dict[str, Callable[[Row, Question], Answer]] = {
    "doccano": _doccano,
    "label-studio": _label_studio,
    "argilla": _argilla,
    "prodigy": _prodigy,
}
