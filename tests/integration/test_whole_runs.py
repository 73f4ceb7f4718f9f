"""Every strategy and every ablation, from seeds to scores, on both tasks."""

from __future__ import annotations

import pytest

from evokd_data.errors import RecipeError
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.reporting.run_summary import summary
from evokd_data.storage.workspace import read_json
from evokd_data.strategies import STRATEGIES
from tests.support.example_tagging_task import places
from tests.support.tiny_encoders import make_base

pytestmark = pytest.mark.slow

ABLATIONS = {
    "evokd + init": "{name: evokd, init: auggpt}",
    "evokd w/o easy": "{name: evokd, easy: 0}",
    "evokd w/o correct": "{name: evokd, correct: false}",
    "evokd w/o separation": "{name: evokd, separation: false}",
    "evokd w/o analysis": "{name: evokd, analyse: false}",
    "evokd, useful demonstrations": "{name: evokd, choose: useful, choosing_calls: 10}",
}
ARMS = {**{name: f"{{name: {name}}}" for name in STRATEGIES}, **ABLATIONS}
ONE_TASK_ONLY = {
    ("eda", "ner"): "swapped and deleted words move spans",
    ("zerogen", "ner"): "does not say where the span is; use static",
    ("sungen", "ner"): "does not say where the span is; use static",
    ("llmda", "classification"): "exchanges entities and rewrites what surrounds them",
    ("proggen", "classification"): "writes texts around names",
}
ROUGH = "teacher={engine: scripted, wrong_labels: 0.2, broken_answers: 0.1}"


@pytest.mark.parametrize("task", ["classification", "ner"])
@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_runs_from_seeds_to_scores_or_says_why_it_does_not_take_the_task(arm, task, recipe_file, tmp_path):
    def load_recipe():
        changes = [f"strategy={ARMS[arm]}", ROUGH, *(["student={kind: reweighted-linear}"] if arm == "sungen" else [])]
        if task == "ner":
            return places(tmp_path, *changes)
        return load(recipe_file(), changes if arm == "sungen" else [*changes, "student.min_steps=10"])

    if refusal := ONE_TASK_ONLY.get((arm, task)):
        with pytest.raises(RecipeError, match=refusal):
            load_recipe()
        return
    (run,) = run_all([load_recipe()], tmp_path / "runs", Progress())
    rounds = summary(run.workspace)["rounds"]
    assert [entry["round"] for entry in rounds] == [0, 1, 2]
    assert all(0 <= entry["metrics"]["test"]["macro_f1"] <= 1 for entry in rounds)
    assert all((entry["kept"] > 0) == (arm != "none") for entry in rounds[1:])


@pytest.mark.parametrize("task", ["classification", "ner"])
def test_without_review_a_student_learns_on_from_fresh_samples_alone(task, recipe_file, tmp_path):
    """The paper's last ablation is the student's: nothing of earlier rounds is replayed."""
    base = make_base(tmp_path / "base")
    student = f"student={{kind: transformer, model: {base}, from_scratch: false, replay: 0, min_steps: 5, epochs: 1}}"
    recipe = places(tmp_path, student) if task == "ner" else load(recipe_file(), [student])
    (run,) = run_all([recipe], tmp_path / "runs", Progress())
    figures = [read_json(run.workspace.round(index).metrics)["training"] for index in range(3)]
    assert [of_round["continued"] for of_round in figures] == [False, True, True]
    rounds = summary(run.workspace)["rounds"]
    assert [of_round["fresh"] for of_round in figures] == [entry["kept"] for entry in rounds]
    assert figures[2]["steps"] == max(5, -(-rounds[2]["kept"] // recipe.student.batch_size))
