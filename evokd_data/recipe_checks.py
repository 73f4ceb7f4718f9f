"""What a recipe whose settings are sound may still be refused for: names of files that are not there, plugs that do not fit."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.errors import RecipeError
from evokd_data.records import TokenExample
from evokd_data.registry import nearest
from evokd_data.strategies.labelling import in_form
from evokd_data.tasks import unlabelled

if TYPE_CHECKING:
    from evokd_data.recipe import Recipe
    from evokd_data.recipe_sections import Source

SOURCES = ("seeds", "test", "dev", "pool")
"""The sections that name the user's texts."""


def find_problems(recipe: Recipe) -> list[str]:
    """Every problem, one line each, which begins with the setting's path. No content of a data file is read."""
    return [
        *_unfit_plugs(recipe),
        *_unfit_budget(recipe),
        *_unfit_sources(recipe),
        *_missing_files(recipe),
        *_template_problems(recipe),
    ]


def _unfit_budget(recipe: Recipe) -> Iterator[str]:
    if recipe.budget.cost is not None and recipe.prices is None:
        yield "budget.cost: no cost is counted without prices; add prices: {prompt: ..., completion: ...}"


def _unfit_plugs(recipe: Recipe) -> Iterator[str]:
    if reason := recipe.strategy.accepts(recipe.task):
        yield f"strategy.name: {recipe.strategy.name!r} cannot work on a {recipe.task.name} task: {reason}"
    tasks = [in_form(recipe.task, answer) for answer in recipe.task.answer_forms] or [recipe.task]
    reasons = [recipe.teacher.refuses(task.label_constraint("a text")) for task in tasks]
    if "label" in recipe.strategy.prompt_templates and all(reasons):
        yield f"teacher.engine: {recipe.teacher.name!r} cannot label this task's texts: {reasons[0]}"
    if recipe.student.refuses_words and isinstance(unlabelled(recipe.task, "a text"), TokenExample):
        yield f"student.kind: {recipe.student.name!r} cannot learn a {recipe.task.name} task: {recipe.student.refuses_words}"


def _unfit_sources(recipe: Recipe) -> Iterator[str]:
    for key in SOURCES:
        source = getattr(recipe, key)
        if source is None:
            continue
        for stored, name in source.label_map.items():
            if not recipe.task.may_be_called(name):
                yield f"{key}.label_map.{stored}: {name!r} is no label of the task{nearest(name, recipe.task.labels)}"
        if source.format == "conll" and not recipe.task.suffixes:
            yield f"{key}.format: 'conll' holds tags of words, which a {recipe.task.name} task has not; name a file of rows"


def _missing_files(recipe: Recipe) -> Iterator[str]:
    """A problem for each file and folder that the recipe names and that is not there."""
    for key in SOURCES:
        source = getattr(recipe, key)
        if source is not None and source.path is not None and not source.path.is_file():
            yield f"{key}.path: {recipe.settings[key]['path']!r} {_no_file(source)}"
    for key in ("task", "teacher", "strategy", "student", "card"):
        for setting, path in _paths(getattr(recipe, key)):
            written = recipe.settings[key][setting]
            if path.is_dir():
                yield f"{key}.{setting}: {written!r} is a folder; name a file"
            elif not path.is_file():
                yield f"{key}.{setting}: {written!r} is not a file; paths are relative to the recipe"
            elif not _is_text(path):
                yield f"{key}.{setting}: {written!r} is not a UTF-8 text file; convert it"
    for key in ("teacher", "student"):
        model = getattr(recipe, key).base_model
        if model is not None and model.name.startswith("/") and not Path(model.name).is_dir():
            yield (
                f"{key}.model: {recipe.settings[key]['model']!r} is not a folder; paths are relative to the recipe, "
                "a Hub id is written org/name"
            )
    if recipe.prompts is not None and not recipe.prompts.is_dir():
        yield f"prompts: {recipe.settings['prompts']!r} is not a folder; paths are relative to the recipe"


def _no_file(source: Source) -> str:
    """Why the source's path is no file, and what to do."""
    path = source.path
    assert path is not None
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        names = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
        return f"is a folder; name one file{' in it: ' + names if files else ''}"
    neighbours = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, neighbours, n=1)
    return f"is not a file; {f'did you mean {close[0]!r}?' if close else 'paths are relative to the recipe'}"


def _paths(section: Any) -> Iterator[tuple[str, Path]]:
    """The paths among the settings of a section, and of a plug that it wraps, by the setting's name."""
    for setting in dataclasses.fields(section):
        value = getattr(section, setting.name)
        if isinstance(value, Path):
            yield setting.name, value
        elif dataclasses.is_dataclass(value):
            yield from _paths(value)


def _is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return True


def _template_problems(recipe: Recipe) -> Iterator[str]:
    if recipe.prompts is not None and recipe.prompts.is_dir():
        try:
            recipe.templates().sources(recipe.strategy.prompt_templates)
        except RecipeError as error:
            yield from error.problems
