"""Check a recipe before its run: whatever `run` would refuse before its first request, by the code that would refuse it.

Nothing is written, no weights are loaded, and the Hub is asked only where that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec

from evokd_data.errors import DataError, EvokdError, RecipeError, StudentError, TeacherError
from evokd_data.models import FOLDER, PACKAGE, ask_hub, check_files, folder_here
from evokd_data.recipe import Recipe
from evokd_data.recipe_checks import SOURCES
from evokd_data.reporting.tracking import lacks
from evokd_data.seeds import Splits, load_splits, notes
from evokd_data.tasks.untested import untested_in

NOT_ASKED = "the Hub was not asked for it"
LOCAL_HUB = ("dulwich", "lz4", "uvicorn")
"""The packages of the extra [hub], which `publish: {endpoint: local}` needs before the first round."""


@dataclass(frozen=True, slots=True)
class Findings:
    """`problems` stop a run; `remarks` do not, or stop it on this machine alone. `splits` is None when they cannot be read."""

    splits: Splits | None
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check(recipe: Recipe, online: bool = False) -> Findings:
    """Look at everything that the recipe names; `online` also at what is on the Hub."""
    problems: list[str] = []
    splits = None
    try:
        splits = load_splits(recipe, hub=False)
    except EvokdError as error:
        problems.append(str(error))
    steps: list[Callable[[], None]] = [lambda: _teacher(recipe, online), lambda: _student(recipe, online)]
    steps += [lambda: _card(recipe)]
    if online:
        steps += [lambda key=key: _dataset(recipe, key) for key in SOURCES]  # type: ignore[misc]
        steps += [lambda: _repository(recipe)]
    for step in steps:
        try:
            step()
        except EvokdError as error:
            problems.append(str(error))
    return Findings(splits, problems, _remarks(recipe, splits, online))


def _teacher(recipe: Recipe, online: bool) -> None:
    model = recipe.teacher.base_model
    if model is None or not recipe.teacher.loads_model:
        return
    if not check_files(model, "teacher", TeacherError, weights=False) and online:
        ask_hub(model, "teacher", TeacherError)


def _student(recipe: Recipe, online: bool) -> None:
    model = recipe.student.base_model
    if model is None:
        return
    folder = folder_here(model, "student", StudentError)
    if folder is not None:
        with suppress(ImportError):  # torch and transformers are not needed to check a recipe
            recipe.student.check_base(folder)
    elif online:
        ask_hub(model, "student", StudentError)


def _card(recipe: Recipe) -> None:
    """The comparison that the card shows is first read when round 0 is published."""
    if recipe.card.comparison is not None:
        from evokd_data.reporting.dataset_card import comparison

        comparison(recipe)


def _dataset(recipe: Recipe, key: str) -> None:
    source = getattr(recipe, key)
    if source is not None and source.dataset is not None:
        from evokd_data.sources.hub_datasets import find_commit

        try:
            find_commit(source)
        except DataError as error:
            raise RecipeError(f"{key}: {error}") from None


def _repository(recipe: Recipe) -> None:
    if recipe.publish is not None and recipe.publish.endpoint != "local":
        from evokd_data.stages.publish import Publication

        with Publication.of(recipe):
            pass


def _remarks(recipe: Recipe, splits: Splits | None, online: bool) -> list[str]:
    remarks = [
        f"{key}.revision names no commit: the model may be another one tomorrow, and a run begun with this one could not go "
        "on; pin it for an experiment that lasts"
        for key in recipe.unpinned()
    ]
    with suppress(ImportError):  # a finder of modules that refuses to look
        remarks += [f"teacher: {line}" for line in recipe.teacher.lacks()]
        remarks += [f"student: {line}" for line in recipe.student.lacks()]
        remarks += lacks(recipe)
        if recipe.publish is not None and recipe.publish.endpoint == "local":
            remarks += [
                f"publish.endpoint: the local Hub needs {name}; run: pip install 'evokd-data[hub]'"
                for name in LOCAL_HUB
                if find_spec(name) is None
            ]
    remarks += [*_forgotten_folders(recipe), *_wording(recipe), *([] if online else _not_looked_for(recipe))]
    if not recipe.student.learns:
        remarks.append(
            f"student.kind: {recipe.student.name!r} learns nothing, so it predicts the same after every round; it is a baseline: name "
            "this recipe after one whose student learns in evokd-data compare --same-shards"
        )
    for key, report in (splits.reports if splits else {}).items():
        remarks += [f"{key}: {line}" for line in notes(report)]
    for key, samples in (("test", splits.test), ("dev", splits.dev)) if splits else ():
        if samples and (sentence := untested_in(recipe.task, samples, key)):
            remarks.append(f"{key}: {sentence}")
    for key in SOURCES:
        source = getattr(recipe, key)
        if source is not None and source.dataset is not None:
            looked = (
                "its rows are read" if online else "it was not looked for (--online asks the Hub), its rows are read"
            )
            remarks.append(f"{key}: {source}: {looked} when the run begins")
    return remarks


def _forgotten_folders(recipe: Recipe) -> Iterator[str]:
    """Models that are written like names on the Hub, while a folder of that name lies beside the recipe."""
    loaded = {
        "teacher": recipe.teacher.base_model if recipe.teacher.loads_model else None,
        "student": recipe.student.base_model,
    }
    folder = recipe.path.resolve().parent
    for key, model in loaded.items():
        if model is None or model.name.startswith((PACKAGE, *FOLDER)) or not (folder / model.name).is_dir():
            continue
        yield (
            f"{key}.model: {model.name!r} is written like a name on the Hub, and a folder of that name lies beside the recipe; did you mean "
            f"'./{model.name}'?"
        )


def _not_looked_for(recipe: Recipe) -> Iterator[str]:
    """Models on the Hub that are not on this machine."""
    models = {
        "teacher": (recipe.teacher.base_model if recipe.teacher.loads_model else None, TeacherError),
        "student": (recipe.student.base_model, StudentError),
    }
    for key, (model, error) in models.items():
        with suppress(EvokdError, ImportError):  # a model that is a problem is told as one
            if model is not None and folder_here(model, key, error) is None:
                yield (
                    f"{key}.model: {model.name!r} is not on this machine; {NOT_ASKED} (--online does), and the run downloads it when it begins"
                )


def _is_code(name: str) -> bool:
    """Whether a name is in capitals, or has digits or underscores: the code of a label, not a word for it."""
    return " " not in name and (name.isupper() or any(letter.isdigit() or letter == "_" for letter in name))


def _wording(recipe: Recipe) -> Iterator[str]:
    """What prompts will say to a teacher that it cannot understand."""
    task = recipe.task.describe()
    if task.get("noun") == "text" and recipe.strategy.prompt_templates:
        yield (
            "task.noun: text is the default, and every prompt says it; say what one of your texts is, such as question, review or "
            "customer message"
        )
    described = task.get("label_descriptions", {})
    codes = [
        label
        for label, name in task.get("names", {}).items()
        if name == label and _is_code(label) and label not in described
    ]
    if codes:
        listed = ", ".join(codes[:8]) + (f" and {len(codes) - 8} more" if len(codes) > 8 else "")
        yield (
            f"task.label_names: {listed}: the name is the code itself, which says little to a teacher; write what it stands for "
            f"({{{codes[0]}: in words}}), or explain it in task.label_descriptions"
        )
