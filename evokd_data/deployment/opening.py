"""Which student a name means, and what it takes to use it: its task, its settings, its checkpoint.

runs/support, support          a run: the student of its last adopted round
runs/support/round-002/student  one round's student; also a copy of such a folder, or of a published one
runs/support/export/onnx       an exported student
org/name@round-003             a student in a model repository; without a revision the newest
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from evokd_data import repo_layout, settings
from evokd_data.deployment.onnx_student import ONNX, OnnxStudent
from evokd_data.deployment.predicted_rows import BLOCK, predicted_rows
from evokd_data.errors import DataError, PublishError, RecipeError, StudentError, WorkspaceError
from evokd_data.models import HUB_NAME
from evokd_data.published_recipe import is_on_hub, load_published
from evokd_data.publishers.open_hub import open_hub
from evokd_data.recipe import Recipe, build
from evokd_data.recipe_file import read_recipe_file
from evokd_data.recipe_sections import Source
from evokd_data.records import Sample
from evokd_data.registry import resolve
from evokd_data.repo_layout import round_tag
from evokd_data.seeds import read_samples
from evokd_data.stages.adopt import best_student
from evokd_data.stages.publish_student import fetch_checkpoint
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import RoundFolder, Workspace
from evokd_data.students import STUDENTS, Predict, Student
from evokd_data.students.checkpoint import METADATA_FILE, read_metadata
from evokd_data.tasks import TASKS, Layout, Task, iob


@dataclass(frozen=True)
class OpenedModel:
    """A student that can be used. `name` is for messages, `seed` the one that intervals are drawn with.

    `workspace` is the run's folder, `recipe` its recipe, when the student is one of a run on this machine. `layouts`: how the files
    that its recipe names are read, the test set's first; later files look like them.
    """

    name: str
    task: Task
    student: Student
    checkpoint: Path
    seed: int = 0
    workspace: Workspace | None = None
    recipe: Recipe | None = None
    layouts: tuple[Layout, ...] = ()

    def predict(self, texts: Iterable[str]) -> list[dict[str, Any]]:
        """One row for each text, in order: its label or spans, and the probability (see `predicted_rows`). The first call loads the
        student."""
        remaining, rows = iter(texts), list[dict[str, Any]]()
        while block := list(islice(remaining, BLOCK)):
            rows += predicted_rows(self.task, self._predict, block)
        return rows

    @cached_property
    def _predict(self) -> Predict:
        return self.student.predictor(self.checkpoint)

    def test_samples(self, source: Source | None = None) -> list[Sample]:
        """The labelled texts to measure it on: those of `source`, or the test set of its run.

        Raises DataError when there are none.
        """
        source = source or (self.recipe.test if self.recipe is not None else None)
        if source is None:
            raise DataError(f"{self.name}: has no test set on this machine; name labelled texts with --test FILE")
        samples = read_samples(source, self.task, "test").samples
        if not samples:
            raise DataError(f"{source}: holds no labelled text; name a file with some")
        return samples


def learned(model: OpenedModel, samples: Sequence[Sample]) -> list[Sample]:
    """Those of the samples whose texts are seeds of the student's run, where that is on this machine and the student learns."""
    if model.workspace is None or not model.student.learns:
        return []
    seeds = {seed.text for seed in ShardedSamples(model.task, model.workspace.round(0).shard_files())}
    return [sample for sample in samples if sample.text in seeds]


def open_model(
    name: str, round: int | None = None, runs: Path = Path("runs"), endpoint: str | None = None
) -> OpenedModel:
    """The student that `name` means; of a run that of round `round`, or of the last adopted round.

    A run's name is looked for under `runs`. `endpoint` is the Hub's, as in `open_hub`. Raises WorkspaceError, StudentError or
    PublishError when there is none, or when its recipe is not known.
    """
    for folder in (Path(name).expanduser(), runs / name):
        if Workspace(folder).inputs.exists():
            return _of_run(Workspace(folder), round)
        if (folder / METADATA_FILE).exists():
            if round is not None:
                raise WorkspaceError(f"{folder}: is the student of one round; drop --round")
            return _of_folder(folder)
    repo, _, revision = name.partition("@")
    if not Path(name).exists() and HUB_NAME.fullmatch(repo) and Path(name).parent != runs:
        return _of_repository(repo, revision or (None if round is None else round_tag(round)), endpoint)
    raise WorkspaceError(
        f"{name}: neither a run, nor a student's folder, nor ORG/NAME@ROUND-003 on the Hub; see what is there: ls {runs}"
    )


def recipe_of(workspace: Workspace) -> Recipe:
    """The recipe of a run, as its folder has it. Raises RecipeError when it cannot be read."""
    file = read_recipe_file(workspace.recipe)
    recipe, problems = build(file.table, workspace.recipe, workspace.recipe_folder)
    if recipe is None:
        raise RecipeError(*(f"{workspace.recipe}: {problem}" for problem in problems))
    return recipe


def _of_run(workspace: Workspace, index: int | None) -> OpenedModel:
    folder = best_student(workspace) if index is None else workspace.round(index)
    if not folder.student.exists():
        raise WorkspaceError(
            f"{folder.student}: is not on this machine; name another round with --round, or rerun: evokd-data run RECIPE"
        )
    return _of_round(workspace, folder)


def _of_round(workspace: Workspace, folder: RoundFolder) -> OpenedModel:
    recipe = recipe_of(workspace)
    return OpenedModel(
        f"{workspace.root.name}, round {folder.index}",
        recipe.task,
        recipe.student,
        folder.student,
        recipe.seed,
        workspace,
        recipe,
        _layouts(recipe),
    )


def _layouts(recipe: Recipe) -> tuple[Layout, ...]:
    return tuple(source.layout for source in (recipe.test, recipe.seeds))


def _of_folder(folder: Path) -> OpenedModel:
    checkpoint = folder.resolve()  # student/best is a link
    index = repo_layout.round_index(checkpoint.parent.name)
    workspace = Workspace(checkpoint.parent.parent)
    if index is not None and workspace.round(index).student == checkpoint and workspace.inputs.exists():
        return _of_round(workspace, workspace.round(index))
    if (recipe_file := folder / repo_layout.RECIPE).exists():
        return _with_published_recipe(str(folder), recipe_file, folder)
    return with_metadata_alone(folder)


def _of_repository(repo: str, revision: str | None, endpoint: str | None) -> OpenedModel:
    with open_hub(endpoint) as hub:
        models = replace(hub, repo_type="model")
        if revision is None:
            tags = models.refs(repo).tags
            rounds = [index for tag in tags if (index := repo_layout.round_index(tag)) is not None]
            if not rounds:
                raise PublishError(f"{repo}: holds no student at {models.place}; push one: evokd-data push-student")
            revision = round_tag(max(rounds))
        commit = models.resolve(repo, revision)
        folder, _ = fetch_checkpoint(models, repo, commit)
    name = f"{repo}@{revision}"
    recipe_file = folder / repo_layout.RECIPE
    return (
        _with_published_recipe(name, recipe_file, folder)
        if recipe_file.exists()
        else replace(with_metadata_alone(folder, name), name=name)
    )


def _with_published_recipe(name: str, recipe_file: Path, folder: Path) -> OpenedModel:
    """Of the recipe, which may be a stranger's, only what such a recipe may decide is taken."""
    published = load_published(recipe_file, None)
    recipe, model = published.recipe, published.withheld.get("student.model")
    if model is not None:
        _refuse_missing_base(folder, name, str(model))
    return OpenedModel(
        name, recipe.task, _on_its_base(recipe.student, folder), folder, recipe.seed, layouts=_layouts(recipe)
    )


def _on_its_base(student: Student, folder: Path) -> Student:
    """The student with the commit of its base model that it was trained on: the recipe's revision may name another one since."""
    base, model = _metadata(folder).get("base", {}), student.base_model
    if model is None or not base.get("revision") or base.get("model") != model.name:
        return student
    return replace(student, revision=base["revision"])  # type: ignore[type-var]  # a dataclass; a student with a base model has the setting


def with_metadata_alone(folder: Path, repository: str = "") -> OpenedModel:
    """A checkpoint without a recipe: its task is what its classes say. One of a repository may be a stranger's, and names no folder here."""
    metadata = _metadata(folder)
    try:
        kind, classes, words = metadata["student"], list(metadata["classes"]), metadata["words"]
        task = metadata.get("task") or (
            {"type": "ner", "types": list(dict.fromkeys(filter(None, map(iob.type_of, classes))))}
            if words
            else {"type": "classification", "labels": classes}
        )
        task_type, seed = task["type"], metadata.get("seed", 0)
        base, has_base = dict(metadata.get("base", {})), "base" in metadata
    except (KeyError, TypeError, AttributeError, ValueError):
        raise StudentError(f"{folder / METADATA_FILE} is damaged; copy or train the student again") from None
    if repository and "model" in base and not is_on_hub(base["model"]):
        raise StudentError(
            f"{repository}: its base model {base['model']!r:.80} is no repository of the Hub; ask who published it for one with its recipe"
        )
    built_task = _built(folder, TASKS, task_type, {key: value for key, value in task.items() if key != "type"})
    if kind == ONNX:
        return OpenedModel(str(folder), built_task, OnnxStudent(), folder, seed)
    model: dict[str, Any] = {}
    if has_base:  # the student starts from a pretrained model, and has a setting for it
        model = {"model": base.get("model", str(folder)), "revision": base.get("revision")}
        if "model" not in base:
            _refuse_missing_base(folder, str(folder), "a folder")
    return OpenedModel(str(folder), built_task, _built(folder, STUDENTS, kind, model), folder)


def _refuse_missing_base(folder: Path, name: str, model: str) -> None:
    """A checkpoint without its base model, such as a head on frozen embeddings. Raises StudentError when that is nowhere to be found."""
    if not (folder / "config.json").exists():
        raise StudentError(
            f"{name}: needs a base model that is not with it ({model} on the machine that trained it); name its run there, or, if it can "
            "be exported, export it: evokd-data export has both in one file"
        )


def _metadata(folder: Path) -> Mapping[str, Any]:
    try:
        kind = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))["student"]
    except (ValueError, KeyError, TypeError):
        raise StudentError(f"{folder / METADATA_FILE} is damaged; copy or train the student again") from None
    return read_metadata(folder, kind)


def _built(folder: Path, table: Mapping[str, str], kind: str, values: Mapping[str, Any]) -> Any:
    try:
        cls = resolve(table, kind)
    except RecipeError as error:
        raise StudentError(f"{folder / METADATA_FILE}: {error}; use the version of evokd-data that wrote it") from None
    plug, problems = settings.build(cls, values, METADATA_FILE)
    if plug is None:
        raise StudentError("\n".join(f"{folder}: {problem}" for problem in problems))
    return plug
