"""The sample browser: every row of a run that fits on the page, kept and rejected, and the prompts and answers behind it.

A row is a list, because ten thousand tables would repeat their keys ten thousand times. Names that repeat (labels, reasons,
weaknesses) stand in lists beside the rows, and a row holds their indices; -1 is none.

    [pieces, round, fate, asked for, labels, difficulty, weakness, guess, detail, weight]

`pieces` is the text, or for spans [text, type, surface, text, type, surface, text]: pieces of the text in order, so that a
neutralised control character moves no offset. `fate` is -1 for a kept text, else the reason of its rejection. `labels` are those of
the text. `guess` is what the student of the round before predicted: -1 unknown, else a label; for spans 0 wrong and 1 right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evokd_data.reporting.report_sections.embedding import encoded_size
from evokd_data.reporting.report_sections.prompts import Place, answers_behind
from evokd_data.reporting.report_sections.run_files import RoundFiles, RunFiles
from evokd_data.reporting.shown_rows import DUPLICATES, repeated_id, texts_by_id
from evokd_data.storage.shards import read_table, without_rows

MAX_ROWS = 20_000
"""Rows on the page at most, whatever their size: more make it slow."""
MAX_CHARACTERS = 2_000
"""Of a text, a detail, a message of a prompt and an answer. What is cut is marked."""
SHARE_OF_ROWS = 0.75
"""Of the bytes given to the browser that rows may take; prompts and answers have the rest."""
DIFFICULTIES = ("easy", "hard")


@dataclass
class _Names:
    """Names in the order of their first use, with their indices."""

    indices: dict[str, int] = field(default_factory=dict)

    def index(self, name: str | None) -> int:
        return self.indices.setdefault(name, len(self.indices)) if name else -1


@dataclass(frozen=True)
class _Row:
    """A stored row before it is encoded. `stored` holds the columns of a shard, or of a rejections file."""

    stored: Mapping[str, Any]
    place: Place
    guess: str | None


def browser(run: RunFiles, budget: int) -> dict[str, Any]:
    """{"rows", "labels", "reasons", "weaknesses", "total", "kept_total", "spans", "answers", ...} in at most about `budget` bytes.

    `corrected_rounds` are the rounds whose rows have their label from a person.
    Rows that do not fit are left out evenly over the run; `total` says how many there are.
    """
    total, kept = _count(run)
    labels, reasons, weaknesses = _Names(), _Names(), _Names()
    for label in run.labels:
        labels.index(label)
    step = max(1.0, total / MAX_ROWS)
    stored = [
        row for number, row in enumerate(_rows(run)) if int(number / step) != int((number - 1) / step) or not number
    ]
    repeated = texts_by_id(
        run.workspace, {repeated_id(row.stored["detail"]) for row in stored if row.stored.get("reason") in DUPLICATES}
    )
    rows = [_encoded(row, run.has_spans, labels, reasons, weaknesses, repeated) for row in stored]
    numbers = _that_fit([encoded_size(row) for row in rows], SHARE_OF_ROWS * budget)
    rows, places = [rows[number] for number in numbers], [stored[number].place for number in numbers]
    answers = answers_behind(run, places, budget - encoded_size(rows))
    return {
        "rows": rows,
        "total": total,
        "kept_total": kept,
        "labels": list(labels.indices),
        "reasons": list(reasons.indices),
        "weaknesses": list(weaknesses.indices),
        "difficulties": list(DIFFICULTIES),
        "spans": run.has_spans,
        "corrected_rounds": [round_files.index for round_files in run.rounds if round_files.corrections is not None],
        "cut_at": MAX_CHARACTERS,
        **answers,
    }


def cut(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The beginning of a long text, with the number of characters that are left out."""
    return text if len(text) <= limit else f"{text[:limit]} [... {len(text) - limit:,} characters left out]"


def _count(run: RunFiles) -> tuple[int, int]:
    """(rows, kept rows) of the run."""
    shards = (read_table(path) for r in run.rounds for path in r.folder.shard_files())
    kept = sum(without_rows(table, run.withdrawn).num_rows for table in shards)
    return kept + sum(read_table(path).num_rows for r in run.rounds for path in r.folder.rejection_files()), kept


def _rows(run: RunFiles) -> Iterator[_Row]:
    """All rows but withdrawn ones, round by round, kept and rejected ones mixed in the order in which they were asked for."""
    for round_files in run.rounds:
        guesses = _guesses(run, round_files)
        tables = [without_rows(read_table(path), run.withdrawn) for path in round_files.folder.shard_files()]
        tables += map(read_table, round_files.folder.rejection_files())
        rows = [row for table in tables for batch in table.to_batches() for row in batch.to_pylist()]
        rows.sort(key=lambda row: (row["request"], row["position"]))
        for row in rows:
            place = (round_files.index, row["request"], row["position"])
            yield _Row(row, place, guesses.get(row["id"]) if "id" in row else None)


def _guesses(run: RunFiles, round_files: RoundFiles) -> dict[str, str]:
    """Sample id -> what the student of the round before predicted: a label, or for spans "right" or "wrong"."""
    guesses = {}
    if round_files.folder.probe.exists():
        for row in read_table(round_files.folder.probe).to_pylist():
            predicted = json.loads(row["predicted"])
            right = "right" if json.loads(row["expected"]) == predicted else "wrong"
            guesses[row["id"]] = right if run.has_spans else str(predicted.get("label", right))
    return guesses


def _encoded(
    row: _Row,
    has_spans: bool,
    labels: _Names,
    reasons: _Names,
    weaknesses: _Names,
    repeated: Mapping[str, str],
) -> list[Any]:
    stored = row.stored
    spans = stored.get("spans") or ()
    given = [stored["label"]] if stored.get("label") else dict.fromkeys(span["type"] for span in spans)
    detail = stored.get("detail") or ""
    if stored.get("reason") in DUPLICATES:
        detail = repeated.get(repeated_id(detail), detail)
    guess = ("wrong", "right").index(row.guess) if has_spans and row.guess else labels.index(row.guess)
    difficulty = stored["difficulty"]
    return [
        _pieces(stored["text"], spans, labels) if spans else cut(stored["text"]),
        row.place[0],
        reasons.index(stored.get("reason")),
        labels.index(stored["intended"]),
        [labels.index(label) for label in given],
        DIFFICULTIES.index(difficulty) if difficulty in DIFFICULTIES else -1,
        weaknesses.index(stored["weakness"]),
        guess,
        cut(detail),
        round(stored.get("weight", 1.0) or 0.0, 3),
    ]


def _pieces(text: str, spans: Iterable[Mapping[str, Any]], labels: _Names) -> list[Any]:
    """The text in pieces: plain, type, surface, plain, ..., plain. A span that overlaps the one before is left out."""
    pieces: list[Any] = []
    offset = 0
    for span in sorted(spans, key=lambda span: span["start"]):
        if offset <= span["start"] < span["end"] <= min(len(text), MAX_CHARACTERS):
            pieces += [text[offset : span["start"]], labels.index(span["type"]), text[span["start"] : span["end"]]]
            offset = span["end"]
    return [*pieces, cut(text[offset:], MAX_CHARACTERS - offset)]


def _that_fit(sizes: Sequence[int], budget: float) -> list[int]:
    """The indices of rows that together take at most about the budget, evenly over all."""
    total = sum(sizes)
    if total <= budget:
        return list(range(len(sizes)))
    share = budget / total
    numbers, taken, passed = [], 0, 0
    for number, size in enumerate(sizes):
        passed += size
        if taken + size <= passed * share:
            numbers.append(number)
            taken += size
    return numbers
