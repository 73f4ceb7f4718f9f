"""Compare: strategies over random seeds, and what it says of their difference."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import RecipeError
from evokd_data.loop.compare import collect, compare, page, trials
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.reporting.run_summary import summary
from evokd_data.reporting.significance import differences, spread
from evokd_data.storage.workspace import Workspace
from tests.support.example_tagging_task import places
from tests.support.example_task import QUICK

scores = st.lists(st.floats(0, 1).map(lambda score: round(score, 4)), min_size=3, max_size=12)


@pytest.fixture
def arms(recipe_file, tmp_path):
    """Recipe files of two arms that differ in strategy alone."""
    whole = recipe_file().read_text(encoding="utf-8")
    paths = []
    for strategy in ("static", "evokd"):
        text = whole.replace("name: colours", f"name: {strategy}").replace("{name: evokd}", f"{{name: {strategy}}}")
        paths.append(tmp_path / f"{strategy}.yaml")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


@pytest.mark.slow
def test_every_arm_runs_with_every_seed_as_an_ordinary_run_and_a_rerun_asks_nothing_again(arms, tmp_path, monkeypatch):
    all_trials = trials(arms, [1, 2, 3], [None], [*QUICK, "teacher={engine: scripted, wrong_labels: 0.3}"])
    results = compare(all_trials, tmp_path / "runs", tmp_path / "out", "evokd-data compare", Progress())
    assert [*results["arms"]] == ["static", "evokd"] and results["metric"] == "macro_f1"
    for name, arm in results["arms"].items():
        assert arm["seeds"] == [1, 2, 3]
        rounds = [summary(Workspace(tmp_path / "runs" / f"{name}-allshot-seed{seed}"))["rounds"] for seed in (1, 2, 3)]
        assert arm["macro_f1"] == [run[-1]["metrics"]["test"]["macro_f1"] for run in rounds]
        assert arm["score_by_round"] == [[r["metrics"]["test"]["macro_f1"] for r in run] for run in rounds]
        assert arm["kept"] == [sum(r["kept"] for r in run) for run in rounds]
        assert arm["tokens"] == [sum(r["tokens"] for r in run) for run in rounds]
        assert [sum(per_class.values()) for per_class in arm["class_samples_by_round"][0]] == [
            entry["kept"] for entry in rounds[0]
        ]
    (difference,) = results["differences"]
    paired = [
        e - s for e, s in zip(results["arms"]["evokd"]["macro_f1"], results["arms"]["static"]["macro_f1"], strict=True)
    ]
    assert difference["mean"] == pytest.approx(math.fsum(paired) / 3) and difference["n"] == 3
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(json.dumps(results))
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"| evokd | static | 3 | {difference['mean']:+.4f} |" in readme
    assert {"f1-by-samples.svg", "f1-by-tokens.png", "classes.svg"} <= {p.name for p in (tmp_path / "out").iterdir()}

    monkeypatch.setattr("evokd_data.teachers.scripted.Scripted.serve", None)  # whoever opens it fails
    (tmp_path / "out" / "notes.md").write_text("## What we make of it\n", encoding="utf-8")
    again = compare(all_trials, tmp_path / "runs", tmp_path / "out", "evokd-data compare", Progress())
    assert again == results
    assert (tmp_path / "out" / "README.md").read_text() == readme + "\n## What we make of it\n"


@pytest.fixture
def student_arms(recipe_file, tmp_path, tiny_encoder, tiny_static, tiny_gliclass):
    """Recipe files of arms that differ in their student alone."""
    whole = recipe_file().read_text(encoding="utf-8")
    students = {
        "hashed": "{kind: linear}",
        "embedded": f"{{kind: frozen, model: {tiny_encoder}}}",
        "static": f"{{kind: static, model: {tiny_static}}}",
        "tuned": f"{{kind: transformer, model: {tiny_encoder}, min_steps: 5, epochs: 1}}",
        "untrained": f"{{kind: gliclass, model: {tiny_gliclass}}}",
    }
    paths = []
    for name, student in students.items():
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(whole.replace("name: colours", f"name: {name}").replace("{kind: linear}", student))
    return paths


@pytest.mark.slow
def test_students_are_compared_on_the_same_samples_and_the_teacher_is_asked_once(student_arms, tmp_path, monkeypatch):
    all_trials = trials(student_arms, [1, 2], [None], QUICK_RUN, same_shards=True)
    results = compare(all_trials, tmp_path / "runs", tmp_path / "out", "evokd-data compare", Progress(), True)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "hashed-allshot-seed1",
        "hashed-allshot-seed2",
    ]
    first, *others = results["arms"].values()
    *learners, zero_shot = others
    assert zero_shot["tokens"] == zero_shot["kept"] == [0, 0] and first["tokens"][0] > 0
    assert len(zero_shot["score_by_round"][0]) == 2
    for arm in learners:
        for key in ("kept_by_round", "tokens_by_round", "class_samples_by_round"):
            assert arm[key] == first[key]
        assert all(len(scores) == 2 for scores in arm["score_by_round"])
    facts = results["students"]["arms"]
    assert [row["kind"] for row in facts.values()] == ["linear", "frozen", "static", "transformer", "gliclass"]
    assert all(scores[0] == scores[1] for scores in results["arms"]["untrained"]["score_by_round"])
    assert [pair["arm"] for pair in results["differences"]] == ["embedded", "static", "tuned", "untrained"]
    assert facts["untrained"]["parameters"] == weights(Path(facts["untrained"]["model"]))
    for row in facts.values():
        assert 0 < row["p50_ms"] <= row["p99_ms"] and row["parameters"] > 0
        assert (row["training_seconds"] is None) == (row["kind"] == "gliclass")
    assert facts["embedded"]["parameters"] > weights(tiny := Path(facts["tuned"]["model"]))
    assert facts["tuned"]["bytes"] > 4 * weights(tiny)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert re.search(r"\| untrained \| gliclass \| .* MB \| - \| [\d.]+ ms \|", readme)
    assert f"| static | static | {facts['static']['model']} | {facts['static']['parameters'] / 1e6:.2f} M |" in readme

    monkeypatch.setattr("evokd_data.teachers.scripted.Scripted.serve", None)  # whoever opens it fails
    for name in ("linear:Linear", "frozen:Frozen", "static:Static", "transformer:Transformer", "gliclass:GLiClass"):
        module, _, cls = name.partition(":")
        monkeypatch.setattr(f"evokd_data.students.{module}.{cls}.fit", None)  # whoever trains again fails
    again = compare(all_trials, tmp_path / "runs", tmp_path / "out", "evokd-data compare", Progress(), True)
    assert {**again, "students": None} == {**results, "students": None}


QUICK_RUN = ["rounds.count=1", "rounds.samples=24", "teacher={engine: scripted}"]


def weights(folder: Path) -> int:
    """The number of parameters in the folder of a model."""
    from safetensors.numpy import load_file

    return sum(array.size for array in load_file(folder / "model.safetensors").values())


@pytest.mark.slow
def test_a_student_that_continues_goes_on_from_its_own_checkpoint(recipe_file, tmp_path, tiny_encoder):
    whole = recipe_file().read_text(encoding="utf-8")
    student = f"{{kind: transformer, model: {tiny_encoder}, min_steps: 5, epochs: 1, from_scratch: false}}"
    (tmp_path / "a.yaml").write_text(whole)
    (tmp_path / "b.yaml").write_text(whole.replace("name: colours", "name: b").replace("{kind: linear}", student))
    all_trials = trials([tmp_path / "a.yaml", tmp_path / "b.yaml"], [1], [None], QUICK_RUN, same_shards=True)
    compare(all_trials, tmp_path / "runs", tmp_path / "out", "evokd-data compare", Progress(), True)
    (training,) = (tmp_path / "runs").rglob("compared/transformer-*/round-001/training.json")
    assert json.loads(training.read_text())["continued"] is True


def test_with_same_shards_recipes_differ_in_nothing_but_their_student(arms):
    with pytest.raises(
        RecipeError, match=r"differs from .*static\.yaml in strategy; with --same-shards recipes differ in"
    ):
        trials(arms, [1], [None], same_shards=True)


@pytest.mark.slow
def test_tagging_is_compared_by_micro_f1(tmp_path: Path):
    places(tmp_path)
    all_trials = trials([tmp_path / "places.yaml"], [1, 2], [None], ["rounds.count=1"])
    done = run_all([trial.recipe for trial in all_trials], tmp_path / "runs", Progress())
    results = collect(all_trials, done, "evokd-data compare")
    tests = [summary(run.workspace)["rounds"][-1]["metrics"]["test"] for run in done]
    assert results["metric"] == "micro_f1"
    assert results["arms"]["places"]["micro_f1"] == [test["micro_f1"] for test in tests]
    assert results["arms"]["places"]["macro_f1"] == [test["macro_f1"] for test in tests]
    assert "micro-F1, mean" in page(results) and "macro-F1" not in page(results)


@pytest.mark.slow
def test_several_shots_are_arms_of_their_own_and_only_equals_are_paired(arms, tmp_path):
    all_trials = trials(arms, [1, 2], [1, 3], [*QUICK, "rounds.count=1"])
    done = run_all([trial.recipe for trial in all_trials], tmp_path / "runs", Progress())
    results = collect(all_trials, done, "evokd-data compare")
    assert [*results["arms"]] == ["static, 1-shot", "evokd, 1-shot", "static, 3-shot", "evokd, 3-shot"]
    pairs = [(d["arm"], d["reference"]) for d in results["differences"]]
    assert pairs == [("evokd, 1-shot", "static, 1-shot"), ("evokd, 3-shot", "static, 3-shot")]
    assert [arm["kept_by_round"][0][0] for arm in results["arms"].values()] == [3, 3, 9, 9]


def test_the_budget_is_that_of_the_arms_that_have_one(arms, tmp_path):
    static, _ = arms
    none = static.with_name("none.yaml")
    none.write_text(static.read_text().replace("name: static", "name: none").replace("count: 2", "count: 0"))
    all_trials = trials([none, static], [1], [None], QUICK)
    results = compare(all_trials, tmp_path / "runs", tmp_path / "out", "evokd-data compare", Progress())
    assert results["budget"] == {"rounds": 2, "samples_per_round": 24}


def test_unequal_budgets_test_sets_and_names_are_refused_together(arms, tmp_path):
    static, evokd = arms
    evokd.write_text(evokd.read_text().replace("samples: 24", "samples: 48").replace("test.jsonl", "other.jsonl"))
    (tmp_path / "other.jsonl").write_text((tmp_path / "test.jsonl").read_text())
    with pytest.raises(RecipeError) as caught:
        trials([static, evokd], [1], [None])
    problems = "\n".join(caught.value.problems)
    assert "unequal budgets (evokd: 2 x 48; static: 2 x 24)" in problems and "different test sets" in problems
    with pytest.raises(RecipeError, match="two recipes have one name"):
        trials([static, static], [1], [None])


@pytest.mark.slow
@given(scores, st.data())
def test_a_difference_is_scipys_and_never_called_one_when_its_interval_holds_zero(ours, data):
    from scipy import stats

    theirs = data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.35, 0.5]), min_size=len(ours), max_size=len(ours)))
    (difference,) = differences({"a": dict(enumerate(theirs)), "b": dict(enumerate(ours))}, "a")
    paired = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    if difference.p is None:
        assert difference.low == difference.high == difference.mean
        return
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(0.95)
    assert (difference.mean, difference.p) == (pytest.approx(sum(paired) / len(paired)), pytest.approx(test.pvalue))
    assert (difference.low, difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (difference.verdict == "not distinguishable") == (difference.low <= 0 <= difference.high)


def test_p_values_are_corrected_for_the_number_of_arms():
    base = {seed: 0.5 + seed / 100 for seed in range(6)}
    wobble = [0.00, 0.01, -0.01, 0.02, 0.00, 0.01]
    arms = {"a": base, **{name: {s: base[s] + shift + wobble[s] for s in base} for name, shift in
                          (("b", 0.02), ("c", 0.01), ("d", 0.002))}}  # fmt: skip
    ordered = sorted(differences(arms, "a"), key=lambda d: d.p)
    assert [d.arm for d in ordered] == ["b", "c", "d"]
    expected = [min(1.0, d.p * (3 - rank)) for rank, d in enumerate(ordered)]
    assert [d.p_holm for d in ordered] == pytest.approx([max(expected[: i + 1]) for i in range(3)])


def test_one_seed_has_no_spread_and_no_verdict():
    assert spread([0.5]).sd is None
    (difference,) = differences({"a": {1: 0.5}, "b": {1: 0.7}}, "a")
    assert (difference.n, difference.verdict, difference.low) == (1, "too few seeds", None)


def test_the_primary_metric_of_tags_is_micro_f1_with_its_interval():
    test = {"macro_f1": 0.4, "micro_f1": 0.75, "intervals": {"micro_f1": [0.7, 0.81234]}}
    assert (primary_metric(test).name, primary_metric(test).value, primary_metric(test).within) == (
        "micro-F1",
        0.75,
        "0.700 to 0.812",
    )
    assert (primary_metric({"macro_f1": 0.4}).name, primary_metric({"macro_f1": 0.4}).within) == ("macro-F1", "")
