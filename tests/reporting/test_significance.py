"""Two students compared on one test set, text by text."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evokd_data.errors import WorkspaceError
from evokd_data.records import Outcome
from evokd_data.reporting.html_report import payload
from evokd_data.reporting.report_sections.run_files import read_run
from evokd_data.reporting.significance import interval_of_difference, mcnemar_exact, paired_test
from evokd_data.reporting.verdict_words import paired_sentence
from evokd_data.stages.manifest import check_complete_rounds
from evokd_data.stages.publish import make_bundle
from evokd_data.storage.outcome_files import SEEDS_ONLY, read_outcomes
from evokd_data.storage.workspace import read_json
from evokd_data.tasks.measures import intervals
from tests.support.example_tagging_task import places
from tests.support.example_task import play, quick


def labelled(pairs: list[tuple[int, int]]) -> list[Outcome]:
    """Outcomes of texts with one label, from (expected, predicted)."""
    return [Outcome((right,), (answer,), (right,) if right == answer else ()) for right, answer in pairs]


def two_classes(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[Outcome], list[Outcome]]:
    """Two students on texts of two classes in turn, by how many each has right."""
    rights = [(1, 1)] * both + [(1, 0)] * only_first + [(0, 1)] * only_second + [(0, 0)] * neither
    labels = [number % 2 for number in range(len(rights))]
    first, second = (
        labelled([(label, label if right[student] else 1 - label) for label, right in zip(labels, rights, strict=True)])
        for student in (0, 1)
    )
    return first, second


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (0, 6), (5, 5), (3, 12), (40, 21)])
def test_mcnemars_test_is_the_binomial_test_of_the_texts_on_which_students_differ(only_first, only_second):
    expected = stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected)


def test_mcnemars_test_of_very_many_texts_is_found_at_once():
    started = time.process_time()
    assert mcnemar_exact(500_000, 501_000) == pytest.approx(0.318, abs=1e-3)
    assert time.process_time() - started < 2


def test_students_that_err_on_the_same_texts_are_told_apart_where_their_own_intervals_do_not_tell():
    first, second = two_classes(both=240, only_first=20, only_second=3, neither=37)
    paired = paired_test("macro_f1", first, second, 2, seed=1)
    assert paired is not None and (paired.only_first, paired.only_second, paired.n) == (20, 3, 300)
    assert paired.verdict == "higher" and paired.low > 0

    def alone(outcomes):
        counts = np.zeros((2, 2), dtype=np.int64)
        for outcome in outcomes:
            counts[outcome.expected[0], outcome.predicted[0]] += 1
        return counts.trace() / len(outcomes), intervals(counts, 1)[1]

    (value, interval), (other, other_interval) = alone(first), alone(second)
    low, high = interval_of_difference(value, interval, other, other_interval)
    assert low < 0 < high
    assert paired.difference == pytest.approx(value - other, abs=0.01)


@pytest.mark.parametrize(
    ("only_first", "verdict"), [(3, "not distinguishable"), (4, "not distinguishable"), (9, "higher")]
)
def test_a_few_texts_on_which_students_differ_are_no_certainty(only_first, verdict):
    """A bootstrap of the texts alone calls 4 of 60 higher: it draws none of the four with a probability of only 0.016."""
    first, second = two_classes(both=50, only_first=only_first, only_second=0, neither=10 - only_first)
    for students, expected in (((first, second), verdict), ((second, first), verdict.replace("higher", "lower"))):
        paired = paired_test("macro_f1", *students, 2, seed=0)
        assert paired is not None and paired.verdict == expected
    assert math.exp(60 * math.log(1 - 4 / 60)) < 0.025


def test_a_student_is_not_distinguishable_from_itself():
    first, _ = two_classes(30, 0, 0, 10)
    paired = paired_test("macro_f1", first, first, 2, seed=0)
    assert paired is not None and paired.difference == 0 and paired.low < 0 < paired.high and paired.p == 1


def test_other_texts_are_not_compared():
    first, second = two_classes(5, 2, 1, 2)
    assert paired_test("macro_f1", first, second[1:], 2, seed=0) is None
    assert paired_test("macro_f1", first, [*second[1:], second[0]], 2, seed=0) is None
    assert paired_test("macro_f1", [], [], 2, seed=0) is None


def test_spans_are_compared_text_by_text():
    texts = [((0, 1), (0, 1)), ((0,), (0,)), ((1, 1), (1,)), ((), ())] * 20
    first = [Outcome(expected, right, right) for expected, right in texts]
    second = [Outcome(expected, right[:1], right[:1]) for expected, right in texts]
    paired = paired_test("micro_f1", first, second, 2, seed=0)
    assert paired is not None and (paired.only_first, paired.only_second, paired.verdict) == (20, 0, "higher")
    assert paired.difference == pytest.approx(2 * 80 / (80 + 100) - 2 * 60 / (60 + 100))


def mean_f1(outcomes: list[Outcome], classes: int) -> float:
    def count(kind: str, label: int) -> int:
        return sum(getattr(outcome, kind).count(label) for outcome in outcomes)

    shares = []
    for label in range(classes):
        mentions = count("predicted", label) + count("expected", label)
        shares.append(2 * count("right", label) / mentions if mentions else 0.0)
    return sum(shares) / classes


@pytest.fixture(scope="module")
def slots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slots")
    recipe = places(folder, "teacher_trust=force", "rounds.count=1")
    return recipe, play(recipe, folder / "runs", 2)


@pytest.mark.slow
def test_a_round_keeps_the_outcomes_its_scores_follow_from_and_publishes_none(recipe_file, tmp_path):
    recipe = quick(recipe_file(), "rounds.count=1", "publish={repo: org/colours, endpoint: local}")
    workspace = play(recipe, tmp_path / "runs", 2)
    for folder in workspace.rounds():
        outcomes = read_outcomes(folder.test_outcomes)
        metrics = read_json(folder.metrics)
        assert mean_f1(outcomes, 3) == pytest.approx(metrics["test"]["macro_f1"])
        assert sum(outcome.right == outcome.expected for outcome in outcomes) / 9 == metrics["test"]["accuracy"]
        assert "test-outcomes.json" in read_json(folder.manifest)["round_files"]
        texts = folder.test_outcomes.read_text(encoding="utf-8")
        assert not any(word in texts for word in ("tomatoes", "waves", "moss"))
    first, second = workspace.rounds()
    assert mean_f1(read_outcomes(first.test_outcomes, SEEDS_ONLY), 3) == pytest.approx(
        read_json(first.metrics)["seeds_only"]["macro_f1"]
    )
    assert read_outcomes(second.test_outcomes, SEEDS_ONLY) is None
    paired = read_json(second.metrics)["paired"]
    difference = read_json(second.metrics)["test"]["macro_f1"] - read_json(first.metrics)["test"]["macro_f1"]
    assert paired["round 0"]["difference"] == pytest.approx(difference) and set(paired) == {"round 0", "seeds_only"}
    bundle = make_bundle(recipe, workspace, first, tmp_path / "draft")
    assert not any("outcomes" in path for path in bundle.files)
    assert "expected" not in "".join(json.dumps(read_json(folder.metrics)["paired"]) for folder in (first, second))


@pytest.mark.slow
def test_altered_outcomes_are_refused_and_missing_ones_are_not_compared(recipe_file, tmp_path):
    recipe = quick(recipe_file(), "rounds.count=1")
    workspace = play(recipe, tmp_path / "runs", 2)
    path = workspace.round(0).test_outcomes
    path.write_text(path.read_text(encoding="utf-8").replace("[[", "[ [", 1), encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"test-outcomes\.json: was altered"):
        read_outcomes(path)
    with pytest.raises(WorkspaceError, match=r"test-outcomes\.json: was altered since its round was complete"):
        check_complete_rounds(recipe, workspace)
    assert read_outcomes(Path(tmp_path / "nowhere.json")) is None


@pytest.mark.slow
def test_the_report_and_the_card_compare_text_by_text(slots):
    _, workspace = slots
    run = read_run(workspace)
    sentence = payload([run])["runs"][0]["outcome"]["sentences"][1]
    paired = read_json(workspace.round(1).metrics)["paired"]
    assert run.best is not None
    if run.best.index:
        assert f"texts that only round {run.best.index} has right: {paired['round 0']['only_first']}, only " in sentence
    first, second = (read_json(folder.metrics) for folder in workspace.rounds())
    assert paired_sentence(first, 0, first) == ""
    on_card = paired_sentence(first, 1, second)
    assert on_card.startswith(" Round 1 minus ") and "texts that only round 1 has right: " in on_card


@pytest.mark.slow
def test_two_runs_side_by_side_are_compared_text_by_text(slots, tmp_path):
    _, workspace = slots
    other = play(places(tmp_path, "teacher_trust=force", "rounds.count=1", "seed=5"), tmp_path / "runs", 2)
    runs = [read_run(each) for each in (workspace, other)]
    (first, second) = payload(runs)["side_by_side"]["runs"]
    assert first["minus_first"] is None
    best = [read_outcomes(run.best.folder.test_outcomes) for run in runs if run.best]
    expected = paired_test("micro_f1", best[1], best[0], len(runs[0].labels), seed=0)
    assert expected is not None and second["minus_first"]["mean"] == pytest.approx(expected.difference)
    without = other.rounds()[runs[1].best.index].test_outcomes
    without.unlink()
    unpaired = payload([read_run(each) for each in (workspace, other)])["side_by_side"]["runs"][1]["minus_first"]
    assert unpaired["mean"] == pytest.approx(expected.difference)
    assert (unpaired["low"], unpaired["high"]) != (second["minus_first"]["low"], second["minus_first"]["high"])
