"""Every recipe we ship is sound."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from evokd_data.errors import RecipeError
from evokd_data.loop.compare import trials
from evokd_data.recipe import load
from evokd_data.seeds import load_splits
from tests.support import ROOT

RECIPES = sorted(ROOT.glob("recipes/*.yaml"))
DATASETS = ["amazon", "cail2019", "conll03", "conll04", "imdb", "inshorts", "toutiao"]
OF_PAPER = {path.stem: path for path in ROOT.glob("recipes/paper/*.yaml")}
LOCAL = {path.stem: path for path in ROOT.glob("recipes/local/*.yaml")}
COMPARED = sorted(ROOT.glob("recipes/compare-snips/*.yaml"))


def test_all_recipes_were_seen():
    names = [
        "laptop.yaml",
        "quickstart-server.yaml",
        "quickstart-slots.yaml",
        "quickstart-uniform.yaml",
        "quickstart.yaml",
    ]
    assert [path.name for path in RECIPES] == names
    assert sorted(OF_PAPER) == sorted(LOCAL) == DATASETS
    assert len([*ROOT.glob("recipes/**/*.yaml")]) == len([*RECIPES, *OF_PAPER, *LOCAL, *COMPARED])


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_recipe_checks_and_begins_with_the_command_that_runs_it(path):
    recipe = load(path)
    splits = load_splits(recipe)
    for label in recipe.task.labels:
        assert sum(recipe.task.carries(sample.target, label) for sample in splits.test) >= 30, label
    assert path.read_text(encoding="utf-8").startswith(f"# evokd-data run {path.relative_to(ROOT)}\n")


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_recipe_misspelt_is_refused(path):
    with pytest.raises(RecipeError, match=r"did you mean 'samples'\?"):
        load(path, ["rounds.sampels=3"])


# Recipes whose data we may not ship


@pytest.fixture
def toy_data(tmp_path):
    """Overrides that name data of a few rows, made for the recipe's own classes."""

    def write(path: Path) -> list[str]:
        task = YAML(typ="safe").load(path)["task"]
        rows = [
            {"text": f"text {number} of {label}", "label": label}
            for label in task.get("labels", ())
            for number in range(5)
        ] + [
            {"tokens": ["Say", name, str(number)], "ner_tags": ["O", f"B-{name}", "O"]}
            for name in ([*task["types"], "Other"] if "types" in task else ())
            for number in range(5)
        ]
        files = {"seeds": rows, "test": [{**row, "text": f"{row['text']}, again"} if "text" in row else
                                         {"tokens": ["Again", *row["tokens"]], "ner_tags": ["O", *row["ner_tags"]]}
                                         for row in rows]}  # fmt: skip
        for name, rows_of_split in files.items():
            (tmp_path / f"{name}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows_of_split), encoding="utf-8"
            )
        return [f"{name}={{path: {tmp_path / name}.jsonl}}" for name in files]

    return write


@pytest.mark.parametrize(
    "path", [*OF_PAPER.values(), *LOCAL.values()], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_recipe_without_its_data_checks_but_for_them_and_pins_its_models(path, toy_data):
    sections = YAML(typ="safe").load(path)
    recipe = load(path, toy_data(path))
    assert load_splits(recipe).test
    assert recipe.name == f"{path.parent.name}-{path.stem}"
    assert path.read_text(encoding="utf-8").startswith(f"# evokd-data run {path.relative_to(ROOT)}\n")
    for model in (recipe.teacher, recipe.student):
        name, revision = getattr(model, "model", "package:none"), getattr(model, "revision", None)
        assert name.startswith("package:") or re.fullmatch("[0-9a-f]{40}", revision), name
    files = {key: source["path"] for key in ("seeds", "test") if "path" in (source := sections[key])}
    missing = [key for key, file in files.items() if not (path.parent / file).is_file()]
    assert [problem.split(": ")[1] for problem in problems_of(path)] == [f"{key}.path" for key in missing]


def problems_of(path: Path) -> tuple[str, ...]:
    """The problems of a recipe, none when it is sound."""
    try:
        load(path)
    except RecipeError as error:
        return error.problems
    return ()


@pytest.mark.slow
def test_the_arms_of_the_comparison_differ_in_strategy_alone(toy_data):
    data = toy_data(COMPARED[0])
    arms = {trial.arm: trial.recipe for trial in trials(COMPARED, [1], [None], data)}
    assert (
        sorted(arms)
        == sorted(path.stem for path in COMPARED)
        == ["auggpt", "eda", "evokd", "none", "static", "zerogen"]
    )
    for name, recipe in arms.items():
        assert (recipe.strategy.name, recipe.rounds.count) == (name, 0 if name == "none" else 5)
        for section in ("task", "seeds", "test", "teacher", "prompts", "student", "filters"):
            assert getattr(recipe, section) == getattr(arms["static"], section), section


@pytest.mark.parametrize("name", DATASETS)
def test_a_recipe_of_the_paper_has_the_papers_student_and_its_local_twin_the_same_task(name, toy_data):
    paper, local = (load(path, toy_data(path)) for path in (OF_PAPER[name], LOCAL[name]))
    assert paper.student.model in ("google-bert/bert-base-uncased", "google-bert/bert-base-chinese")
    assert (paper.seeds.per_class, local.seeds.per_class) == (None, None)  # the toy data's
    assert len(paper.task.labels) == len(local.task.labels) and paper.task.name == local.task.name
    assert paper.strategy == local.strategy


@pytest.mark.parametrize("name", DATASETS)
def test_the_data_of_a_local_recipe_hold_its_classes_where_they_are_there(name):
    sections = YAML(typ="safe").load(LOCAL[name])
    files = [LOCAL[name].parent / sections[key]["path"] for key in ("seeds", "test")]
    if not any(file.exists() for file in files):
        pytest.skip(f"no data beside the checkout: {files[0]}")
    recipe = load(LOCAL[name])
    splits = load_splits(recipe)
    assert recipe.seeds.per_class == 1
    assert len(splits.test) >= 30 * len(recipe.task.labels)
