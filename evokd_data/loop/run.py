"""A run for programs and notebooks: what the commands do, as methods of one object.

    with Run.open(Recipe.load("recipe.yaml")) as run:
        run.finish_sync()                       # in a notebook: await run.finish()
        print(run.rounds(), run.best_student().predict(["play some jazz"]))

Each method is safe to repeat, as its command is: what is done is not done again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from evokd_data.deployment.opening import OpenedModel, open_model
from evokd_data.errors import BudgetSpent, WorkspaceError
from evokd_data.generation.filters import REASONS
from evokd_data.loop.rounds import (
    LockedRun,
    asleep,
    complete_round,
    generate_round,
    open_run,
    publish_rounds,
    run_rounds,
    teacher_of,
)
from evokd_data.progress import LoggedProgress, Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Revision
from evokd_data.registry import nearest
from evokd_data.reporting.run_summary import flat_rounds, summary
from evokd_data.runner import Runner
from evokd_data.storage.corrected_rounds import withdrawn_rows
from evokd_data.storage.row_datasets import rejections_dataset, samples_dataset
from evokd_data.storage.workspace import RoundFolder

if TYPE_CHECKING:
    from datasets import Dataset


class Run:
    """A run that is open: its folder is locked against every other process, and its data are read and checked.

    The teacher is opened by the first prompt that needs it, and stays open until `close`, or the end of the `with` block. One call at a
    time works on a run; one that comes in between raises WorkspaceError. What takes long has two names: `await run.generate()` leaves
    the event loop free, `run.generate_sync()` returns when it is done, and works where a loop is running, too, as in Jupyter.
    Ctrl-C, and cancelling the `await`, end the work in order, and a training at its end; the next call goes on from there.
    """

    def __init__(self, locked: LockedRun, stack: ExitStack, progress: Progress) -> None:
        """See `open`."""
        self._locked = locked
        self._stack = stack
        self._progress = progress
        self._loop = stack.enter_context(Runner())
        self._teacher = teacher_of(locked, progress)
        stack.callback(lambda: self._close_teacher())
        self._busy = threading.Lock()
        self._is_open = True

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        runs: Path | str = "runs",
        *,
        origin: str | None = None,
        mirror: str | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """The run of a recipe in the folder `runs`/<name of the recipe>, begun or continued.

        `origin` (org/name@round-003): a published round that the run goes on from. `mirror`: the URL of a copy of the folder.
        `progress` is told what happens; without one the log `evokd_data.progress` is. Raises DataError, RecipeError, WorkspaceError when
        another process works on the run or it was begun with another recipe.
        """
        progress = progress or LoggedProgress()
        with ExitStack() as stack:
            locked = stack.enter_context(open_run(recipe, Path(runs), origin, progress, mirror))
            return cls(locked, stack.pop_all(), progress)
        raise AssertionError  # for type checkers: an ExitStack can swallow errors, and this one does not

    def close(self) -> None:
        """Close the teacher and unlock the folder. What reads the run's files still works afterwards."""
        self._is_open = False
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._stack.__exit__(kind, error, trace)

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self._locked.recipe

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._locked.workspace.root

    def __repr__(self) -> str:
        return f"<Run {self.folder}, complete rounds: {self._locked.complete_rounds()}>"

    async def generate(self) -> dict[str, Any]:
        """Generate the samples of the next round; round 0 is the seeds. See `generate_sync`."""
        return await self._loop.call(self.generate_sync)

    def generate_sync(self) -> dict[str, Any]:
        """Generate the samples of the next round and return its totals: {"round", "asked", "kept", "rejected": {reason: count}, ...}.

        Raises TeacherError when the teacher cannot be opened or stops, BudgetSpent when the budget allows no more.
        """
        with self._alone():
            return self._loop.run(generate_round(self._locked, self._teacher, self._progress))

    def train_round(self) -> dict[str, Any]:
        """Train the student on every sample so far and score it. Returns the metrics: {"round", "test": {"macro_f1", ...}, ...}.

        The teacher sleeps meanwhile. Raises WorkspaceError when nothing is generated, StudentError.
        """
        with self._alone():
            index = self._locked.next_to_train()
            with asleep(self._loop, self._teacher):
                return complete_round(self._locked, index, self._progress)

    def publish(self) -> list[Revision]:
        """Publish every complete round that is not on the Hub yet. Returns the revision of each complete round, in order.

        Raises WorkspaceError when no round is complete or the recipe has no `publish` section, PublishError, RevisionConflict.
        """
        with self._alone():
            return publish_rounds(self._locked, self._progress)

    async def finish(self) -> list[dict[str, Any]]:
        """Work through every round that is left. See `finish_sync`."""
        return await self._loop.call(self.finish_sync)

    def finish_sync(self) -> list[dict[str, Any]]:
        """Work through every round that is left: generate, train, publish where the recipe says so. Returns `rounds()`.

        It ends earlier when the budget is spent, or when more rounds would be a waste (see `count` in docs/settings.md), as the command `run` does.
        """
        with self._alone():
            run_rounds(self._loop, self._locked, self._teacher, self._progress)
        return self.rounds()

    def rounds(self) -> list[dict[str, Any]]:
        """The table of rounds, one dict for each that was begun: {"round", "asked", "kept", "rejected": {reason: count}, "metric",
        "score", "interval": (low, high), "adopted", "tokens", "seconds", "digest", "revision", "metrics"}. What is missing yet is None."""
        return flat_rounds(summary(self._locked.workspace))

    def samples(self, round: int | None = None) -> Dataset:
        """The samples of a round; without a number those of all rounds, in the order in which the student meets them. What a person
        has withdrawn since is left out.

        Labels, or the types of spans, are ClassLabels. Raises WorkspaceError when there is no such round.
        """
        files = [path for folder in self._folders(round) for path in folder.shard_files()]
        workspace = self._locked.workspace
        last = max((folder.index for folder in workspace.rounds()), default=0)
        return samples_dataset(self.recipe.task, files, withdrawn_rows(workspace, last))

    def rejections(self, round: int | None = None, reason: str | None = None) -> Dataset:
        """What the filters dropped of a round, or of all rounds: reason, text, detail, and for what it was asked for.

        Raises WorkspaceError when there is no such round or reason.
        """
        if reason is not None and reason not in REASONS:
            raise WorkspaceError(f"reason: {reason!r} is no reason{nearest(reason, REASONS)}")
        files = [path for folder in self._folders(round) for path in folder.rejection_files()]
        return rejections_dataset(files, reason)

    def best_student(self, round: int | None = None) -> OpenedModel:
        """The student of the last adopted round, or of another one; `predict` labels texts, `checkpoint` is its folder.

        Raises WorkspaceError when no round is trained, or its student is not on this machine.
        """
        return open_model(str(self.folder), round)

    def _folders(self, index: int | None) -> list[RoundFolder]:
        folders = self._locked.workspace.rounds()
        if index is None:
            return folders
        if chosen := [folder for folder in folders if folder.index == index]:
            return chosen
        numbers = ", ".join(str(folder.index) for folder in folders) or "none yet; generate one"
        raise WorkspaceError(f"{self.folder}: has no round {index!r}; it has {numbers}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nothing else works on the run during the block. After an error the teacher is closed: the next call opens it anew."""
        if not self._is_open:
            raise WorkspaceError(f"{self.folder}: this Run is closed; open it again: Run.open(recipe)")
        if not self._busy.acquire(blocking=False):
            raise WorkspaceError(f"{self.folder}: another call of this Run is not done yet; await it first")
        try:
            yield
        except BudgetSpent:
            raise
        except BaseException:
            try:
                self._close_teacher()
            finally:
                self._teacher = teacher_of(self._locked, self._progress)
            raise
        finally:
            self._busy.release()

    def _close_teacher(self) -> None:
        self._loop.run(self._teacher.__aexit__(None, None, None))
