"""Whatever happened to a run's files, every command ends with one message that names the file, or works."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from tests.support.damaged_files import (
    DAMAGES,
    call,
    damage,
    replace_by_folder,
    replace_by_pipe,
    restored,
    without_checksum,
)
from tests.support.example_task import QUICK, RECIPE, play, quick
from tests.support.published_runs import write_recipe

pytestmark = pytest.mark.slow
FAST = [part for setting in QUICK for part in ("--set", setting)]


@dataclass(frozen=True)
class Run:
    """The folder of a recipe with its data and its run: two complete rounds, and one that is generated."""

    folder: Path
    files: list[Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pristine")
    recipe = quick(write_recipe(folder, RECIPE.replace("teacher_trust: off", "teacher_trust: force")))
    play(recipe, folder / "runs", 2)
    generate_next(recipe, folder / "runs", Progress())
    return Run(folder, sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()))


def commands(folder: Path) -> dict[str, list[str]]:
    recipe, runs = str(folder / "recipe.yaml"), str(folder / "runs")
    return {
        "run": ["run", recipe, "--runs", runs, *FAST],
        "show": ["show", f"{runs}/colours"],
        "plan": ["show", f"{runs}/colours", "--plan", "1"],
        "report": ["report", f"{runs}/colours", "--out", str(folder / "report.html")],
        "generate": ["generate", recipe, "--runs", runs, *FAST],
        "train-round": ["train-round", recipe, "--runs", runs, *FAST],
        "check": ["check", recipe],
    }


def ends_well(folder: Path, command: str) -> None:
    code, message = call(commands(folder)[command])
    if code:
        last = message.strip().splitlines()[-1]
        assert code == 1 and ("Error: " in message or command == "check"), message
        assert len(last) < 2000


@pytest.mark.parametrize("damage_name", DAMAGES)
def test_a_damaged_file_ends_in_a_message(run: Run, damage_name: str, tmp_path: Path) -> None:
    """Six drawn files and commands for each damage; with checksums, and as earlier versions left the files."""
    chance = random.Random(damage_name)
    for number in range(6):
        folder = restored(run.folder, tmp_path / "copy")
        path, command = folder / chance.choice(run.files), chance.choice([*commands(folder)])
        damage(path, damage_name, number)
        if number % 2:
            without_checksum(path)
        ends_well(folder, command)


@pytest.mark.parametrize("command", ["run", "show", "plan", "report", "train-round"])
@pytest.mark.parametrize("name", ["manifest.json", "plan.json", "generated.json", "metrics.json", "exam.json"])
def test_json_of_another_form_is_named(run: Run, name: str, command: str, tmp_path: Path) -> None:
    for damage_name in ("a list", "null", "an empty table", "numbers", "long integer"):
        folder = restored(run.folder, tmp_path / "copy")
        path = folder / "runs" / "colours" / "round-001" / name
        damage(path, damage_name)
        without_checksum(path)
        ends_well(folder, command)


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("name", ["recipe.yaml", "seeds.jsonl", "test.jsonl"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_at_once(
    run: Run, name: str, command: str, tmp_path: Path
) -> None:
    for replace in (replace_by_pipe, replace_by_folder):
        folder = restored(run.folder, tmp_path / "copy")
        replace(folder / name)
        code, message = call(commands(folder)[command])
        assert code == 1 and name in message


@pytest.mark.parametrize(
    "text", ["seed: " + "9" * 6000, "rounds: {count: " + "9" * 6000 + "}", "a: " + "[" * 3000, "? " * 3000, "- " * 3000]
)
def test_long_integers_and_deep_nesting_in_a_recipe_are_a_message(run: Run, text: str, tmp_path: Path) -> None:
    folder = restored(run.folder, tmp_path / "copy")
    with (folder / "recipe.yaml").open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    code, message = call(commands(folder)["check"])
    assert code == 1 and "recipe.yaml" in message
    assert len(message) < 3000
