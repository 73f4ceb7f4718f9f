"""The first texts of round 1: a teacher that knows less than its few seeds can show is trusted less, and nothing is asked twice."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evokd_data.errors import TeacherError
from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from evokd_data.records import Completion, Prompt, Quota
from evokd_data.reporting import label_trust
from evokd_data.reporting.exam_words import BELOW_SEEDS, USEFUL, message
from evokd_data.reporting.stopped_run import stopped_by_exam
from evokd_data.stages import exams
from evokd_data.stages.first_texts import TEXTS, first_requests
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support.measured_recipe import generate_round_one, measured_recipe

SETTINGS = ("rounds.samples=60", "filters.label_confidence=0", "teacher_trust=force", "rounds.ask_at_most=1")


def round_one(folder: Path, *overrides: str) -> tuple[Workspace, list[str]]:
    """A run whose round 1 is generated, and what it told."""
    recipe = measured_recipe(folder, *SETTINGS, *overrides)
    notes = generate_round_one(recipe, folder / "runs")
    return Workspace(folder / "runs" / recipe.name), notes


@pytest.fixture
def knows_the_seeds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher labels each seed right, and half of the texts wrong with a probability of .97."""
    complete = ScriptedEngine.complete

    async def sure_and_wrong(self: ScriptedEngine, prompt: Prompt) -> Completion:
        answer = await complete(self, prompt)
        labels = list(answer.choice_logprobs or {})
        if not prompt.key.startswith("label/") or prompt.seed % 2 or answer.text not in labels:
            return answer
        wrong = labels[(labels.index(answer.text) + 1) % len(labels)]
        scores = {label: math.log(0.97 if label == wrong else 0.015) for label in labels}
        return dataclasses.replace(answer, text=wrong, choice_logprobs=scores)

    monkeypatch.setattr(ScriptedEngine, "complete", sure_and_wrong)


def exam_and_plan(run: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_json(run.round(1).exam), read_json(run.round(1).plan)


def before_first_texts(exam: dict[str, Any]) -> dict[str, Any]:
    """What exam.json holds when the seeds alone have been asked, of a teacher that labels them right."""
    taken = {key: value for key, value in exam.items() if key not in ("first_texts", "corrected")}
    return {**taken, "verdict": USEFUL, "message": message({**taken, "verdict": USEFUL})}


@pytest.mark.usefixtures("knows_the_seeds_alone")
def test_a_teacher_that_mislabels_its_texts_is_flattened(tmp_path: Path) -> None:
    run, notes = round_one(tmp_path)
    exam, plan = exam_and_plan(run)
    found = exam["first_texts"]
    assert exam["chosen"]["accuracy"] == 1
    assert (found["texts"], found["student_as_asked"]) == (60, 60)
    assert 20 < found["teacher_as_asked"] < 40
    assert found["temperature"] > exam["chosen"]["temperature"]
    assert plan["labelling"]["temperature"] == found["temperature"]
    assert exam["verdict"] == BELOW_SEEDS
    forced = [note for note in notes if note.endswith("the run goes on, because teacher_trust is force")]
    assert forced == [note for note in notes if note.startswith("by itself the teacher labels ")] and len(forced) == 1
    assert len([note for note in notes if note.startswith("the teacher labels the seeds with")]) == 1
    assert re.search(
        rf"^by itself the teacher labels {found['teacher_as_asked']} of its first 60 texts as they were asked for, a small student that has learned the "
        rf"seeds alone 60 \({found['student_alone']} texts that only the student labels so, 0 that only the teacher does; sign test: p 0\.000\): "
        r"the teacher knows the classes less well than the seeds alone teach them; the teacher labels the seeds with accuracy 1\.00 ",
        exam["message"],
    )
    assert label_trust.first_texts(plan).endswith(
        "So its probabilities are flattened, and the student's count for more."
    )


def test_a_teacher_that_labels_its_texts_as_they_were_asked_for_keeps_the_exams_trust(tmp_path: Path) -> None:
    run, notes = round_one(tmp_path)
    exam, plan = exam_and_plan(run)
    assert exam["first_texts"] == {
        "texts": 60, "teacher_as_asked": 60, "student_as_asked": 60, "teacher_alone": 0, "student_alone": 0, "temperature": None,
        "off_target": 0.05,
    }  # fmt: skip
    assert "corrected" not in exam
    assert plan["labelling"]["temperature"] == exam["chosen"]["temperature"]
    assert not [note for note in notes if "first 60 texts" in note]
    assert label_trust.first_texts(plan) == ""


@pytest.mark.usefixtures("knows_the_seeds_alone")
def test_a_teacher_that_knows_less_than_the_seeds_stops_the_run_until_it_is_forced(tmp_path: Path) -> None:
    with pytest.raises(
        TeacherError, match=r"the run stops: .* knows the classes less well than the seeds alone teach them"
    ):
        round_one(tmp_path, "teacher_trust=measured")
    run = Workspace(tmp_path / "runs" / "colours")
    assert not run.round(1).plan.exists()
    taken, answers = run.round(1).exam.read_bytes(), len(list(read_answers(run.round(1).journal)))
    recipe = measured_recipe(tmp_path, *SETTINGS, "teacher_trust=measured")
    with pytest.raises(TeacherError, match="knows the classes less well than the seeds alone teach them"):
        generate_next(recipe, tmp_path / "runs", Progress())
    assert len(list(read_answers(run.round(1).journal))) == answers
    generate_next(measured_recipe(tmp_path, *SETTINGS), tmp_path / "runs", Progress())
    assert run.round(1).exam.read_bytes() == taken
    exam, plan = exam_and_plan(run)
    assert plan["labelling"]["temperature"] == exam["first_texts"]["temperature"]
    assert stopped_by_exam(run) is None


@pytest.mark.usefixtures("knows_the_seeds_alone")
def test_what_stops_the_run_comes_first_and_nothing_says_that_it_goes_on(tmp_path: Path) -> None:
    recipe = measured_recipe(tmp_path, *SETTINGS, "teacher_trust=measured", per_class=1)
    with pytest.raises(
        TeacherError, match=r"the run stops: by itself the teacher labels .*; 3 seeds are too few"
    ) as stop:
        generate_round_one(recipe, tmp_path / "runs")
    assert "the run goes on" not in str(stop.value)


def test_the_first_texts_are_the_rounds_own_and_nothing_is_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    with_them, _ = round_one(tmp_path / "with")
    monkeypatch.setattr(exams, "needs_first_texts", lambda *_: False)
    without, _ = round_one(tmp_path / "without")
    answers = [Counter(row["key"] for row in read_answers(run.round(1).journal)) for run in (with_them, without)]
    assert answers[0] == answers[1]
    assert set(answers[0].values()) == {1}


@pytest.mark.usefixtures("knows_the_seeds_alone")
def test_a_run_killed_before_the_correction_or_after_it_comes_to_the_same(tmp_path: Path) -> None:
    run, _ = round_one(tmp_path)
    exam, plan = exam_and_plan(run)
    folder = run.round(1)
    recipe = measured_recipe(tmp_path, *SETTINGS)

    def again(killed_after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Round 1 once more from an exam.json that an earlier process left, with its journal."""
        for path in (folder.plan, folder.generated, *folder.shard_files(), *folder.rejection_files()):
            path.unlink()
        write_checked_json(folder.exam, killed_after)
        generate_next(recipe, tmp_path / "runs", Progress())
        return exam_and_plan(run)

    assert again(before_first_texts(exam)) == (exam, plan)
    assert again(exam) == (exam, plan)


@pytest.mark.usefixtures("knows_the_seeds_alone")
def test_a_run_whose_plan_was_lost_counts_the_same_texts_again(tmp_path: Path) -> None:
    """The journal then holds the texts that were asked for again, too."""
    settings = ("rounds.ask_at_most=3", "teacher.broken_answers=0.2")
    run, _ = round_one(tmp_path, *settings)
    exam, plan = exam_and_plan(run)
    assert plan["refills"]
    for path in (
        run.round(1).plan,
        run.round(1).generated,
        *run.round(1).shard_files(),
        *run.round(1).rejection_files(),
    ):
        path.unlink()
    write_checked_json(run.round(1).exam, before_first_texts(exam))
    generate_next(measured_recipe(tmp_path, *SETTINGS, *settings), tmp_path / "runs", Progress())
    assert exam_and_plan(run) == (exam, plan)


def test_the_first_texts_lie_evenly_over_the_plan() -> None:
    planned = RequestPlan([[Quota("red", 4000), Quota("green", 4000), Quota("blue", 2000)]], 5, 0, 1)
    chosen = first_requests(planned)
    assert sum(request.count for request in chosen) == TEXTS
    assert Counter(request.quota.target for request in chosen) == {"red": 8, "green": 8, "blue": 4}
    assert len({request.index for request in chosen}) == len(chosen)
    few = RequestPlan([[Quota("red", 7)]], 5, 0, 1)
    assert [request.count for request in first_requests(few)] == [5, 2]
