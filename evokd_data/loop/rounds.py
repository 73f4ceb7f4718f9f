"""The loop: it decides which stage of which round is next. It opens the teacher once and keeps it open for the whole run.

The command `run` repeats `generate`, `train-round` and `publish`. Each of them sees from the files what is done.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.errors import BudgetSpent, RecipeError, WorkspaceError
from evokd_data.generation.budget import metered
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.loop.previewed import begin_anew_after_a_preview, but_rounds
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Revision
from evokd_data.reporting.tracking import track
from evokd_data.runner import Runner
from evokd_data.seeds import Splits, load_splits, notes
from evokd_data.stages.adopt import best_round, best_student, ends_early, link_best
from evokd_data.stages.evaluate import evaluate, remarks
from evokd_data.stages.exams import examine
from evokd_data.stages.generate import generate
from evokd_data.stages.manifest import check_complete_rounds, inputs, write_manifest
from evokd_data.stages.probe import probe
from evokd_data.stages.teacher_test import label_test
from evokd_data.stages.train import train, train_on_other_ranks
from evokd_data.storage.corrected_rounds import corrections_of
from evokd_data.storage.mirror import mirrored
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.students import distributed
from evokd_data.yaml_files import dump_yaml

if TYPE_CHECKING:
    from evokd_data.stages.publish import Publication

TEACHER_LOG = "teacher.log"


@dataclass(frozen=True)
class LockedRun:
    """A recipe with its locked folder and its data. The data are those that the run was begun with."""

    recipe: Recipe
    workspace: Workspace
    splits: Splits

    def next_to_generate(self) -> int:
        """The first round that is not complete; the last round when all are complete."""
        for index in range(self.recipe.rounds.count + 1):
            if not self.workspace.round(index).manifest.exists():
                return index
        return self.recipe.rounds.count

    def next_to_train(self) -> int:
        """The first generated round that is not complete; the last generated round when all are complete.

        Raises WorkspaceError when nothing is generated.
        """
        generated = [folder.index for folder in self.workspace.rounds() if folder.generated.exists()]
        if not generated:
            raise WorkspaceError(
                f"{self.workspace.root}: nothing is generated; next: evokd-data generate {self.recipe.path}"
            )
        return next((i for i in generated if not self.workspace.round(i).manifest.exists()), generated[-1])

    @property
    def first_own_round(self) -> int:
        """The round after the published one that the run goes on from; 0 for a run that began at round 0."""
        return read_json(self.workspace.origin)["round"] + 1 if self.workspace.origin.exists() else 0

    def complete_rounds(self) -> list[int]:
        """The rounds that are generated, trained and scored, published or not, in order."""
        return [folder.index for folder in self.workspace.rounds() if folder.manifest.exists()]


@contextmanager
def open_run(
    recipe: Recipe,
    runs: Path,
    origin: str | None = None,
    progress: Progress | None = None,
    mirror: str | None = None,
    preview: bool = False,
) -> Iterator[LockedRun]:
    """The run of a recipe, locked against other processes. Data and models are checked before anything is written.

    `origin` (org/name@round-003): a published round that the run goes on from; its files are fetched first.
    `mirror`: the URL of a copy of the folder; see `mirror.mirrored`. `preview`: the run does not begin by it, so that a recipe which
    is changed afterwards begins anew. Raises WorkspaceError when another process uses the
    folder, or it belongs to another recipe.
    """
    if distributed.launched_world_size() > distributed.world_size():
        raise WorkspaceError(f"{recipe.path}: torchrun starts train-round and nothing else; start this with evokd-data")
    splits = load_splits(recipe)
    for split, report in splits.reports.items():
        for note in notes(report):
            (progress or Progress()).note(f"{split}: {note}")
    frozen = inputs(recipe, splits.digests())
    workspace = Workspace(runs / recipe.name)
    with workspace.lock(), mirrored(workspace, mirror, progress):
        begin_anew_after_a_preview(workspace, frozen, progress or Progress())
        if preview:
            workspace.begin_preview()
        start = None
        if origin is not None or workspace.origin.exists():
            from evokd_data.revisions import resume

            start = resume.begin(recipe, workspace, origin, frozen)
        workspace.freeze(resolved(recipe), frozen)
        if recipe.path != workspace.recipe:  # else the run was opened by its name
            workspace.remember_recipe_folder(recipe.path.parent)
        if start is not None:
            resume.restore(recipe, workspace, start, progress or Progress())
        check_complete_rounds(recipe, workspace)
        link_best(workspace)
        if not preview:
            workspace.preview.unlink(missing_ok=True)
        yield LockedRun(recipe, workspace, splits)


def trial_run(recipe: Recipe, limit: int) -> list[str]:
    """Overrides that make a trial run of a recipe: `limit` texts a round, in a folder of its own name, never published."""
    name = f"name={recipe.name[:80]}-limit-{limit}"
    return [name, f"rounds.samples={limit}", "publish=null", "teacher_test_texts=0"]


def share_exam(recipe: Recipe, limited: Recipe, runs: Path) -> None:
    """Give a trial run the exam that the recipe's own folder holds, from a preview or the run: it asks the same of the same teacher."""
    source, target = Workspace(runs / recipe.name), Workspace(runs / limited.name)
    if not source.round(1).exam.exists() or target.round(1).root.exists():
        return
    with open_run(limited, runs) as run:
        if but_rounds(read_json(source.inputs)) == but_rounds(read_json(target.inputs)):
            write_checked_json(run.workspace.round(1).exam, read_json(source.round(1).exam))


def resolved(recipe: Recipe) -> str:
    """The recipe as YAML with every default filled in."""
    return dump_yaml({key: value for key, value in recipe.settings.items() if value is not None})


def generate_next(
    recipe: Recipe, runs: Path, progress: Progress, origin: str | None = None, mirror: str | None = None
) -> dict[str, Any]:
    """Generate the next round. Returns its totals with its number. `origin` and `mirror` as in `open_run`."""
    with open_run(recipe, runs, origin, progress, mirror) as run, Runner() as loop:
        return loop.run(_generate_once(run, progress))


async def _generate_once(run: LockedRun, progress: Progress) -> dict[str, Any]:
    async with teacher_of(run, progress) as teacher:
        return await generate_round(run, teacher, progress)


async def generate_round(run: LockedRun, teacher: TeacherOnDemand, progress: Progress) -> dict[str, Any]:
    """Generate the next round. Returns its totals with its number, `round`. Raises BudgetSpent when the budget allows no more."""
    index = run.next_to_generate()
    with metered(run.recipe, run.workspace, run.first_own_round) as teacher.meter:
        return {"round": index, **await generate(run.recipe, run.workspace, index, run.splits, teacher, progress)}


def take_exam(
    recipe: Recipe, runs: Path, progress: Progress, origin: str | None = None, mirror: str | None = None
) -> Mapping[str, Any]:
    """The teacher's exam, before the first round that asks it; the run uses it afterwards. Returns the content of exam.json."""
    with open_run(recipe, runs, origin, progress, mirror, preview=True) as run, Runner() as loop:
        return loop.run(_take_exam(run, progress))


async def _take_exam(run: LockedRun, progress: Progress) -> Mapping[str, Any]:
    async with metered_teacher(run, progress) as teacher:
        await generate(run.recipe, run.workspace, 0, run.splits, teacher, progress)
        return await examine(run.recipe, run.workspace, 1, run.splits, teacher.complete, progress, tell=False)


def teacher_of(run: LockedRun, progress: Progress) -> TeacherOnDemand:
    """The run's teacher, not open yet."""
    return TeacherOnDemand(run.recipe.teacher, run.workspace.root / TEACHER_LOG, progress)


@asynccontextmanager
async def metered_teacher(run: LockedRun, progress: Progress) -> AsyncIterator[TeacherOnDemand]:
    """The run's teacher, which is asked no more than the budget allows."""
    async with teacher_of(run, progress) as teacher:
        with metered(run.recipe, run.workspace, run.first_own_round) as teacher.meter:
            yield teacher


@contextmanager
def asleep(loop: Runner, teacher: TeacherOnDemand) -> Iterator[None]:
    """The student has the accelerator during the block. After an error in it the teacher is closed, or woken by the next block."""
    loop.run(teacher.sleep())
    yield
    loop.run(teacher.wake())


def train_next(recipe: Recipe, runs: Path, progress: Progress, mirror: str | None = None) -> dict[str, Any] | None:
    """Train and score the student on the last generated round. Returns its metrics, or None in torchrun's other processes."""
    with distributed.process_group():
        if distributed.rank() > 0:
            train_on_other_ranks(recipe, Workspace(runs / recipe.name))
            return None
        with open_run(recipe, runs, progress=progress, mirror=mirror) as run:
            metrics = complete_round(run, run.next_to_train(), progress)
        distributed.broadcast(None)
        return metrics


def complete_round(run: LockedRun, index: int, progress: Progress) -> dict[str, Any]:
    """Probe, train, evaluate and write the manifest of a generated round. Each is done once. Returns the metrics."""
    recipe, workspace = run.recipe, run.workspace
    if (path := workspace.round(index).metrics).exists():
        metrics = read_json(path)
        progress.done("train-round", index, already=True)
    else:
        started = time.monotonic()
        if index > 0:
            progress.stage("probe", index)
            probe(recipe, workspace, index)
        progress.stage("train", index)
        train(recipe, workspace, index)
        progress.stage("evaluate", index)
        metrics = evaluate(recipe, workspace, index, run.splits, started)
        for remark in remarks(metrics):
            progress.note(remark)
        progress.done("train-round", index, metrics=metrics["test"])
    link_best(workspace)
    write_manifest(recipe, workspace, index)
    return metrics


def run_all(
    recipes: Sequence[Recipe],
    runs: Path,
    progress: Progress,
    origin: str | None = None,
    mirror: str | None = None,
    every_round: bool = False,
) -> list[LockedRun]:
    """Work through every round of every recipe, one recipe after the other. A round is published as soon as it is complete.

    A teacher stays open while consecutive recipes have the same teacher settings. `origin` and `mirror`, as in `open_run`,
    hold for every recipe. `every_round`: as in `run_rounds`. Raises RecipeError when two recipes have the same name, and so the same folder.
    """
    for position, recipe in enumerate(recipes):
        for earlier in recipes[:position]:
            if recipe.name == earlier.name:
                raise RecipeError(
                    f"{recipe.path}: name: {recipe.name!r} is that of {earlier.path} too; give it another"
                )
    runs_done: list[LockedRun] = []
    with Runner() as loop, ExitStack() as stack:
        teacher: TeacherOnDemand | None = None
        teacher_settings = None
        for recipe in recipes:
            run = stack.enter_context(open_run(recipe, runs, origin, progress, mirror))
            if recipe.teacher != teacher_settings:
                if teacher is not None:
                    _close(loop, teacher)
                teacher = teacher_of(run, progress)
                stack.callback(_close, loop, teacher)
                teacher_settings = recipe.teacher
            assert teacher is not None
            run_rounds(loop, run, teacher, progress, every_round)
            runs_done.append(run)
    return runs_done


def run_rounds(
    loop: Runner, run: LockedRun, teacher: TeacherOnDemand, progress: Progress, every_round: bool = False
) -> None:
    """Every round of a run, then the teacher's own score. Rounds that are complete are not made again.

    The run ends early where more rounds would be a waste (see `stages.adopt.ends_early`), unless `every_round` is wanted, and when its
    budget is spent: then every complete round is published, and the answers of the round that is not are in its journal.
    """
    with metered(run.recipe, run.workspace, run.first_own_round) as teacher.meter:
        try:
            _run_rounds(loop, run, teacher, progress, every_round)
        except BudgetSpent as spent:
            complete = run.complete_rounds()
            rounds = f"rounds 0 to {complete[-1]} are complete" if complete else "no round is complete"
            progress.note(f"{run.recipe.name} ends here, and {rounds}: {spent} with the same command")


def _run_rounds(loop: Runner, run: LockedRun, teacher: TeacherOnDemand, progress: Progress, every_round: bool) -> None:
    recipe, workspace = run.recipe, run.workspace
    if recipe.publish:
        from evokd_data.stages.publish import Publication
    with Publication.of(recipe, progress) if recipe.publish else nullcontext() as publication:
        for index in range(max(recipe.rounds.count, _last_corrected(workspace)) + 1):
            if index and not workspace.round(index).generated.exists() and teacher.meter is not None:
                teacher.meter.require_left()
            loop.run(generate(recipe, workspace, index, run.splits, teacher, progress))
            if not workspace.round(index).manifest.exists():
                with asleep(loop, teacher):
                    complete_round(run, index, progress)
            if publication is not None:
                _publish(run, publication, index)
            track(recipe, workspace, progress)
            # A run that was continued, from the Hub or with corrections, does not end at a round before that.
            is_newest = index >= run.first_own_round and not workspace.round(index + 1).plan.exists()
            may_end = is_newest and index < recipe.rounds.count and not every_round
            if may_end and (why := ends_early(recipe, workspace, index)):
                progress.note(
                    f"{recipe.name} ends after round {index}: {why}; the student of round {best_round(workspace, index)} stays"
                )
                break
    if recipe.rounds.count:
        loop.run(label_test(recipe, workspace, run.splits, teacher, progress))


def _last_corrected(workspace: Workspace) -> int:
    """The last corrected round that was begun, 0 without one: it may follow the recipe's last round."""
    corrected = (folder.index for folder in workspace.rounds() if corrections_of(folder) is not None)
    return max(corrected, default=0)


def _close(loop: Runner, teacher: TeacherOnDemand) -> None:
    loop.run(teacher.__aexit__(None, None, None))


def publish_complete(recipe: Recipe, runs: Path, progress: Progress, mirror: str | None = None) -> list[Revision]:
    """Publish every complete round of a recipe's run; see `publish_rounds`."""
    with open_run(recipe, runs, progress=progress, mirror=mirror) as run:
        return publish_rounds(run, progress)


def publish_rounds(run: LockedRun, progress: Progress) -> list[Revision]:
    """Publish every complete round, in order. Rounds that are published already stay as they are.

    Raises WorkspaceError when no round is complete or the recipe has no `publish` section, PublishError when the Hub cannot
    be used, RevisionConflict when another client published to the repository.
    """
    from evokd_data.stages.publish import Publication

    complete = run.complete_rounds()
    if not complete:
        raise WorkspaceError(
            f"{run.workspace.root}: no round is complete; next: evokd-data train-round {run.recipe.path}"
        )
    with Publication.of(run.recipe, progress) as publication:
        if publication is None:
            raise WorkspaceError(f"{run.recipe.path}: has no publish section; add publish: {{repo: org/name}}")
        return [_publish(run, publication, index) for index in complete]


def _publish(run: LockedRun, publication: Publication, index: int) -> Revision:
    """Publish a round, after its student when the recipe names a repository for students: then the round's manifest can name
    the student's commit. Only adopted students are pushed, so that the newest of the model repository is the best. The students of
    restored rounds are not pushed: these rounds' manifests name theirs already."""
    from evokd_data.stages.publish_student import push_student

    assert run.recipe.publish is not None
    is_pushed = run.recipe.publish.student is not None and index >= run.first_own_round
    if is_pushed and best_round(run.workspace, index) in (index, None):
        push_student(run.recipe, run.workspace, index, publication.hub, publication.progress)
    return publication.publish(run.workspace, index)


def push_student_of_round(
    recipe: Recipe, runs: Path, index: int | None, progress: Progress, mirror: str | None = None
) -> Revision:
    """Push the student of a complete round; `index` None means the last adopted one.

    Raises RecipeError when the recipe has no `publish.student`, WorkspaceError when the round is not complete.
    """
    from evokd_data.publishers.open_hub import open_hub
    from evokd_data.stages.publish_student import push_student

    if recipe.publish is None or recipe.publish.student is None:
        raise RecipeError(
            f"{recipe.path}: publish.student: names no model repository; add it: publish: {{student: org/name}}"
        )
    with open_run(recipe, runs, progress=progress, mirror=mirror) as run:
        complete = run.complete_rounds()
        if not complete or (index is not None and index not in complete):
            raise WorkspaceError(
                f"{run.workspace.root}: round {index or 0} is not complete; next: evokd-data train-round {recipe.path}"
            )
        chosen = best_student(run.workspace).index if index is None else index
        publish = recipe.publish
        with open_hub(publish.endpoint, root=publish.hub_root, create=True, note=progress.note) as hub:
            replace(hub, repo_type="model").check(recipe.publish.student)
            return push_student(recipe, run.workspace, chosen, hub, progress)
