"""Numbers from a server are believed within their ranges alone, and a journal with others in it is still resumed and published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.records import Completion, Message, Prompt, Sampling
from evokd_data.storage import journal, parquet
from evokd_data.storage.journal import Journal
from evokd_data.teachers.server.replies import json_object, read_scores

PROMPT = Prompt("label/000001", "label", (Message("user", "x"),), 1, Sampling(0.0, 1))
NOT_LOG_PROBABILITIES = [float("nan"), "NaN", 1e30, 10**400, 0.5, -1e300, True, None, "low", [], {}]


def scored(*logprobs: Any) -> dict[str, Any]:
    entries = [{"token": token, "logprob": value} for token, value in zip("AB", logprobs, strict=True)]
    return {"logprobs": {"content": [{**entries[0], "top_logprobs": entries}]}}


@pytest.mark.parametrize("value", NOT_LOG_PROBABILITIES, ids=repr)
def test_a_score_that_is_no_log_probability_leaves_the_prompt_unanswered(value: Any) -> None:
    assert read_scores("AB", None, scored(-0.1, value)) == ({}, "")


def test_an_impossible_choice_gets_the_least_score_that_was_sent() -> None:
    scores, drawn = read_scores("AB", None, scored(-0.1, "-Infinity"))
    assert drawn == "A" and scores["A"] == scores["B"]
    assert read_scores("AB", None, scored("-Infinity", "-Infinity")) == ({}, "")


def test_a_reply_with_nan_in_it_is_an_answer() -> None:
    raw = json.dumps({"choices": [scored(-0.1, float("nan"))]}).encode()
    assert b"NaN" in raw
    (choice,) = json_object(raw)["choices"]
    assert read_scores("AB", None, choice) == ({}, "")


@given(st.binary(max_size=60) | st.builds(lambda n: b"[" * n, st.integers(0, 5000)) | st.just(b"NaN" + b"[" * 9000))
def test_any_bytes_are_a_reply(raw: bytes) -> None:
    assert isinstance(json_object(raw), dict)


BAD_ANSWERS: list[dict[str, Any]] = [
    {"prompt_tokens": 2**40},
    {"completion_tokens": -5},
    {"prompt_tokens": 1e300},
    {"choice_logprobs": {"A": None, "B": None}},
    {"choice_logprobs": {"A": 1e30, "B": -0.1}},
]


@pytest.mark.parametrize("bad", BAD_ANSWERS, ids=repr)
def test_a_journal_of_before_with_such_numbers_is_resumed_and_published(bad: dict[str, Any], tmp_path: Path) -> None:
    row = {**journal.record(PROMPT, Completion("A", "stop", 3, 1, {"A": -0.1, "B": -2.4})), **bad}
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "00000.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    with Journal(tmp_path / "journal") as opened:
        answer = opened.find(PROMPT)
        assert answer is not None
        assert 0 <= opened.prompt_tokens <= 3 and 0 <= opened.completion_tokens <= 1
    (published,) = parquet.read_journal(parquet.write_journal(tmp_path / "journal", tmp_path / "parquet"))
    assert journal.completion(published) == answer
    if "choice_logprobs" in bad:
        assert answer == Completion("", "error", 3, 1)
