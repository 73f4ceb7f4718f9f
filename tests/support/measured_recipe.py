"""The colours recipe with seeds that an exam can be taken on."""

from __future__ import annotations

from pathlib import Path

from evokd_data.loop.rounds import generate_next, train_next
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe, load
from tests.support.example_task import RECIPE, TEST, write_rows

COLOURS = ("red", "green", "blue")
SEEDS = {colour: [f"{colour} {colour}ish{number}" for number in range(5)] for colour in COLOURS}
"""Seeds of a label share one word: the scripted teacher, which counts shared words, labels each of them right."""


def measured_recipe(folder: Path, *overrides: str, per_class: int = 5) -> Recipe:
    """A recipe whose teacher takes the exam on `per_class` seeds of each colour; its files lie in `folder`."""
    write_rows(folder / "seeds.jsonl", {label: texts[:per_class] for label, texts in SEEDS.items()})
    write_rows(folder / "test.jsonl", TEST)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("teacher_trust: off\n", "").replace(", per_class: 1", ""), encoding="utf-8")
    return load(path, ["student.buckets=1024", "student.min_steps=20", *overrides])


def generate_round_one(recipe: Recipe, runs: Path) -> list[str]:
    """Make the run up to the texts of round 1. Returns what it told."""
    notes: list[str] = []
    progress = Progress()
    progress.note = notes.append  # type: ignore[method-assign]
    generate_next(recipe, runs, progress)
    train_next(recipe, runs, progress)
    generate_next(recipe, runs, progress)
    return notes
