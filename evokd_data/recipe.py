"""A recipe: one YAML file (1.2 rules) that is a whole experiment, checked whole before anything is loaded.

Every problem is reported at once, each with its line, its path in the file, the value and the nearest valid name.
Checking imports none of torch, vllm, transformers, datasets, pyarrow.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import settings
from evokd_data.digest import digest
from evokd_data.errors import RecipeError
from evokd_data.models import FOLDER
from evokd_data.recipe_checks import find_problems
from evokd_data.recipe_file import read_recipe_file
from evokd_data.recipe_sections import (
    SECTIONS,
    Budget,
    Card,
    Filters,
    Pool,
    Prices,
    Publish,
    Rounds,
    Seeds,
    Source,
    Tracking,
    Training,
)
from evokd_data.redaction import RANDOM, secret_settings
from evokd_data.registry import nearest, resolve
from evokd_data.strategies import STRATEGIES, WRAPPERS, Strategy
from evokd_data.students import STUDENTS, Student
from evokd_data.students.presets import PRESETS, Presets
from evokd_data.tasks import TASKS, Task
from evokd_data.teachers import TEACHERS, Teacher

if TYPE_CHECKING:
    from evokd_data.templates import Templates


MEASURED, FORCE, OFF = TRUST = ("measured", "force", "off")


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    `path` is the file it came from. `settings` is the whole table, with defaults filled in and paths as they were written.
    """

    name: str
    """The name of the run, and of its folder below `runs`. Letters, digits, '.', '_' and '-'."""
    task: Task
    """What the student must predict: one label for a text, or spans of a text."""
    seeds: Seeds
    test: Source
    """Labelled texts that are only ever scored. No text of them reaches a prompt."""
    teacher: Teacher
    """The large language model that writes and labels texts, and the engine that runs it."""
    strategy: Strategy
    """The method that decides which texts are asked for. Without the section: `evokd`."""
    student: Student
    """The small model that learns from the samples and is deployed."""
    dev: Source | None = None
    """More labelled texts, for decisions such as which student is kept. Without them seeds are used, cross-fitted."""
    pool: Pool | None = None
    rounds: Rounds = field(default_factory=Rounds)
    filters: Filters = field(default_factory=Filters)
    training: Training = field(default_factory=Training)
    budget: Budget = field(default_factory=Budget)
    prices: Prices | None = None
    publish: Publish | None = None
    tracking: Tracking | None = None
    card: Card = field(default_factory=Card)
    prompts: Path | None = None
    """A folder with prompt templates of your own. Those it lacks are taken from the package."""
    seed: int = 0
    """The random seed of the whole run, a whole number from 0. Another seed is another experiment."""
    teacher_trust: str = MEASURED
    """`measured`: the teacher takes an exam on the seeds, and a run whose teacher fails it stops. `force`: it takes
    the exam, the run goes on whatever comes of it, and no round is doubted. `off`: no exam; labels are asked for and trusted as the
    recipe says."""
    teacher_test_texts: int = 500
    """How many test texts the teacher labels after the last round, with the seeds as demonstrations and without any.
    Its scores stand beside the student's. Nothing else reads its answers. 0: none."""
    path: Path = Path("recipe.yaml")
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Recipe:
        """The recipe in a file, with settings overridden: {"rounds.count": 2}, or ["rounds.count=2"] as `--set` has them.

        Raises RecipeError listing every problem.
        """
        return load(path, _written(overrides) if isinstance(overrides, Mapping) else overrides)

    @property
    def fingerprint(self) -> str:
        """Digest of every setting that can change a row. What data files and models hold has digests of its own."""
        return digest(self.identity())

    def identity(self) -> dict[str, Any]:
        """The settings behind `fingerprint`, by section."""
        sections: dict[str, Any] = {"seed": self.seed}
        for key in ("task", "seeds", "strategy", "student", "rounds", "filters"):
            sections[key] = settings.identity(getattr(self, key))
        if self.pool is not None:
            sections["pool"] = settings.identity(self.pool)
        if self.teacher_trust == OFF:  # `force` changes whether a run stops and which student is kept, and no row
            sections["teacher_trust"] = self.teacher_trust
        if self.training != Training():
            sections["training"] = settings.identity(self.training)
        sections["task"]["type"] = self.task.name
        sections["strategy"]["name"] = self.strategy.name
        sections["student"]["kind"] = self.student.name
        sections["student"].pop("model", None)  # Student.identity names the weights themselves
        return sections

    def unpinned(self) -> list[str]:
        """The sections whose model is looked up on the Hub by a name that can move: no revision, a branch, a tag."""
        return [
            key
            for key in ("teacher", "student")
            if (model := getattr(self, key).base_model) is not None and model.can_move
        ]

    def templates(self) -> Templates:
        """The prompt templates in use. Raises RecipeError, see `Templates`."""
        from evokd_data.templates import Templates

        return Templates(self.task.templates, self.prompts)


@dataclass(frozen=True)
class Family:
    """A section whose class is chosen by one of its keys. Without a `default` the key is required.

    `presets` are named settings, by choice: the key `preset` of the section stands for them.
    """

    key: str
    table: Mapping[str, str]
    default: str | None = None
    presets: Mapping[str, Presets] = field(default_factory=dict)


FAMILIES = {
    "task": Family("type", TASKS),
    "teacher": Family("engine", TEACHERS, "vllm"),
    "strategy": Family("name", STRATEGIES, "evokd"),
    "student": Family("kind", STUDENTS, "transformer", PRESETS),
}
SCALARS = ("name", "prompts", "seed", "teacher_trust", "teacher_test_texts")
PRESET = "A base model by a short name, with settings that suit it (docs/students.md has the list). What is set beside it counts."
REQUIRED = ("name", "task", "seeds", "test", "teacher", "student")
NAME = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}$")


def load(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, with `a.b=c` overrides applied. Raises RecipeError listing every problem."""
    path = Path(path)
    file = read_recipe_file(path)
    problems = file.override(overrides)
    recipe, build_problems = build(file.table, path, path.resolve().parent)
    problems += build_problems
    if recipe is not None and not problems:
        problems += find_problems(recipe)
    if problems or recipe is None:
        raise RecipeError(*(f"{path}{file.line_of(problem)}: {problem}" for problem in problems))
    return recipe


def _written(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides as `--set` has them: JSON is YAML."""
    return [f"{key}={json.dumps(value, default=str)}" for key, value in overrides.items()]


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors. The descriptions are the docstrings of `Recipe`'s fields and of the sections'."""
    properties: dict[str, Any] = {
        "name": {"type": "string", "pattern": NAME.pattern},
        "seed": {"type": "integer", "minimum": 0, "default": 0},
        "prompts": {"type": ["string", "null"], "format": "path"},
        "teacher_trust": {"enum": list(TRUST), "default": MEASURED},
        "teacher_test_texts": {"type": "integer", "minimum": 0, "default": 500},
    }
    definitions: dict[str, Any] = {}
    texts = settings.descriptions(Recipe)

    def section_schema(cls: type) -> dict[str, Any]:
        described = settings.json_schema(cls)
        definitions.update(described.pop("$defs", {}))
        return described

    for key, cls in SECTIONS.items():
        properties[key] = section_schema(cls)
    for key, family in FAMILIES.items():
        variants = []
        for choice in family.table:
            variant = section_schema(resolve(family.table, choice))
            variant["properties"][family.key] = {"description": variant.get("description", ""), "const": choice}
            if presets := family.presets.get(choice):
                variant["properties"]["preset"] = {"description": PRESET, "enum": sorted(presets)}
                variant["required"] = [name for name in variant["required"] if name != "model"]
                variant["anyOf"] = [{"required": ["model"]}, {"required": ["preset"]}]
            if choice != family.default:
                variant["required"] = [family.key, *variant.get("required", [])]
            variants.append(variant)
        properties[key] = {"oneOf": variants}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evokd-data recipe",
        "type": "object",
        "properties": {key: settings.described(entry, texts.get(key, "")) for key, entry in properties.items()},
        "required": list(REQUIRED),
        "additionalProperties": False,
        "$defs": definitions,
    }


def build(table: dict[str, Any], path: Path, base: Path) -> tuple[Recipe | None, list[str]]:
    """The recipe that the table of the file `path` describes, or None and every problem of the table itself.

    Relative paths in the table are relative to the folder `base`.
    """
    if secrets := list(_secret_problems(table)):
        return None, secrets  # alone: other problems would quote the value
    problems = list(_table_problems(table))
    sections: dict[str, Any] = {}
    for key, cls in SECTIONS.items():
        if (section := table.get(key)) is not None:
            sections[key] = _build_section(cls, section, key, problems)
    for key, family in FAMILIES.items():
        section = table.get(key)
        if section is None and key not in REQUIRED:
            section = {}  # a section left out, or with all its lines commented out: the defaults
        if section is not None:
            sections[key] = _build_plug(family, section, key, problems)
    if problems:
        return None, problems

    scalars = {"name": table["name"], "seed": table.get("seed", 0), "prompts": table.get("prompts")}
    scalars["teacher_trust"] = table.get("teacher_trust", MEASURED)
    scalars["teacher_test_texts"] = table.get("teacher_test_texts", 500)
    written = dict(scalars)
    for key, section in sections.items():
        choice = {FAMILIES[key].key: section.name} if key in FAMILIES else {}
        written[key] = {**choice, **settings.table(section)}
    sections = {key: _with_absolute_paths(section, base) for key, section in sections.items()}
    if "pool" in sections:
        explains = sections["task"].label_constraint("").choices is not None
        sections["strategy"] = resolve(WRAPPERS, "pool")(sections["strategy"], explains)
    prompts = _absolute(base, scalars["prompts"]) if scalars["prompts"] else None
    return Recipe(**{**scalars, **sections, "prompts": prompts}, path=path, settings=written), []


def _secret_problems(table: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each setting that looks like a secret. Task and card are the user's own words: of them only the shape counts."""
    for key, section in table.items():
        for path, reason in secret_settings(section, str(key), entropy=key in ("teacher", "publish", "student")):
            if reason != RANDOM or path.rsplit(".", 1)[-1] not in ("api_key_env", "revision", "model"):
                yield (
                    f"{path}: {reason}, and a secret has no place in a recipe, which is published with its rounds; export it, a "
                    "Hub token as HF_TOKEN, a server's key in the variable that teacher.api_key_env names"
                )


def _table_problems(table: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the keys of the table, and with the values that are no sections."""
    valid = [*SCALARS, *SECTIONS, *FAMILIES]
    yield from (f"{key}: no such section{nearest(str(key), valid)}" for key in table if key not in valid)
    yield from (f"{key}: is required" for key in REQUIRED if table.get(key) is None)
    name, seed, prompts = table.get("name"), table.get("seed", 0), table.get("prompts")
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        yield f"name: {settings.short(name)} is no folder name; use letters, digits, '.', '_' and '-'"
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        yield f"seed: {settings.short(seed)} is not a whole number from 0"
    if (trust := table.get("teacher_trust", MEASURED)) not in TRUST:
        yield f"teacher_trust: {settings.short(trust)} is none of {', '.join(TRUST)}"
    texts = table.get("teacher_test_texts", 0)
    if not isinstance(texts, int) or isinstance(texts, bool) or texts < 0:
        yield f"teacher_test_texts: {settings.short(texts)} is not a whole number from 0"
    if prompts is not None and not isinstance(prompts, str):
        yield f"prompts: {settings.short(prompts)} is not the path of a folder"


def _build_section(cls: type, table: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{key}: {settings.short(table)} is not a table of settings")
        return None
    section, section_problems = settings.build(cls, table, key)
    problems.extend(section_problems)
    return section


def _build_plug(family: Family, table: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{key}: {settings.short(table)} is not a table of settings")
        return None
    choice = table.get(family.key, family.default)
    if choice is None:
        problems.append(f"{key}.{family.key}: is required; valid: {', '.join(sorted(family.table))}")
        return None
    try:
        cls = resolve(family.table, str(choice))
    except RecipeError as error:
        problems.append(f"{key}.{family.key}: {error}")
        return None
    own_table = {name: value for name, value in table.items() if name != family.key}
    presets = family.presets.get(str(choice), {})
    if presets and "preset" in own_table:
        preset = str(own_table.pop("preset"))
        if preset not in presets:
            problems.append(f"{key}.preset: {settings.short(preset)} is unknown{nearest(preset, presets)}")
            return None
        own_table = {**presets[preset], **own_table}
    return _build_section(cls, own_table, key, problems)


def _with_absolute_paths(section: Any, base: Path) -> Any:
    """The section with absolute paths. In the file they are relative to the recipe, whose folder is `base`.

    A model is a folder when it begins with ./ ../ / or ~.
    """
    changes: dict[str, Any] = {}
    for setting in dataclasses.fields(section):
        value = getattr(section, setting.name)
        if setting.name == "hub_root":
            changes[setting.name] = _absolute(Path(), value)  # relative to the working folder, as runs/ is
        elif isinstance(value, Path):
            changes[setting.name] = _absolute(base, value)
        elif setting.name == "model" and isinstance(value, str) and value.startswith(FOLDER):
            changes[setting.name] = str(_absolute(base, value).resolve())
    return dataclasses.replace(section, **changes) if changes else section


def _absolute(base: Path, written: str | Path) -> Path:
    """A path of the recipe, absolute; `~` is the user's folder, unless there is no such user."""
    try:
        return base / Path(written).expanduser()
    except RuntimeError:
        return base / written
