"""Diversity and the detector on texts whose values are known; then mastery, on rounds written by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.generation.diversity import (
    LEAST,
    detector,
    distinct,
    diversity,
    sample_texts,
    similarity,
    vendi,
)
from evokd_data.reporting.run_summary import mastery, summary
from evokd_data.storage.workspace import read_json
from tests.support.example_task import play

WORDS = [a + b + c for a in ("ba", "ke", "mo", "zu") for b in ("ri", "lo", "ta") for c in ("n", "s", "x")]


def texts(count: int, seed: int, words: list[str] = WORDS) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choice(words) for _ in range(8)) for _ in range(count)]


def test_one_text_again_and_again_has_no_variety_and_strangers_have_all_of_it():
    same, strangers = ["a red rose"] * 10, ["aaaa bbbb", "cccc dddd", "eeee ffff", "gggg hhhh"]
    assert diversity(same, 0) == {
        "n": 10, "distinct_1": 0.1, "distinct_2": 0.1, "distinct_3": 0.1, "similarity": 1.0, "vendi": 1.0
    }  # fmt: skip
    measures = diversity(strangers, 0)
    assert (measures["distinct_1"], measures["distinct_2"], measures["distinct_3"]) == (1.0, 1.0, None)
    assert measures["similarity"] == 0.0
    assert measures["vendi"] == pytest.approx(4, abs=0.3)  # n-grams may share a bucket
    assert diversity(["alone"], 0) is None and diversity([], 0) is None


def test_distinct_n_counts_words_and_characters_where_words_are_not_parted():
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3
    assert diversity(["天气很好", "天气不好"], 0)["distinct_1"] == 5 / 8


@pytest.mark.slow
@given(st.lists(st.text(max_size=30), min_size=2, max_size=12))
def test_measures_keep_their_bounds_whatever_the_texts(some):
    measures = diversity(some, 1)
    assert 1 - 1e-3 <= measures["vendi"] <= len(some) + 1e-3
    assert 0 <= measures["similarity"] <= 1
    assert all(measures[f"distinct_{n}"] is None or 0 < measures[f"distinct_{n}"] <= 1 for n in (1, 2, 3))


def test_more_repetition_is_less_variety_by_every_measure():
    free, repeated = texts(60, 1), texts(60, 1, WORDS[:6])
    varied, uniform = diversity(free, 0), diversity(repeated, 0)
    assert all(varied[f"distinct_{n}"] > uniform[f"distinct_{n}"] for n in (1, 2, 3))
    assert varied["vendi"] > uniform["vendi"] and varied["similarity"] < uniform["similarity"]
    assert vendi(free) == pytest.approx(vendi(free[::-1])) and similarity(free) == pytest.approx(similarity(free[::-1]))


def test_large_rounds_are_measured_on_a_sample_that_the_seed_draws():
    many = texts(1000, 2)
    assert sample_texts(many, 5) == sample_texts(many, 5) != sample_texts(many, 6)
    assert len(sample_texts(many, 5)) == len(set(map(many.index, sample_texts(many, 5)))) == 400


@pytest.mark.slow
def test_a_detector_tells_other_words_and_does_not_tell_what_is_alike():
    real = texts(80, 1)
    apart = detector([f"certainly {text}" for text in texts(80, 2)], real, 0)
    alike = detector(texts(80, 3), real, 0)
    assert apart["auc"] == 1.0 and apart["reason"] is None
    assert abs(alike["auc"] - 0.5) < 0.2 and alike["sd"] > 0
    assert (alike["generated"], alike["real"]) == (80, 80)
    assert alike == detector(texts(80, 3), real, 0)


def test_a_detectors_score_stays_what_it_is_in_its_version():
    generated = [f"certainly {text}" if index % 3 == 0 else text for index, text in enumerate(texts(60, 2))]
    assert detector(generated, texts(60, 1), 0) == {
        "version": 2,
        "auc": pytest.approx(0.6014, abs=0.002),  # one pair of texts in another order moves it by 0.0014
        "sd": pytest.approx(0.151, abs=0.002),
        "generated": 60,
        "real": 60,
        "reason": None,
    }


def test_a_detector_needs_enough_texts_of_both_kinds_and_says_so():
    result = detector(texts(50, 1), texts(LEAST - 1, 2), 0)
    assert (result["auc"], result["sd"], result["reason"]) == (None, None, "fewer than 20 real texts")
    assert detector([], [], 0)["reason"] == "fewer than 20 generated and real texts"


@pytest.mark.slow
def test_every_round_tells_its_variety_and_whether_it_can_be_told_from_real_texts(recipe_file, recipe, tmp_path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts(40, 4)), encoding="utf-8")
    run = play(recipe(**{"strategy:": "pool: {path: pool.jsonl, share: 0.1}\nstrategy:"}), tmp_path / "runs", 2)
    first, second = (read_json(run.round(index).metrics) for index in (0, 1))
    assert first["diversity"]["n"] == 3 and first["detector"] is None
    assert second["diversity"]["n"] == 22  # 24, but for two of the pool
    assert second["detector"]["real"] == 22 and second["detector"]["auc"] > 0.5
    assert summary(run)["rounds"][1]["metrics"]["detector"] == second["detector"]


def test_mastery_follows_each_class_by_what_the_student_met_and_got_right():
    def entry(number: int, **met: tuple[int, int]) -> dict:
        per_class = {name: {"n": n, "right": right} for name, (n, right) in met.items()}
        return {
            "round": number,
            "corrected": False,
            "metrics": {"probe": {"per_class": per_class} if per_class else None},
        }

    rounds = [entry(0), entry(1, red=(4, 1), blue=(0, 0)), entry(2, red=(4, 3), blue=(2, 2)), entry(3, red=(0, 0))]
    corrected = {**entry(4, red=(4, 0)), "corrected": True}  # no fresh samples
    traced = mastery([*rounds, corrected, {"round": 5, "corrected": False, "metrics": None}])
    assert [(line["round"], line["accuracy"], line["estimate"]) for line in traced["red"]] == [
        (1, 0.25, 0.25), (2, 0.75, 0.5), (3, None, 0.5)
    ]  # fmt: skip
    assert [(line["n"], line["accuracy"], line["estimate"]) for line in traced["blue"]] == [
        (0, None, None),
        (2, 1.0, 1.0),
    ]


@pytest.mark.slow
def test_the_summary_of_a_run_holds_the_mastery_of_every_class(recipe, tmp_path):
    run = play(recipe(), tmp_path, 3)
    traced = summary(run)["mastery"]
    assert set(traced) == {"red", "green", "blue"}
    for name, lines in traced.items():
        assert [line["round"] for line in lines] == [1, 2]
        probes = [read_json(run.round(line["round"]).metrics)["probe"] for line in lines]
        assert [line["n"] for line in lines] == [probe["per_class"][name]["n"] for probe in probes]
        assert sum(counts["right"] for counts in probes[0]["per_class"].values()) == probes[0]["right"]
