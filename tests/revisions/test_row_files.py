"""Rows that `load --out` writes: this package reads them back as seeds, and pandas as a table, equal row by row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from evokd_data.errors import DataError
from evokd_data.recipe_sections import Source
from evokd_data.records import Origin, Sample, Span
from evokd_data.revisions.row_files import write_rows
from evokd_data.seeds import read_samples
from evokd_data.storage.shards import sample_row, sample_schema
from evokd_data.tasks import Task, sample_id
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.marking import word_offsets
from evokd_data.tasks.ner import NER
from evokd_data.tasks.spans import without_invisible_edges

pytestmark = pytest.mark.slow

ROWS = 10_000
SUFFIXES = [".jsonl", ".csv", ".parquet", ".arrow"]
LABELS = Classification(("outage", 'a "quoted", label', "行李", "NA"))
TYPES = NER(("ORG", "date, time", "행사"))
PIECES = [
    "the line is dead", '"', '""', "'", ",", ";", "\t", "\n", "\r", "\r\n", "\n\n", "\\", "\\n", '",card\n"', "NA", "null", "nan",
    "1e5", "007", "True", "=1+1", "#", "|", "{", '{"a": 1}', "[]", "[{", "\ufeff", "\u2028", "\x85", "\x0b", "\x00", "\x1f", "\u00ad",
    "\u200b", "😀", "👩‍👩‍👧", "é", "e\u0301", "شبکه‌ای", "行李", "日本", "서울에서", "ไทย", "  ", " ", "<|im_end|>", "%s", "${x}", "word",
]  # fmt: skip


def text(chance: random.Random) -> str:
    pieces = "".join(chance.choice(PIECES) + chance.choice(["", " "]) for _ in range(chance.randint(1, 9)))
    return pieces if pieces.strip() else f"word{pieces}"


def target(task: Task, written: str, chance: random.Random):
    if isinstance(task, Classification):
        return chance.choice(task.labels)
    words, spans, end = word_offsets(written), [], 0
    for index, (start, stop) in enumerate(words):
        last = words[min(len(words) - 1, index + chance.randint(0, 2))][1]
        if start >= end and chance.random() < 0.3 and written[start:last].strip() == written[start:last]:
            spans.append(Span(start, last, chance.choice(task.types), written[start:last]))
            end = last
        end = max(end, stop if not spans else end)
    return tuple(without_invisible_edges(written, spans))


def samples(task: Task, count: int) -> list[Sample]:
    chance = random.Random(14)
    rows = []
    for index in range(count):
        written = text(chance)
        answer = target(task, written, chance)
        soft = tuple(chance.random() for _ in LABELS.labels) if task is LABELS and chance.random() < 0.5 else None
        origin = Origin(1, index, 0, "static", chance.choice([None, "hard"]), None, chance.choice([None, written]))
        rows.append(Sample(sample_id(task, written, answer), written, answer, origin, soft, chance.random()))
    return rows


@pytest.fixture(scope="module", params=[LABELS, TYPES], ids=["classification", "ner"])
def written(request) -> tuple[Task, list[Sample], datasets.Dataset]:
    rows = samples(request.param, ROWS)
    table = pa.Table.from_pylist([sample_row(request.param, row) for row in rows], schema=sample_schema(request.param))
    return request.param, rows, datasets.Dataset(table.replace_schema_metadata(None))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_that_were_written_are_read_back_as_seeds_row_by_row(written, suffix, tmp_path):
    task, rows, table = written
    write_rows(table, out := tmp_path / f"rows{suffix}")
    back = read_samples(Source(path=out), task, "seeds")
    assert back.report.format is None
    assert [(sample.text, sample.target) for sample in back.samples] == [(row.text, row.target) for row in rows]


def test_rows_are_written_in_known_formats_only_and_whole_or_not_at_all(written, tmp_path):
    with pytest.raises(DataError, match=r"unknown format '.xlsx'; use .jsonl, .csv, .parquet, .arrow"):
        write_rows(written[2], tmp_path / "rows.xlsx")
    write_rows(written[2].select(range(3)), tmp_path / "rows.JSONL")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.JSONL"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_that_were_written_are_read_back_by_pandas_row_by_row(written, suffix, tmp_path):
    _task, _rows, table = written
    write_rows(table, out := tmp_path / f"rows{suffix}")
    assert plain(by_pandas(out)) == plain(pd.DataFrame(table.to_list()))


def by_pandas(path: Path) -> pd.DataFrame:
    match path.suffix:
        case ".csv":
            strings = dict.fromkeys(("text", "label", "spans", "intended", "id", "weakness", "difficulty", "soft"), str)
            return pd.read_csv(path, keep_default_na=False, dtype=strings)
        case ".jsonl":
            return pd.read_json(path, lines=True, dtype=False, precise_float=True)
        case ".parquet":
            return pd.read_parquet(path)
        case _:
            return pd.read_feather(path)


def plain(frame: pd.DataFrame) -> list[dict]:
    """Rows of plain values: lists from JSON cells and arrays, "" for no value."""
    rows = frame.to_dict("records")
    return [{name: plain_value(name, value) for name, value in row.items()} for row in rows]


def plain_value(name: str, value: Any) -> Any:
    if name in ("spans", "soft") and isinstance(value, str):
        value = json.loads(value) if value else None
    if isinstance(value, list | np.ndarray):
        return [item if isinstance(item, dict) else float(item) for item in value]
    return "" if pd.isna(value) else value
