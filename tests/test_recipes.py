"""Every recipe we ship is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from evokd_data.errors import RecipeError
from evokd_data.recipe import load
from evokd_data.seeds import load_splits

ROOT = Path(__file__).parents[1]
RECIPES = sorted(ROOT.glob("recipes/**/*.yaml"))


def test_all_recipes_were_seen():
    assert [str(path.relative_to(ROOT)) for path in RECIPES] == [
        "recipes/quickstart-uniform.yaml",
        "recipes/quickstart.yaml",
    ]


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_recipe_checks_and_begins_with_the_command_that_runs_it(path):
    recipe = load(path)
    splits = load_splits(recipe)
    assert len(splits.test) >= 30 * len(recipe.task.aims)
    assert path.read_text(encoding="utf-8").startswith("# evokd-data run recipes/")


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_recipe_misspelt_is_refused(path):
    with pytest.raises(RecipeError, match=r"did you mean 'samples'\?"):
        load(path, ["rounds.sampels=3"])
