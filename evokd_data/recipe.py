"""A recipe: one YAML file (1.2 rules) that is a whole experiment, checked whole before anything is loaded.

Every problem is reported at once, each with its line, its path in the file, the value and the nearest valid name.
Checking imports none of torch, vllm, transformers, datasets, pyarrow.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from evokd_data import settings
from evokd_data.digest import digest
from evokd_data.errors import RecipeError
from evokd_data.registry import nearest, resolve
from evokd_data.settings import NOT_IDENTITY, Count, Share
from evokd_data.strategies import STRATEGIES, WRAPPERS, Strategy
from evokd_data.students import STUDENTS, Student
from evokd_data.tasks import TASKS, Task
from evokd_data.teachers import TEACHERS, Teacher
from evokd_data.yaml_files import load_yaml, load_yaml_with_lines

if TYPE_CHECKING:
    from evokd_data.templates import Templates

RepoId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]


@dataclass(frozen=True)
class Source:
    """Where labelled texts come from: a file (`path`), or a Hub dataset pinned by `revision`.

    Files are jsonl, csv, parquet or arrow. Where a file lies is not part of a run's identity; what it holds is.
    """

    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    dataset: str | None = field(default=None, metadata=NOT_IDENTITY)
    revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    config: str | None = field(default=None, metadata=NOT_IDENTITY)
    split: str = field(default="train", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path (a file) or dataset (a Hub id with its revision)")
        if self.dataset is not None and not self.revision:
            raise ValueError(f"dataset {self.dataset!r} needs a revision: a data set that can move makes no experiment")


@dataclass(frozen=True)
class Seeds(Source):
    """The labelled examples the student starts from. `per_class` draws k of each class; without it all are used."""

    per_class: Count | None = None


@dataclass(frozen=True)
class Pool(Source):
    """Unlabelled real texts (ELAD, Zhang et al. 2024, arXiv 2402.13098): `share` of each round's texts are not written but
    chosen from here, those the last student is least sure of, and labelled by the teacher; labels in the file are not
    read. `candidates` are looked at in a round, drawn anew each time."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    candidates: Count = 2000


@dataclass(frozen=True)
class Rounds:
    """How much is generated. `count` rounds after round 0; `samples` texts asked of the teacher in each.
    They are written in shards of `shard_size`, which decides nothing but how many files there are: no answer waits for
    its shard to be safe."""

    count: Annotated[int, Field(ge=0)] = field(default=5, metadata=NOT_IDENTITY)
    samples: Count = 200
    shard_size: Count = field(default=1024, metadata=NOT_IDENTITY)


@dataclass(frozen=True)
class Filters:
    """What a draft must pass to become a sample.

    `near_duplicates`: estimated Jaccard similarity of character 5-grams from which two texts are too alike (1 turns
    the filter off); it holds against everything kept before and, as `test_overlap`, against test and dev texts.
    `label_disagreement`: what to do when the teacher labels a text otherwise than it was asked to write it:
    `relabel` believes the label, `reject` drops the text. `label_votes`: labelling answers per text, majority wins.
    """

    min_characters: Count = 2
    max_characters: Count = 4000
    near_duplicates: Share = 0.85
    label_disagreement: Literal["relabel", "reject"] = "relabel"
    label_votes: Count = 1


@dataclass(frozen=True)
class Training:
    """What samples weigh when a student learns them. `boost`: those that the student before got wrong count this many
    times as much as those it got right (boosting, as in "Language models are weak learners", arXiv 2306.14101)."""

    boost: Annotated[float, Field(ge=1)] = 1.0


@dataclass(frozen=True)
class Publish:
    """Where rounds go. `endpoint`: null is the Hub (or HF_ENDPOINT), `local` a local Hub started for the run, or a URL.
    `student`: a model repository for each round's student."""

    repo: RepoId = field(metadata=NOT_IDENTITY)
    student: RepoId | None = field(default=None, metadata=NOT_IDENTITY)
    private: bool = field(default=True, metadata=NOT_IDENTITY)
    endpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    hub_root: Path = field(default=Path("hub"), metadata=NOT_IDENTITY)
    journal: bool = field(default=True, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if self.endpoint not in (None, "local") and not re.match(r"https?://", str(self.endpoint)):
            raise ValueError(f"endpoint {self.endpoint!r} is neither null, 'local' nor a http(s) URL")


@dataclass(frozen=True)
class Card:
    """What the dataset card says that no file can tell. `comparison` is the results.json of an `evokd-data compare`, whose
    tables become a section of it."""

    license: str = "other"
    languages: tuple[str, ...] = ("en",)
    title: str = ""
    limits: str = ""
    comparison: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `path` is the file it came from; `settings` the whole table, defaults filled, paths as written."""

    name: str
    task: Task
    seeds: Seeds
    test: Source
    teacher: Teacher
    strategy: Strategy
    student: Student
    dev: Source | None = None
    pool: Pool | None = None
    rounds: Rounds = field(default_factory=Rounds)
    filters: Filters = field(default_factory=Filters)
    training: Training = field(default_factory=Training)
    publish: Publish | None = None
    card: Card = field(default_factory=Card)
    prompts: Path | None = None
    seed: int = 0
    path: Path = Path("recipe.yaml")
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of every setting that can change a row, but what files and models hold: those have their own digests."""
        return digest(self.identity())

    def identity(self) -> dict[str, Any]:
        """The settings behind `fingerprint`, by section."""
        found: dict[str, Any] = {"seed": self.seed}
        for section in ("task", "seeds", "strategy", "student", "rounds", "filters"):
            found[section] = settings.identity(getattr(self, section))
        if self.pool is not None:
            found["pool"] = settings.identity(self.pool)
        if self.training != Training():
            found["training"] = settings.identity(self.training)
        found["task"]["type"] = self.task.name
        found["strategy"]["name"] = self.strategy.name
        found["student"]["kind"] = self.student.name
        found["student"].pop("model", None)  # Student.identity names the weights themselves
        return found

    def unpinned(self) -> list[str]:
        """The sections whose model is looked up on the Hub by a name that can move: no revision, a branch, a tag."""
        return [
            key
            for key in ("teacher", "student")
            if (model := getattr(self, key).base_model) is not None and model.can_move
        ]

    def templates(self) -> Templates:
        """The prompt templates in use."""
        from evokd_data.templates import Templates

        return Templates(self.task.name, self.prompts)


@dataclass(frozen=True)
class Family:
    """A section whose class is chosen by one of its keys."""

    key: str
    table: Mapping[str, str]
    default: str | None = None


FAMILIES = {
    "task": Family("type", TASKS),
    "teacher": Family("engine", TEACHERS, "vllm"),
    "strategy": Family("name", STRATEGIES, "evokd"),
    "student": Family("kind", STUDENTS, "transformer"),
}
SECTIONS = {
    "seeds": Seeds, "test": Source, "dev": Source, "pool": Pool, "rounds": Rounds, "filters": Filters,
    "training": Training, "publish": Publish, "card": Card,
}  # fmt: skip
REQUIRED = ("name", "task", "seeds", "test", "teacher", "student")
SCALARS = ("name", "prompts", "seed")


def load(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, with `a.b=c` overrides applied. Raises RecipeError listing every problem."""
    path = Path(path)
    table, lines = _read(path)
    problems = [problem for override in overrides if (problem := _override(table, override))]
    recipe, more = _build(table, path)
    problems += more
    if recipe is not None and not problems:
        problems += _combinations(recipe)
    if problems or recipe is None:
        raise RecipeError(*(f"{path}{_line(lines, problem)}: {problem}" for problem in problems))
    return recipe


def load_published(path: Path, prompts: Path | None, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a revision, with the revision's `prompts`. What else it names may lie on another machine and is not
    looked for. Raises RecipeError."""
    table, _ = _read(path)
    table["prompts"] = None
    problems = [problem for override in overrides if (problem := _override(table, override))]
    recipe, more = _build(table, path)
    if problems + more or recipe is None:
        raise RecipeError(*(f"{path.name}: {problem}" for problem in problems + more))
    return dataclasses.replace(recipe, prompts=prompts)


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    properties: dict[str, Any] = {
        "name": {"type": "string", "pattern": NAME.pattern},
        "seed": {"type": "integer"},
        "prompts": {"type": ["string", "null"]},
    }
    definitions: dict[str, Any] = {}

    def section(cls: type) -> dict[str, Any]:
        made = settings.json_schema(cls)
        definitions.update(made.pop("$defs", {}))
        return made

    for name, cls in SECTIONS.items():
        properties[name] = section(cls)
    for name, family in FAMILIES.items():
        variants = []
        for choice in family.table:
            made = section(resolve(family.table, choice))
            made["properties"][family.key] = {"const": choice}
            if choice != family.default:
                made["required"] = [family.key, *made.get("required", [])]
            variants.append(made)
        properties[name] = {"oneOf": variants}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evokd-data recipe",
        "type": "object",
        "properties": properties,
        "required": list(REQUIRED),
        "additionalProperties": False,
        "$defs": definitions,
    }


NAME = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}$")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        loaded = load_yaml_with_lines(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(f"{path}: no such recipe{nearest(path.name, beside) if beside else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}; give a YAML file") from None
    except ValueError as error:
        problem, *line = error.args
        where = f"{path}:{line[0]}" if line else str(path)
        raise RecipeError(f"{where}: not valid YAML: {problem}; mend {'that line' if line else 'the file'}") from None
    if not isinstance(loaded, Mapping):
        said = "is empty" if loaded is None else f"holds {settings.short(loaded)}"
        raise RecipeError(f"{path}: {said}, a recipe is a table of sections; see `evokd-data schema`")
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str) -> Any:
        if isinstance(node, Mapping):
            for key in node:
                if key in node.lc.data:  # type: ignore[attr-defined]  # keys merged in by << have no line of their own
                    lines[f"{prefix}{_key(key)}"] = node.lc.key(key)[0] + 1  # type: ignore[attr-defined]
            return {_key(key): walk(value, f"{prefix}{_key(key)}.") for key, value in node.items()}
        if isinstance(node, list):
            return [walk(item, prefix) for item in node]
        if isinstance(node, bool) or node is None:
            return node
        for kind in (int, float, str):  # ruamel's scalars remember how they were written; we want the plain values
            if isinstance(node, kind):
                return kind(node)
        return str(node)

    return walk(loaded, ""), lines


def _key(key: Any) -> str:
    """A YAML key as it was written, more or less: `1`, `true` and `null` are names too."""
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return str(key)


def _line(lines: Mapping[str, int], problem: str) -> str:
    """ ":12" for the deepest key of the file that the problem's path leads to."""
    parts = problem.split(":", 1)[0].split(".")
    while parts:
        if ".".join(parts) in lines:
            return f":{lines['.'.join(parts)]}"
        parts.pop()
    return ""


def _override(table: dict[str, Any], override: str) -> str | None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        return f"--set {override}: not of the form a.b=value"
    try:
        value = load_yaml(text)
    except ValueError:
        return f"--set {override}: {text!r} is not a YAML value; quote it"
    node = table
    for key in keys[:-1]:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            return f"--set {override}: {key!r} is a value, not a table"
    node[keys[-1]] = value
    return None


def _build(table: dict[str, Any], path: Path) -> tuple[Recipe | None, list[str]]:
    problems: list[str] = []
    valid = [*SCALARS, *SECTIONS, *FAMILIES]
    problems += [f"{key}: no such section{nearest(str(key), valid)}" for key in table if key not in valid]
    problems += [f"{key}: is required" for key in REQUIRED if table.get(key) is None]
    name, seed, prompts = table.get("name"), table.get("seed", 0), table.get("prompts")
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        problems.append(f"name: {settings.short(name)} is no folder name; use letters, digits, '.', '_' and '-'")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        problems.append(f"seed: {settings.short(seed)} is not a whole number from 0")
    if prompts is not None and not isinstance(prompts, str):
        problems.append(f"prompts: {settings.short(prompts)} is not the path of a folder")

    made: dict[str, Any] = {}
    for key, cls in SECTIONS.items():
        if (given := table.get(key)) is not None:
            made[key] = _section(cls, given, key, problems)
    for key, family in FAMILIES.items():
        given = table.get(key) if key in REQUIRED else table.get(key, {})
        if given is None:
            continue
        if not isinstance(given, dict):
            problems.append(f"{key}: {settings.short(given)} is not a table of settings")
            continue
        choice = given.get(family.key, family.default)
        if choice is None:
            problems.append(f"{key}.{family.key}: is required; valid: {', '.join(sorted(family.table))}")
            continue
        try:
            cls = resolve(family.table, str(choice))
        except RecipeError as error:
            problems.append(f"{key}.{family.key}: {error}")
            continue
        made[key] = _section(cls, {k: v for k, v in given.items() if k != family.key}, key, problems)
    if problems:
        return None, problems

    written = {"name": name, "seed": seed, "prompts": prompts}
    for key, value in made.items():
        chosen = {FAMILIES[key].key: value.name} if key in FAMILIES else {}
        written[key] = {**chosen, **settings.table(value)}
    base = path.resolve().parent
    made = {key: _located(value, base) for key, value in made.items()}
    if "pool" in made:
        explains = made["task"].label_constraint("").choices is not None
        made["strategy"] = resolve(WRAPPERS, "pool")(made["strategy"], explains)
    recipe = Recipe(
        **{"name": name, "seed": seed, **made},
        prompts=_beside(base, prompts) if prompts else None,
        path=path,
        settings=written,
    )
    return recipe, problems


def _section(cls: type, given: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(given, dict):
        problems.append(f"{key}: {settings.short(given)} is not a table of settings")
        return None
    made, more = settings.build(cls, given, key)
    problems.extend(more)
    return made


def _located(made: Any, base: Path) -> Any:
    """Paths made absolute: they are relative to the recipe. A model is a folder when it begins with ./ ../ / or ~."""
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(made):
        value = getattr(made, item.name)
        if item.name == "hub_root":
            continue  # relative to the working folder, as runs/ is
        if isinstance(value, Path):
            changes[item.name] = _beside(base, value)
        elif item.name == "model" and isinstance(value, str) and value.startswith(("./", "../", "/", "~")):
            changes[item.name] = str(_beside(base, value).resolve())
    return dataclasses.replace(made, **changes) if changes else made


def _beside(base: Path, written: str | Path) -> Path:
    """A path of the recipe, absolute; `~` is the user's folder, unless there is no such user."""
    try:
        return base / Path(written).expanduser()
    except RuntimeError:
        return base / written


def _combinations(recipe: Recipe) -> list[str]:
    problems = []
    if reason := recipe.strategy.accepts(recipe.task):
        problems.append(f"strategy.name: {recipe.strategy.name!r} cannot work on a {recipe.task.name} task: {reason}")
    for key in ("seeds", "test", "dev", "pool"):
        source = getattr(recipe, key)
        if source is not None and source.path is not None and not source.path.is_file():
            beside = [p.name for p in source.path.parent.iterdir()] if source.path.parent.is_dir() else []
            close = difflib.get_close_matches(source.path.name, beside, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; paths are relative to the recipe"
            problems.append(f"{key}.path: {recipe.settings[key]['path']!r} is not a file{hint}")
    for key in FAMILIES:
        plug = getattr(recipe, key)
        for name in (one.name for one in dataclasses.fields(plug)):
            if isinstance(named := getattr(plug, name), Path) and not named.is_file():
                written = recipe.settings[key][name]
                problems.append(f"{key}.{name}: {written!r} is not a file; paths are relative to the recipe")
    if (named := recipe.card.comparison) is not None and not named.is_file():
        problems.append(
            f"card.comparison: {recipe.settings['card']['comparison']!r} is not a file; paths are relative to the recipe"
        )
    for key in ("teacher", "student"):
        model = getattr(recipe, key).base_model
        if model is not None and model.name.startswith("/") and not Path(model.name).is_dir():
            problems.append(
                f"{key}.model: {recipe.settings[key]['model']!r} is not a folder; paths are relative to the recipe, "
                "a Hub id is written org/name"
            )
    if recipe.prompts is not None and not recipe.prompts.is_dir():
        problems.append(f"prompts: {recipe.settings['prompts']!r} is not a folder; paths are relative to the recipe")
    elif recipe.prompts is not None:
        try:
            recipe.templates().sources(recipe.strategy.prompt_templates)
        except RecipeError as error:
            problems += error.problems
    return problems
