"""The tagging quickstart's own parts, smaller: real vLLM, the committed teacher, labels by marks under a grammar."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evokd_data.storage import journal
from tests.support import ROOT
from tests.support.installed_command import NEEDS_VLLM, run, small

pytestmark = NEEDS_VLLM

RECIPE = str(ROOT / "recipes" / "quickstart-slots.yaml")
SMALL = small(rounds=1, samples=21)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the small run was made: one round of a real engine, published."""
    folder = tmp_path_factory.mktemp("slots")
    run(folder, "run", RECIPE, *SMALL)
    return folder


def test_a_real_teacher_fills_a_round_with_spans_that_are_where_they_say(folder: Path) -> None:
    entries = json.loads(run(folder, "show", "quickstart-slots", "--json"))["rounds"]
    assert [entry["round"] for entry in entries] == [0, 1]
    assert 21 <= entries[1]["asked"] <= 3 * 21
    assert entries[1]["asked"] == entries[1]["kept"] + sum(entries[1]["rejected"].values())
    assert entries[1]["kept"] >= 14
    run(folder, "load", "local/quickstart-slots", "--endpoint", "local", "--out", "rows.jsonl")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == sum(entry["kept"] for entry in entries)
    spans = [(row["text"], span) for row in rows for span in row["spans"]]
    assert len(spans) >= len(rows)
    for text, span in spans:
        assert text[span["start"] : span["end"]] == span["surface"] != ""


def test_no_answer_holds_a_word_that_its_text_does_not(folder: Path) -> None:
    answers = [
        row
        for row in journal.read_answers(folder / "runs" / "quickstart-slots" / "round-001" / "journal")
        if row["stage"] == "label"
    ]
    assert len(answers) >= 14
    marks = 0
    for row in answers:
        text = row["messages"][-1]["content"].removeprefix("Text: ").partition("\nAgain: ")[0]
        bare, number = re.subn(r"(?<!\\)\[[^\[\]:]+: ((?:\\.|[^\\\]])*)\]", r"\1", row["text"])
        assert re.sub(r"\\(.)", r"\1", bare) == text
        marks += number
    assert marks >= len(answers)


def test_the_same_engine_gives_the_same_answers_again(folder: Path) -> None:
    report = json.loads(
        run(folder, "reproduce", "local/quickstart-slots", "--endpoint", "local", "--recipe", RECIPE, *SMALL, "--json")
    )
    assert report["answers"]["label"]["differ"] == 0 < report["answers"]["label"]["equal"]
    assert report["rows"]["equal"] == report["rows"]["published"] > 0
