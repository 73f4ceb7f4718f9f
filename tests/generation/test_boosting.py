"""Boosting: what the last student got wrong weighs more when the next one learns."""

from __future__ import annotations

import pytest

from evokd_data.errors import RecipeError
from evokd_data.generation.boosting import Boosting
from evokd_data.recipe import load
from evokd_data.storage.shards import ShardedSamples, read_probe
from evokd_data.storage.workspace import read_json
from tests.support.example_task import TASK, contents, play, quick

pytestmark = pytest.mark.slow

ROUGH = {
    "engine: scripted": "engine: scripted, wrong_labels: 0.4",
    "linear}": "linear, soft_labels: false}",
    "strategy:": "filters: {label_disagreement: relabel}\nstrategy:",
}


def test_what_the_probe_got_wrong_weighs_more_and_a_rounds_mean_weight_stays(recipe_file, tmp_path):
    rough_recipe = quick(recipe_file(**ROUGH), "training.boost=3")
    run = play(rough_recipe, tmp_path, 3)
    for index in (1, 2):
        samples = list(ShardedSamples(TASK, run.round(index).shard_files()))
        wrong = {p.id for p in read_probe(TASK, run.round(index).probe) if TASK.mistakes(p)}
        assert 0 < len(wrong) < len(samples)
        boosting = Boosting.up_to(rough_recipe, run, index)
        weights = {sample.id: boosting.example(sample).weight for sample in samples}
        heavy, light = ({weights[s.id] for s in samples if (s.id in wrong) is is_wrong} for is_wrong in (True, False))
        assert len(heavy) == len(light) == 1 and heavy.pop() == pytest.approx(3 * light.pop())
        assert sum(weights.values()) / len(weights) == pytest.approx(1)
        assert read_json(run.round(index).metrics)["training"]["boosted"] == sum(
            len(list(ShardedSamples(TASK, run.round(i).shard_files()))) for i in range(1, index + 1)
        )
    seeds = list(ShardedSamples(TASK, run.round(0).shard_files()))
    assert [boosting.example(sample).weight for sample in seeds] == [rough_recipe.training.seed_weight] * len(seeds)


def test_the_weights_of_earlier_rounds_need_no_more_than_their_metrics(recipe_file, tmp_path):
    rough_recipe = quick(recipe_file(**ROUGH), "training.boost=2")
    run = play(rough_recipe, tmp_path, 3)
    before = Boosting.up_to(rough_recipe, run, 2)
    for index in (1, 2):
        run.round(index).probe.unlink()
    assert Boosting.up_to(rough_recipe, run, 2) == before
    assert before.wrong


def test_boosting_changes_the_student_and_its_identity_and_rows_only_by_the_plans_that_follow(recipe_file, tmp_path):
    path = recipe_file(**ROUGH)
    plain, boosted = play(quick(path), tmp_path / "a", 2), play(quick(path, "training.boost=9"), tmp_path / "b", 2)
    assert contents(plain) == contents(boosted)
    digests = [(run.round(1).student / "weights.npz").read_bytes() for run in (plain, boosted)]
    assert digests[0] != digests[1]
    assert load(path).fingerprint == load(path, ["training.boost=1"]).fingerprint
    assert load(path).fingerprint != load(path, ["training.boost=9"]).fingerprint


def test_without_boosting_nothing_is_kept_of_who_was_wrong(recipe, tmp_path):
    run = play(recipe(), tmp_path, 2)
    metrics = read_json(run.round(1).metrics)
    assert "wrong" not in metrics["probe"] and metrics["training"]["boosted"] == 0


def test_a_boost_below_one_is_refused(recipe_file):
    with pytest.raises(RecipeError, match=r"training\.boost.*greater than or equal to 1"):
        load(recipe_file(), ["training.boost=0.5"])
