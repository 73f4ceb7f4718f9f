"""Samples go to an annotation tool and come back as decisions, by their ids; what is wrong in a file is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.curation.rules import suspicious_first
from evokd_data.curation.tool_files import TOOLS, Exported, Imported, export_samples, import_decisions
from evokd_data.errors import DataError
from evokd_data.records import Span
from evokd_data.storage.corrections import CorrectionLog
from evokd_data.storage.workspace import Workspace
from tests.support.finished_runs import make_round, make_run, make_samples


@pytest.fixture
def review(tmp_path: Path) -> ReviewedRun:
    """Rounds 1 and 2 of 12 samples each, with hostile texts."""
    _, workspace = make_run(tmp_path)
    return opened(workspace)


def opened(workspace: Workspace) -> ReviewedRun:
    return ReviewedRun(workspace, CorrectionLog(workspace.root))


def rows_of(path: Path, tool: str) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return list(map(json.loads, text.splitlines())) if tool == "doccano" else json.loads(text)


def write(path: Path, rows: list[dict[str, Any]], tool: str) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows) if tool == "doccano" else json.dumps(rows)
    path.write_text(text, encoding="utf-8")


def answered(row: dict[str, Any], tool: str, label: str | None) -> dict[str, Any]:
    """The row as the tool exports it when a person has chosen `label`; None: has skipped it."""
    if tool == "doccano":
        return {"id": 5, **row, "label": [label], "Comments": []}
    if tool == "label-studio":
        result = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
        annotation = {"id": 1, "result": [result] if label else [], "was_cancelled": label is None}
        return {"id": 7, **row, "annotations": [annotation]}
    state = "submitted" if label else "discarded"
    told = {"label.responses": [label or "music"], "label.responses.users": ["6d1c"], "label.responses.status": [state]}
    return {**flat(row), **told, "status": "completed" if label else "pending"}


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A record as argilla's `to_list(flatten=True)` has it while nobody has answered."""
    return {"id": row["id"], "status": "pending", **row["fields"], **row["metadata"], "label.responses": None}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_person_did_in_a_tool_comes_back_as_decisions(tmp_path: Path, review: ReviewedRun, tool: str) -> None:
    path = tmp_path / "samples.json"
    assert export_samples(review, path, tool) == Exported(24, 0)
    rows = rows_of(path, tool)
    first, second, third = (review.sample(key) for key in suspicious_first(review)[:3])
    other = next(label for label in review.task.labels if label != first.target)
    untouched = [flat(row) if tool == "argilla" else row for row in rows[3:]]
    back = [answered(rows[0], tool, other), answered(rows[1], tool, str(second.target)), *untouched]
    if tool != "doccano":  # which knows no skipping
        back.append(answered(rows[2], tool, None))
    write(path, back, tool)
    imported = import_decisions(review, path, tool, "reject" if tool == "doccano" else None)
    confirmed = 0 if tool == "doccano" else 1
    assert imported == Imported(accept=confirmed, relabel=1, reject=1, known=0, undecided=22 - confirmed, gone=0)
    decisions = opened(review.workspace).decisions()
    assert decisions[first.origin.round, first.id].to == {"label": other}
    assert decisions[third.origin.round, third.id].action == "reject"
    assert ((second.origin.round, second.id) in decisions) == (confirmed == 1)
    lines = review.log.path.read_bytes()
    import_decisions(review, path, tool, "reject" if tool == "doccano" else None)
    assert review.log.path.read_bytes() == lines  # the same file decides nothing twice


@pytest.mark.parametrize("tool", TOOLS)
def test_rows_are_exported_in_the_order_of_doubt(tmp_path: Path, tool: str) -> None:
    """First what the student predicts otherwise, the surest first; then what was asked for by another label; then the rest."""
    loaded, workspace = make_run(tmp_path, rounds=1)
    samples = make_samples(loaded, 1, rows=12)  # the student of these runs predicts "music" everywhere
    asked_for_books = replace(samples[9], origin=replace(samples[9].origin, intended="books"))
    make_round(loaded, workspace, 1, [*samples[:9], asked_for_books, *samples[10:]])
    path = tmp_path / "samples.json"
    export_samples(opened(workspace), path, tool)
    rows = rows_of(path, tool)
    texts = [row.get("text") or row.get("data", row.get("fields"))["text"] for row in rows]
    otherwise = [samples[i].text for i in (11, 10, 8, 7, 5, 4, 2, 1)]  # it is surer of later ones
    assert texts == [*otherwise, samples[9].text, *(samples[i].text for i in (0, 3, 6))]


def test_missing_rows_are_neither_rejected_nor_left_unless_that_is_said(tmp_path: Path, review: ReviewedRun) -> None:
    path = tmp_path / "samples.jsonl"
    export_samples(review, path, "doccano")
    write(path, rows_of(path, "doccano")[2:], "doccano")
    with pytest.raises(DataError, match=r"2 samples of .* are not in it; say what that means: --missing reject"):
        import_decisions(review, path, None, None)
    assert not review.log.path.exists()
    assert import_decisions(review, path, None, "leave").reject == 0
    assert import_decisions(review, path, None, "reject").reject == 2


Change = Callable[[dict[str, Any]], None]
WRONG: list[tuple[str, Change, str]] = [
    ("label", lambda row: row.update(label=["purple"]), r"row 2: .*'purple'"),
    ("id", lambda row: row.update(evokd_id="1:abc:7"), r"row 2: evokd_id: '1:abc' is no sample of"),
    ("no id", lambda row: row.pop("evokd_id"), r"row 2: has no evokd_id"),
    ("text", lambda row: row.update(text="another"), r"row 2: the text is \"another\", the sample's is"),
    ("two labels", lambda row: row.update(label=["music", "books"]), r"row 2: 'label' holds \['music', 'books'\]"),
]


@pytest.mark.parametrize(("change", "message"), [entry[1:] for entry in WRONG], ids=[entry[0] for entry in WRONG])
def test_an_error_names_the_row_and_the_value_and_nothing_is_decided(
    tmp_path: Path, review: ReviewedRun, change: Change, message: str
) -> None:
    path = tmp_path / "samples.jsonl"
    export_samples(review, path, "doccano")
    rows = rows_of(path, "doccano")
    rows[0]["label"] = ["books" if rows[0]["label"] != ["books"] else "music"]
    change(rows[1])
    write(path, rows, "doccano")
    with pytest.raises(DataError, match=message):
        import_decisions(review, path, "doccano", "leave")
    assert not review.log.path.exists()


def test_a_row_that_is_there_twice_is_an_error(tmp_path: Path, review: ReviewedRun) -> None:
    path = tmp_path / "samples.jsonl"
    export_samples(review, path, "doccano")
    rows = rows_of(path, "doccano")
    write(path, [*rows, rows[0]], "doccano")
    with pytest.raises(DataError, match=r"row 25: evokd_id '1:.*' is there twice"):
        import_decisions(review, path, "doccano", "leave")


def test_a_file_of_no_tool_asks_for_the_format(tmp_path: Path, review: ReviewedRun) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="cannot tell which tool wrote it; add --format"):
        import_decisions(review, path, None, "leave")


@pytest.mark.parametrize("tool", TOOLS)
def test_spans_after_an_emoji_come_back_where_they_were(tmp_path: Path, tool: str) -> None:
    review = tagging_review(tmp_path)
    path = tmp_path / "samples.json"
    export_samples(review, path, tool)
    rows = rows_of(path, tool)
    match tool:
        case "doccano":
            assert rows[0]["label"] == [[3, 5, "ORG"]]
            rows[0]["label"] = [[3, 5, "ORG"], [14, 20, "LOC"]]
        case "label-studio":
            result = rows[0]["predictions"][0]["result"]
            assert result[0]["value"] == {"start": 2, "end": 4, "text": "EU", "labels": ["ORG"]}
            value = {"start": 13, "end": 19, "text": "German", "labels": ["LOC"]}
            added = {"from_name": "label", "to_name": "text", "type": "labels", "value": value}
            rows[0]["annotations"] = [{"id": 1, "result": [*result, added], "was_cancelled": False}]
        case "argilla":
            value = [*rows[0]["suggestions"]["label"]["value"], {"start": 14, "end": 20, "label": "LOC"}]
            rows[0] |= {"responses": {"label": [{"value": value, "user_id": "6d1c"}]}, "status": "completed"}
    write(path, rows, tool)
    assert import_decisions(review, path, tool, None).relabel == 1
    (correction,) = opened(review.workspace).corrections()
    assert correction.target == (Span(2, 4, "ORG", "EU"), Span(13, 19, "LOC", "German"))


def tagging_review(folder: Path) -> ReviewedRun:
    """A run of a tagging task with one round, made by hand: two texts, one with an emoji before its spans."""
    from tests.support.tagging_runs import make_tagging_run

    return opened(make_tagging_run(folder))


def test_what_was_not_exported_cannot_have_been_deleted(tmp_path: Path, review: ReviewedRun) -> None:
    """Of two exports the second lacks what was decided between them; each file is held against its own."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    export_samples(review, first, "doccano")
    confirmed, deleted = list(review.index_of)[:2]
    review.decide([confirmed], "accept")
    assert export_samples(review, second, "doccano") == Exported(23, 0)
    rows = rows_of(second, "doccano")
    write(second, [row for row in rows if not row["evokd_id"].startswith(f"{deleted[0]}:{deleted[1]}:")], "doccano")
    assert import_decisions(review, second, None, "reject") == Imported(0, 0, 1, 0, 22, 0)
    assert {key: decision.action for key, decision in review.decisions().items()} == {
        confirmed: "accept",
        deleted: "reject",
    }
    assert import_decisions(review, second, None, "reject") == Imported(0, 0, 0, 0, 22, 0)
    shutil.rmtree(review.workspace.root / "review-exports")
    with pytest.raises(DataError, match=r"knows nothing of.*--missing leave"):
        import_decisions(review, second, None, "reject")
    assert import_decisions(review, second, None, "leave") == Imported(0, 0, 0, 0, 22, 0)
