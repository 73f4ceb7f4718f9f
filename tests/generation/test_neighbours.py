"""Which classes are most like each class."""

from __future__ import annotations

import pytest

from evokd_data.generation import neighbours as module
from evokd_data.generation.neighbours import neighbours
from evokd_data.recipe import load
from evokd_data.students.linear import Linear
from tests.support.example_task import sample

TEXTS = {
    "buy": ["order a red shirt now", "order a blue shirt now"],
    "return": ["send a red shirt back", "send a blue shirt back"],
    "weather": ["rain and wind tomorrow", "snow and wind tonight"],
    "greet": ["hello there", "hello again, rain or snow"],
}


@pytest.fixture
def recipe(recipe_file):
    return load(recipe_file(**{"[red, green, blue]": "[buy, return, weather, greet]"}))


def test_the_classes_whose_seeds_share_words_are_nearest(recipe, monkeypatch):
    seeds = {label: [sample(text, label) for text in texts] for label, texts in TEXTS.items()}
    nearest = neighbours(recipe, seeds)
    assert {label: others[0] for label, others in nearest.items()} == {
        "buy": "return", "return": "buy", "weather": "greet", "greet": "weather"
    }  # fmt: skip
    assert all(sorted([label, *others]) == sorted(TEXTS) for label, others in nearest.items())
    monkeypatch.setattr(module, "NEAREST", 1)
    assert neighbours(recipe, seeds) == {label: others[:1] for label, others in nearest.items()}


def test_similarity_is_the_cosine_of_mean_directions(recipe, monkeypatch):
    """Centroids: buy (1, 0), return (.71, .71), weather (0, 1), greet (-1, 0) however long the vectors are; ties in the task's order."""
    vectors = {"buy": (3, 0), "return": (1, 1), "weather": (0, 0.5), "greet": (-2, 0)}
    monkeypatch.setattr(Linear, "features", lambda self, texts: [vectors[text] for text in texts])
    seeds = {label: [sample(label, label)] * 2 for label in vectors}
    assert neighbours(recipe, seeds) == {
        "buy": ["return", "weather", "greet"],
        "return": ["buy", "weather", "greet"],
        "weather": ["return", "buy", "greet"],
        "greet": ["weather", "return", "buy"],
    }


def test_two_classes_need_no_comparison_and_types_of_spans_have_no_neighbours(recipe_file, recipe):
    two = load(recipe_file(**{"[red, green, blue]": "[yes, no]"}))
    assert neighbours(two, {}) == {"yes": ["no"], "no": ["yes"]}
    tagging = {"{type: classification, labels: [red, green, blue], ": "{type: ner, types: [a, b, c], "}
    assert neighbours(load(recipe_file(**tagging)), {}) == {}
