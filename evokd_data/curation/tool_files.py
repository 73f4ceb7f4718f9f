"""Samples as files of annotation tools, and what came back from the tool as decisions.

    doccano        JSONL   {"text": "...", "label": ["sports"], "evokd_id": "1:9f86...:7c21..."}; spans: [[0, 2, "ORG"]]
    label-studio   JSON    {"data": {"text": "...", "evokd_id": "1:9f86...:7c21..."}, "predictions": [{"result": [...]}]}
    argilla        JSON    {"id": "1:9f86...:7c21...", "fields": {"text": "..."}, "suggestions": {"label": {"value": "sports"}}, ...}

`evokd_id`, in Argilla the record's id, is the round and the id of the sample, and the name of the export (see `export_records`); each
tool gives it back.
Offsets count what the tool's page counts: UTF-16 units in doccano 1.8 and Argilla 2.8, characters in Label Studio 1.23.
What comes back is read by `sources.exports`, which reads seeds from the same tools.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import accumulate
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import write_text
from evokd_data.curation.export_records import exported_keys, record_export
from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.curation.rules import suspicious_first
from evokd_data.errors import DataError
from evokd_data.recipe_sections import Source
from evokd_data.records import Sample, Span, Target
from evokd_data.registry import nearest
from evokd_data.settings import short
from evokd_data.sources import raw_rows
from evokd_data.sources.exports import UNITS, Question, convert
from evokd_data.storage.corrected_rounds import ACCEPT, REJECT, RELABEL
from evokd_data.storage.corrections import RowKey
from evokd_data.tasks import UNANNOTATED, Layout

TOOLS = ("doccano", "label-studio", "argilla")
ID = "evokd_id"
MISSING = ("reject", "leave")
"""What it means that a sample is not in the file that came back: it was deleted in the tool, or it was not looked at."""


@dataclass(frozen=True)
class Exported:
    """How many samples a file holds, and how many are left out because the tool would refuse them."""

    written: int
    left_out: int


def export_samples(review: ReviewedRun, into: Path, tool: str) -> Exported:
    """Write the samples that nothing is decided about for an annotation tool, in the order of the page: who corrects only the first
    ones corrects what is most likely wrong."""
    write = _WRITERS[tool]
    decided = review.decisions()
    undecided = [key for key in suspicious_first(review) if key not in decided]
    keys = [key for key in undecided if tool != "argilla" or _argilla_takes(review.sample(key))]
    # The name of an export says which samples it holds, in whatever order.
    export = record_export(review.workspace, sorted(keys, key=review.index_of.__getitem__))
    rows = [write(review.sample(key), f"{_key_text(key)}:{export}") for key in keys]
    if tool == "doccano":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    write_text(into, text)
    return Exported(len(keys), len(undecided) - len(keys))


def _utf16(text: str, spans: Sequence[Span]) -> list[tuple[int, int, Span]]:
    """Start and end of each span in UTF-16 units, and the span."""
    offsets = list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))
    return [(offsets[span.start], offsets[span.end], span) for span in spans]


def _doccano(sample: Sample, name: str) -> dict[str, Any]:
    target = sample.target
    if isinstance(target, str):
        label: list[Any] = [target]
    else:
        label = [[start, end, span.type] for start, end, span in _utf16(sample.text, target)]
    return {"text": sample.text, "label": label, ID: name}


def _label_studio(sample: Sample, name: str) -> dict[str, Any]:
    target = sample.target
    common = {"from_name": "label", "to_name": "text"}
    if isinstance(target, str):
        result: list[dict[str, Any]] = [{**common, "type": "choices", "value": {"choices": [target]}}]
    else:
        values = [
            {"start": span.start, "end": span.end, "text": span.surface, "labels": [span.type]} for span in target
        ]
        result = [{**common, "type": "labels", "value": value} for value in values]
    return {
        "data": {"text": sample.text, ID: name},
        "predictions": [{"model_version": "evokd-data", "result": result}],
    }


def _argilla_takes(sample: Sample) -> bool:
    """Whether Argilla's server lets the spans in, and its page shows them where they are.

    The page counts UTF-16 units; the server compares the ends with the text's length in characters, and refuses the whole file for one
    that lies beyond (issue 5729). The page shows the text as HTML: tags and carriage returns vanish from it, entities shrink.
    """
    text, target = sample.text, sample.target
    if isinstance(target, str):
        return True
    is_plain = "\r" not in text and unescape(text) == text and not re.search(r"<[a-zA-Z/!?]", text)
    return is_plain and all(end <= len(text) for _, end, _ in _utf16(text, target))


def _argilla(sample: Sample, name: str) -> dict[str, Any]:
    target = sample.target
    if isinstance(target, str):
        value: Any = target
    else:
        value = [{"start": start, "end": end, "label": span.type} for start, end, span in _utf16(sample.text, target)]
    suggestion = {"value": value, "score": None, "agent": "evokd-data"}
    # The id is the name: metadata are refused by data sets whose settings do not list them.
    rest: dict[str, Any] = {"metadata": {}, "responses": {}, "vectors": {}, "status": "pending"}
    return {"id": name, "fields": {"text": sample.text}, "suggestions": {"label": suggestion}, **rest}


_WRITERS: dict[str, Callable[[Sample, str], dict[str, Any]]] = {
    "doccano": _doccano,
    "label-studio": _label_studio,
    "argilla": _argilla,
}


Answer = tuple[str, Target | None]
"""An action, and the new target of a row that is relabelled."""


@dataclass(frozen=True)
class Imported:
    """What a file decided anew: how many rows were confirmed, relabelled, rejected. `known`: how many were decided so before; `undecided`
    in the file; `gone`: withdrawn since the export."""

    accept: int
    relabel: int
    reject: int
    known: int
    undecided: int
    gone: int


def import_decisions(review: ReviewedRun, path: Path, tool: str | None, missing: str | None) -> Imported:
    """Write down what a file of an annotation tool decides. Either all of it is written down or, after an error, none.

    `tool` None: the file tells. `missing` is one of MISSING; None is refused where samples of its export are missing in the file. Raises
    DataError, which names the row and quotes the value, for a file that is not such an export.
    """
    decided = review.decisions()
    answers: dict[RowKey, Answer] = {}
    present, exports, gone, undecided = set[RowKey](), set[str](), 0, 0
    for number, (key, export), action, target in _answers(review, path, tool):
        exports.add(export)
        if key in review.withdrawn:
            gone += 1
            continue
        if key in present:
            raise DataError(f"{path}, row {number}: {ID} {_key_text(key)!r} is there twice; keep one of the rows")
        present.add(key)
        if action is None:
            undecided += 1
        else:
            answers[key] = action, target
    absent: list[RowKey] = []
    if missing != "leave":
        exported = exported_keys(review.workspace, exports, path)
        absent = [key for key in review.index_of if key in exported and key not in present and key not in decided]
    if absent and missing is None:
        raise DataError(
            f"{path}: {len(absent)} samples of its export are not in it; say what that means: --missing reject, when they were deleted in "
            "the tool, or --missing leave, when the tool exported annotated texts only, as Label Studio does"
        )
    answers |= dict.fromkeys(absent, (REJECT, None))
    new = _write_down(review, answers)
    actions = Counter(action for action, _ in new.values())
    return Imported(actions[ACCEPT], actions[RELABEL], actions[REJECT], len(answers) - len(new), undecided, gone)


def _write_down(review: ReviewedRun, answers: Mapping[RowKey, Answer]) -> Mapping[RowKey, Answer]:
    """One record for each new target, and one for all rows of the other actions: a kill leaves whole records, and the same import
    completes them. Returns what was not decided so before."""
    decided = review.decisions()
    to_row = review.task.to_row

    def is_known(key: RowKey, action: str, target: Target | None) -> bool:
        decision = decided.get(key)
        return decision is not None and (decision.action, decision.to) == (
            action,
            target if target is None else to_row(target),
        )

    new = {key: answer for key, answer in answers.items() if not is_known(key, *answer)}
    for action in (ACCEPT, REJECT):
        if keys := [key for key, (other, _) in new.items() if other == action]:
            review.log.add(review.taken, action, keys)
    by_target: dict[Target, list[RowKey]] = {}
    for key, (action, target) in new.items():
        if action == RELABEL and target is not None:
            by_target.setdefault(target, []).append(key)
    for target, keys in by_target.items():
        review.log.add(review.taken, RELABEL, keys, dict(to_row(target)))
    return new


def _answers(
    review: ReviewedRun, path: Path, tool: str | None
) -> Iterator[tuple[int, tuple[RowKey, str], str | None, Target | None]]:
    """(row number, sample and name of the export, action or None for undecided, new target) of each row of the file."""
    rows, detected = raw_rows(Source(path=path))
    raw = list(rows)
    if detected is None and raw and {ID, "text"} <= raw[0].keys():
        detected = "doccano"  # its spans look like anybody's; the other tools are known by keys of their own
    tool = tool or detected
    if tool not in TOOLS:
        raise DataError(f"{path}: cannot tell which tool wrote it; add --format with one of {', '.join(TOOLS)}")
    task = review.task
    question = Question(task.target_of(task.labels[0]) is None, None, None)
    layout = Layout("text", "label", UNITS[tool])
    # In Label Studio's flat forms, fields of the task look like answers.
    without_id = ({field: value for field, value in row.items() if field != ID} for row in raw)
    converted = convert(without_id, tool, question, str(path), labelled=True)
    for number, (row, read) in enumerate(zip(raw, converted, strict=True), 1):
        where = f"{path}, row {number}"
        key, export = _key_of(row, where)
        if key not in review.index_of and key not in review.withdrawn:
            raise DataError(
                f"{where}: {ID}: {_key_text(key)!r} is no sample of {review.workspace.root}; import the file of this run"
            )
        if key in review.withdrawn:
            yield number, (key, export), None, None
            continue
        sample = review.sample(key)
        if read["text"] != sample.text:
            raise DataError(
                f"{where}: the text is {short(read['text'])}, the sample's is {short(sample.text)}; a correction changes labels, not texts"
            )
        if tool == "argilla" and row.get("status") == "pending" and None in _argilla_states(row):
            raise DataError(
                f"{where}: its response is a draft or discarded, and the file does not tell which; export "
                "dataset.records.to_list(flatten=True) as JSON"
            )
        if _is_discarded(row, tool):
            yield number, (key, export), REJECT, None
        elif read["label"] is UNANNOTATED:
            yield number, (key, export), None, None
        else:
            target = task.read_example(read, where, layout)[1]
            if problem := task.check(sample.text, target):
                raise DataError(
                    f"{where}: {short(read['label'])} cannot be right for {short(sample.text)}: {problem}; correct it in the tool and export again"
                )
            if target != sample.target:
                yield number, (key, export), RELABEL, target
            else:  # doccano has our labels as annotations: nobody need have looked at them
                yield number, (key, export), None if tool == "doccano" else ACCEPT, None


def _key_text(key: RowKey) -> str:
    return f"{key[0]}:{key[1]}"


def _key_of(row: Mapping[str, Any], where: str) -> tuple[RowKey, str]:
    tables = [row, *(row[key] for key in ("data", "meta", "metadata") if isinstance(row.get(key), Mapping))]
    value = next((table[ID] for table in tables if ID in table), row.get("id"))
    head, name, export = parts if isinstance(value, str) and len(parts := value.split(":")) == 3 else ("", "", "")
    if not head.isdecimal() or not name:
        fields = [key for table in tables for key in table]
        raise DataError(
            f"{where}: has no {ID} ({short(value)}){nearest(ID, fields)}; import what evokd-data review --export wrote, with that field kept"
        )
    return (int(head), name), export


def _is_discarded(row: Mapping[str, Any], tool: str) -> bool:
    """Whether the person skipped the text in the tool: Label Studio's cancelled annotations, Argilla's discarded responses."""
    if tool == "label-studio":
        annotations = row.get("annotations") or []
        return bool(annotations) and all(a.get("was_cancelled") or a.get("skipped") for a in annotations)
    if tool == "argilla":
        if row.get("status") == "discarded":
            return True
        states = _argilla_states(row)
        return bool(states) and all(state == "discarded" for state in states)
    return False


def _argilla_states(row: Mapping[str, Any]) -> list[str | None]:
    """The state of each response of a record; None where the export does not tell it."""
    if isinstance(responses := row.get("responses"), Mapping):
        return [item.get("status") for items in responses.values() for item in items]
    return [state for key, states in row.items() if key.endswith(".responses.status") for state in states or []]
