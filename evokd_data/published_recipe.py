"""The recipe of a published round, which may be a stranger's: data, of which only some settings are taken.

A setting is taken when its class declares it with `settings.from_anyone`, or with `settings.hub_name` and it is a name on the
Hub. All others say where something is or with what rights it runs. They come from the user's own recipe or from `--set`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from evokd_data import settings
from evokd_data.errors import RecipeError
from evokd_data.models import FOLDER
from evokd_data.models import HUB_NAME as NAME_ON_HUB
from evokd_data.recipe import FAMILIES, REQUIRED, Recipe, build
from evokd_data.recipe_file import read_recipe_file
from evokd_data.recipe_sections import SECTIONS
from evokd_data.registry import resolve

SCALARS = {
    "name": settings.ANYONE,
    "seed": settings.ANYONE,
    "prompts": settings.USER,
    "teacher_trust": settings.ANYONE,
    "teacher_test_texts": settings.ANYONE,
}
"""The settings outside of sections. Prompts are those of the revision, wherever its author had them."""


@dataclass(frozen=True)
class PublishedRecipe:
    """`recipe` holds what was taken, defaults for the rest. Of what has no default it holds stand-ins that name nothing.

    `withheld`: "teacher.urls" -> the value in the file, of every setting that was not taken. `answered`: those of them that the
    user decided.
    """

    recipe: Recipe
    withheld: Mapping[str, Any]
    answered: frozenset[str]

    def require(self, sections: Sequence[str], name: str, how: str) -> None:
        """Raises RecipeError that lists what the file asks for in `sections` and the user did not decide.

        `name`: the revision; `how`: where the user can decide it.
        """
        asked = [
            f"--set {path}={settings.short(value)}"
            for path, value in self.withheld.items()
            if path.split(".")[0] in sections and path not in self.answered
        ]
        if asked:
            raise RecipeError(
                f"{name}: its recipe asks for what a downloaded recipe does not decide: where something is, or with what "
                f"rights it runs. Give your own values {how}. What it asks for:",
                *(f"  {line}" for line in asked),
            )


def load_published(
    path: Path, prompts: Path | None, overrides: Iterable[str] = (), user_recipe: Recipe | None = None
) -> PublishedRecipe:
    """The recipe of a revision, with the revision's `prompts`.

    `overrides` are the user's, of the form `a.b=c`. `user_recipe` is a recipe of the user's: what is withheld is taken from it where it
    uses the same plug. Files that it names are not looked for. Raises RecipeError.
    """
    file = read_recipe_file(path)
    overrides = list(overrides)
    withheld = dict(_withhold(file.table))
    answered = {path for path in withheld if any(_decides(override, path) for override in overrides)}
    if user_recipe is not None:
        answered |= set(_take_from(user_recipe, file.table, withheld))
    problems = file.override(overrides)
    _stand_in(file.table)
    recipe, build_problems = build(file.table, path, Path.cwd())
    problems += build_problems
    if problems or recipe is None:
        raise RecipeError(*(f"{path.name}: {problem}" for problem in problems))
    return PublishedRecipe(dataclasses.replace(recipe, prompts=prompts), withheld, frozenset(answered))


def section_classes(table: Mapping[str, Any]) -> dict[str, type]:
    """Section -> its class, for the sections of a recipe's table that are tables and name a plug that exists."""
    classes: dict[str, type] = {}
    for key, section in table.items():
        if key in SECTIONS and isinstance(section, dict):
            classes[key] = SECTIONS[key]
        elif key in FAMILIES and isinstance(section, dict):
            family = FAMILIES[key]
            if (choice := section.get(family.key, family.default)) is not None and str(choice) in family.table:
                classes[key] = resolve(family.table, str(choice))
    return classes


def _withhold(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Remove what is not taken from the table. Yields path and value of each setting that asked for something."""
    table["prompts"] = None
    for key, cls in section_classes(table).items():
        sources = settings.declared(cls)
        for field in dataclasses.fields(cls):
            if not field.init or field.name not in table[key]:
                continue
            source, _ = sources.get(field.name, (settings.USER, None))
            value = table[key][field.name]
            if source == settings.ANYONE or (source == settings.HUB_NAME and is_on_hub(value)):
                continue
            del table[key][field.name]
            if value is not None and value != settings.plain(_default(field)):
                yield f"{key}.{field.name}", value
        if not table[key] and key not in REQUIRED:
            del table[key]


def is_on_hub(model: Any) -> bool:
    """Whether a model's name can only mean a repository of the Hub. A folder of that name in the working folder comes first."""
    is_name = isinstance(model, str) and not model.startswith(FOLDER) and NAME_ON_HUB.fullmatch(model)
    return bool(is_name) and not Path(model).is_dir()


def _decides(override: str, path: str) -> bool:
    key = override.partition("=")[0].strip()
    return key == path or key.startswith(f"{path}.") or path.startswith(f"{key}.")


def _take_from(user_recipe: Recipe, table: dict[str, Any], withheld: Mapping[str, Any]) -> Iterator[str]:
    """Write the user's values of withheld settings into the table. Yields the path of each."""
    for key, family in FAMILIES.items():
        plug = getattr(user_recipe, key)
        plug = getattr(plug, "base", plug)  # a pool wraps the strategy of the recipe
        if isinstance(table.get(key), dict) and table[key].get(family.key, family.default) == plug.name:
            for name in [path.split(".")[1] for path in withheld if path.startswith(f"{key}.")]:
                table[key][name] = settings.plain(getattr(plug, name))  # paths of the user's are absolute here
                yield f"{key}.{name}"


def _stand_in(table: dict[str, Any]) -> None:
    for key, cls in section_classes(table).items():
        for name, (_, value) in settings.declared(cls).items():
            if value is not None:
                table[key].setdefault(name, value)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default
