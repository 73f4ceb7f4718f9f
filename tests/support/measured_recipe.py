"""The colours recipe with seeds that an exam can be taken on."""

from __future__ import annotations

from pathlib import Path

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
