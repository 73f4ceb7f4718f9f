"""The teacher of bench/oracle.py: its texts and labels are real, and wrong as often as its settings say."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evokd_data.recipe import load
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.runner import Runner
from evokd_data.teachers import TEACHERS
from tests.support import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from oracle import Oracle, OracleEngine, label_by_text, oracle_recipe, run_once
from teachers import TASKS

LABELS = ("bird", "fish", "tree", "rock")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "things").mkdir()
    for split in ("train", "test"):
        texts = [f"{split} thing {i} is a {LABELS[i % 4]}" for i in range(400)]
        table = pa.table({"text": texts, "label": [LABELS[i % 4] for i in range(400)]})
        pq.write_table(table, folder / "things" / f"{split}.parquet")
    return folder


def ask(
    oracle: Oracle, template: str, variables: dict[str, Any], seed: int, choices: tuple[str, ...] | None = None
) -> Completion:
    constraint = Constraint(choices=choices, score=True) if choices else None
    content = variables.get("text", "write")
    prompt = Prompt(
        f"{template}/{seed:06d}", template, (Message("user", content),), seed, Sampling(1.0, 1.0, 64), constraint,
        {"task": {"labels": LABELS}, "demonstrations": [], **variables},
    )  # fmt: skip
    return asyncio.run(OracleEngine(oracle).complete(prompt))


@pytest.mark.parametrize("on_target", [1.0, 0.6])
def test_it_writes_real_training_texts_of_the_label_as_often_as_it_says(data: Path, on_target: float) -> None:
    oracle = Oracle(data=str(data), set="things", on_target=on_target)
    written = [ask(oracle, "generate", {"target": "fish", "count": 1}, seed).text for seed in range(300)]
    real = label_by_text(data, "things")
    assert all(text.startswith("train") for text in written)
    share = sum(real[text] == "fish" for text in written) / 300
    assert share == 1.0 if on_target == 1 else abs(share - 0.6) < 0.1  # 3.5 standard errors


def test_its_wrong_labels_are_the_same_in_each_prompt_and_its_probabilities_are_right_on_average(data: Path) -> None:
    oracle = Oracle(data=str(data), set="things", right=0.8)
    codes = dict(zip(LABELS, "ABCD", strict=True))
    right = 0
    for text, label in label_by_text(data, "things").items():
        by_code = ask(oracle, "label", {"text": text, "codes": codes}, 1, tuple("ABCD"))
        by_name = ask(oracle, "label", {"text": text}, 2, LABELS)
        assert codes[by_name.text] == by_code.text
        assert by_code.choice_logprobs is not None
        assert max(by_code.choice_logprobs.values()) == pytest.approx(math.log(0.8))
        assert sum(map(math.exp, by_code.choice_logprobs.values())) == pytest.approx(1)
        right += by_name.text == label
    assert abs(right / 800 - 0.8) < 0.05


def test_a_perfect_one_is_right_on_every_text_and_says_so(data: Path) -> None:
    oracle = Oracle(data=str(data), set="things")
    for text, label in label_by_text(data, "things").items():
        answer = ask(oracle, "label", {"text": text}, 1, LABELS)
        assert answer.text == label and answer.choice_logprobs is not None
        assert answer.choice_logprobs[label] == pytest.approx(math.log(0.99))


def test_a_text_off_target_is_of_another_class(data: Path) -> None:
    oracle, real = Oracle(data=str(data), set="things", on_target=0.0), label_by_text(data, "things")
    labels = {real[ask(oracle, "generate", {"target": "fish", "count": 1}, seed).text] for seed in range(60)}
    assert labels == {"bird", "tree", "rock"}


def test_a_run_with_a_perfect_teacher_has_the_figures_of_its_files(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEACHERS, Oracle.name, "oracle:Oracle")
    monkeypatch.setitem(TASKS, "things", {"noun": "thing"})
    arguments = argparse.Namespace(data=data, out=tmp_path, rounds=2, samples=16, teacher_test=0, student=tmp_path)
    path = oracle_recipe(arguments, "perfect", "things", 2, 0)
    settings = ("student={kind: linear, buckets: 1024, min_steps: 20}", "filters.near_duplicates=1")
    with Runner() as loop:
        figures = run_once(loop, load(path, settings), tmp_path, label_by_text(data, "things"))
    assert (figures["stopped"], figures["verdict"], figures["accuracy"]) == (None, "useful", 1.0)
    assert (figures["kept"], figures["kept_right"], figures["doubted"]) == (32, 1.0, [False, False])
    assert figures["first_texts"]["teacher_as_asked"] == figures["first_texts"]["texts"] == 16
    assert len(figures["rounds"]) == 3 and figures["final"] == pytest.approx(
        figures["rounds"][figures["adopted"]], abs=1e-4
    )
