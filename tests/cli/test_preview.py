"""`preview` shows what a run would be like, and costs a run nothing twice."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.records import Completion, Prompt
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support import ROOT
from tests.support.example_task import QUICK, contents, write_rows

pytestmark = pytest.mark.slow

FAST = [part for override in QUICK for part in ("--set", override)]
SEEDS = {colour: [f"{colour} {colour}ish{number} things" for number in range(5)] for colour in ("red", "green", "blue")}
"""Seeds of a label share a word: the scripted teacher, which counts shared words, labels each of them right."""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def asked(workspace: Workspace) -> Counter[tuple[str, str]]:
    """(key, digest) of every prompt in the run's journals, and how often it was asked."""
    folders = [*(folder.journal for folder in workspace.rounds()), workspace.teacher_test_journal]
    return Counter((row["key"], row["prompt"]) for folder in folders for row in read_answers(folder))


@pytest.fixture
def measured(recipe_file: Callable[..., Path], tmp_path: Path) -> Path:
    """The colours recipe with an exam, and seeds that its teacher labels right."""
    path = recipe_file(**{"teacher_trust: off\n": "", ", per_class: 1": ""})
    write_rows(tmp_path / "seeds.jsonl", SEEDS)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_it_shows_prompts_exam_samples_and_the_estimate_and_what_comes_next(measured: Path, runs: Path) -> None:
    path = measured
    prices = ["--set", "prices={prompt: 1, completion: 2}", "--set", "budget.tokens=50000"]
    shown = call("preview", path, *FAST, "--runs", runs, *prices)
    assert shown.exit_code == 0, shown.stderr
    assert "--- prompt `generate`" in shown.stdout and "--- prompt `label`" in shown.stdout
    assert "[system]" in shown.stdout and "[the teacher's answer]" in shown.stdout
    assert "how the teacher is asked, 15 seeds" in shown.stdout and "useful: the teacher labels" in shown.stdout
    assert "filters.label_disagreement: auto is " in shown.stdout and "of the seeds, and the lower end" in shown.stdout
    assert "filters.label_disagreement: auto is " not in shown.stderr  # it is told once
    assert "10 of " in shown.stdout and "the whole run, 2 rounds, 48 texts: about" in shown.stdout
    assert " dollars" in shown.stdout
    assert "round 1: exam: 15 seeds, 10 forms, 150 prompts" in shown.stderr
    assert "of this the exam is done: 150 requests with " in shown.stdout
    assert f"next: evokd-data run {path}, or a trial run first: evokd-data run {path} --limit 20" in shown.stderr

    content = json.loads(call("preview", path, *FAST, "--runs", runs, *prices, "--json").stdout)
    assert {row["asked_for"] for row in content["samples"]} == {"red", "green", "blue"}
    assert len(content["samples"]) == 10 and all(row["label"] or row["rejected"] for row in content["samples"])
    estimate = content["estimate"]
    assert estimate["cost_usd"] == pytest.approx(
        (estimate["prompt_tokens"] + 2 * estimate["completion_tokens"]) / 1e6, abs=1e-4
    )


def test_a_run_after_it_asks_nothing_twice_makes_the_same_rows_and_takes_what_was_estimated(
    measured: Path, runs: Path, tmp_path: Path
) -> None:
    path = measured
    plain = tmp_path / "plain"
    assert call("run", path, *FAST, "--runs", plain).exit_code == 0
    estimate = json.loads(call("preview", path, *FAST, "--runs", runs, "--json").stdout)["estimate"]
    run = Workspace(runs / "colours")
    in_preview = asked(run)
    again = json.loads(call("preview", path, *FAST, "--runs", runs, "--json").stdout)["estimate"]
    assert asked(run) == in_preview and set(in_preview.values()) == {1}
    assert again | {"seconds_at_most": 0} == estimate | {"seconds_at_most": 0}  # the second looks at a clock, too

    assert call("run", path, *FAST, "--runs", runs).exit_code == 0
    assert set(asked(run).values()) == {1} and in_preview.keys() <= asked(run).keys()
    assert contents(run) == contents(Workspace(plain / "colours"))
    assert not run.preview.exists()
    rows = [row for folder in run.rounds() for row in read_answers(folder.journal) if row["stage"] != "student"]
    rows += list(read_answers(run.teacher_test_journal))
    assert len(rows) == pytest.approx(estimate["requests"], rel=0.2)
    assert sum(row["prompt_tokens"] for row in rows) == pytest.approx(estimate["prompt_tokens"], rel=0.3)


def test_requests_tokens_and_seconds_of_the_estimate_all_hold_the_exam(measured: Path, runs: Path) -> None:
    slow = ["--set", "teacher.latency_s=0.02", "--set", "teacher.window=1"]
    estimate = json.loads(call("preview", measured, *FAST, *slow, "--runs", runs, "--json").stdout)["estimate"]
    exam = estimate["exam"]
    rows = [row for row in read_answers(Workspace(runs / "colours").round(1).journal) if row["key"].startswith("exam/")]
    assert exam["requests"] == exam["measured_requests"] == len(rows) == 150
    for kind in ("prompt_tokens", "completion_tokens"):
        assert estimate[kind] > exam[kind] == sum(row[kind] for row in rows)
    others = estimate["requests"] - 150
    assert exam["measured_seconds"] >= 150 * 0.02
    rate = estimate["measured_seconds"] / estimate["measured_requests"]
    assert estimate["seconds_at_most"] == pytest.approx(exam["measured_seconds"] + others * rate, abs=1)


def test_a_trial_run_after_it_takes_over_the_exam_unless_the_recipe_was_changed(measured: Path, runs: Path) -> None:
    assert call("preview", measured, *FAST, "--runs", runs).exit_code == 0
    for name, changes in (("same", []), ("changed", ["--set", "task.description=other"])):
        limited = ["--limit", 6, "--set", "rounds.count=1", *changes, *FAST, "--runs", runs]
        tried = call("run", measured, *limited)
        assert tried.exit_code == 0, tried.stderr
        run = Workspace(runs / "colours-limit-6")
        keys = [key for key, _ in asked(run)]
        assert any(key.startswith("exam/") for key in keys) == (name == "changed")
        assert run.round(1).exam.exists() and any(key.startswith("label/") for key in keys)
        shutil.rmtree(run.root)


def test_a_recipe_that_is_changed_after_a_preview_begins_anew_and_after_a_run_it_does_not(
    measured: Path, runs: Path
) -> None:
    path = measured
    assert call("preview", path, *FAST, "--runs", runs).exit_code == 0
    path.write_text(path.read_text().replace("which colour", "what colour"))
    second = call("preview", path, *FAST, "--runs", runs)
    assert second.exit_code == 0 and "held a preview of the recipe before it was changed" in second.stderr
    run = Workspace(runs / "colours")
    prompts = [message["content"] for row in read_answers(run.round(1).journal) for message in row["messages"]]
    assert prompts and not any("which colour" in prompt for prompt in prompts)

    assert call("exam", path, *FAST, "--runs", runs, "--set", "filters.min_characters=3").exit_code == 0
    assert call("generate", path, *FAST, "--runs", runs, "--set", "filters.min_characters=3").exit_code == 0
    changed = call("generate", path, *FAST, "--runs", runs, "--set", "filters.min_characters=4")
    assert changed.exit_code == 1 and "this run was begun with another recipe" in changed.stderr


def test_a_teacher_that_a_run_would_refuse_is_shown_and_ends_with_1(
    measured: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = measured
    wrong = ["--set", "teacher.wrong_labels=1.0"]  # drawn at random
    shown = call("preview", path, *FAST, "--runs", runs, *wrong)
    refused = call("run", path, *FAST, "--runs", runs, *wrong)
    assert (shown.exit_code, refused.exit_code) == (1, 1), shown.stdout
    assert "a run would stop here; change" in shown.stderr and "10 of " in shown.stdout
    advised = re.search(r"go on with the exam that was taken: evokd-data run (\S+) --set (\S+)$", shown.stderr, re.M)
    assert advised is not None and advised[1] == str(path)
    complete, asked_now = ScriptedEngine.complete, list[str]()

    async def counted(self: ScriptedEngine, prompt: Prompt) -> Completion:
        asked_now.append(prompt.key)
        return await complete(self, prompt)

    monkeypatch.setattr(ScriptedEngine, "complete", counted)
    forced = call("run", path, *FAST, "--runs", runs, *wrong, "--set", advised[2])
    assert forced.exit_code == 0, forced.stderr
    # Before round 2 the exam is taken again on texts of round 1, as in every run.
    assert asked_now and {key.split("/")[1] for key in asked_now if key.startswith("exam/")} <= {"again"}


def test_a_run_that_has_begun_is_not_touched(recipe_file: Callable[..., Path], runs: Path) -> None:
    path = recipe_file()
    assert call("run", path, *FAST, "--runs", runs, "--set", "rounds.count=1").exit_code == 0
    before = asked(Workspace(runs / "colours"))
    result = call("preview", path, *FAST, "--runs", runs, "--set", "rounds.count=1")
    assert (
        result.exit_code == 1 and "its first round is generated; see it with: evokd-data show colours" in result.stderr
    )
    assert asked(Workspace(runs / "colours")) == before
    nothing = call("preview", path, *FAST, "--runs", runs, "--set", "strategy.name=none", "--set", "name=other")
    assert nothing.exit_code == 1 and "asks no teacher, so there is nothing to preview" in nothing.stderr


def test_spans_are_shown_marked(tmp_path: Path, runs: Path) -> None:
    recipe = ROOT / "recipes" / "quickstart-slots.yaml"
    settings = ["--set", "teacher={engine: scripted}", "--set", "student={kind: linear}", "--set", "prompts=null"]
    settings += ["--set", "publish=null", "--set", "teacher_trust=off"]
    shown = call("preview", recipe, *settings, "--runs", runs, "--json")
    assert shown.exit_code == 0, shown.stderr
    content = json.loads(shown.stdout)
    assert content["exam"] is None and any("[" in row["text"] for row in content["samples"] if not row["rejected"])


def test_the_exam_says_how_many_answers_are_still_to_come(
    measured: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evokd_data.cli.live.LINE_EVERY_S", 0.2)
    monkeypatch.setattr("evokd_data.cli.live.WARM_UP_S", 0)
    slow = ["--set", "teacher.latency_s=0.1", "--set", "teacher.window=4"]
    shown = call("exam", measured, *FAST, *slow, "--runs", runs)
    assert "round 1: exam: 15 seeds, 10 forms" in shown.stderr
    lines = re.findall(r"^  (\d+)/150 answers, [\d.]+ a second, (\d+) s left$", shown.stderr, re.M)
    counts = [int(count) for count, _ in lines]
    assert len(counts) >= 3 and counts == sorted(counts)


def test_an_exam_is_not_taken_again_when_only_the_number_of_texts_changes(measured: Path, runs: Path) -> None:
    assert call("preview", measured, *FAST, "--runs", runs, "--json").exit_code == 0
    exam = read_json(Workspace(runs / "colours").round(1).exam)
    fewer = call("run", measured, *FAST, "--runs", runs, "--set", "rounds.samples=12")
    assert fewer.exit_code == 0, fewer.stderr
    assert "held a preview with other rounds; its texts are removed, its exam still holds" in fewer.stderr
    run = Workspace(runs / "colours")
    begun = read_json(run.round(1).exam)
    assert begun.pop("first_texts")["texts"] == 12
    assert begun == exam and "round 1: exam" not in fewer.stderr
    assert not any(row["key"].startswith("exam") for row in read_answers(run.round(1).journal))


def test_an_exam_is_taken_again_when_its_questions_change(measured: Path, runs: Path) -> None:
    assert call("preview", measured, *FAST, "--runs", runs, "--json").exit_code == 0
    other = call("run", measured, *FAST, "--runs", runs, "--set", "task.noun=colourful remark")
    assert other.exit_code == 0, other.stderr
    assert "before it was changed (task), which is removed; the exam is taken again" in other.stderr
    assert "round 1: exam" in other.stderr
