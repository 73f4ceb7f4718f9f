"""Runs killed with -9 before any write, sync or rename, derived from a seed, and a check of what they come to. See bench/faults.py.

    crashes = Crashes.at(folder)     an undisturbed run to compare with
    play(17, crashes)                the same kills each time

A killed run is worked on by the next process, which may be killed, too. Its rows must be those of the undisturbed run; no
answer that the journal held may be gone or be there twice; and what was asked again is what a killed process had in flight.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from evokd_data.errors import EvokdError
from evokd_data.recipe import Recipe, load
from evokd_data.storage.journal import read_answers, segments
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support.disk_points import watch
from tests.support.example_task import QUICK, contents
from tests.support.example_task import play as play_rounds
from tests.support.published_runs import write_recipe

WINDOW = 8
ROUNDS = 3
SETTINGS = (
    f"teacher={{engine: scripted, wrong_labels: 0.2, broken_answers: 0.1, latency_s: 0.001, window: {WINDOW}}}",
    "rounds.count=2",
)
MAX_KILLS = 4


@cache
def _variant(name: str, folder: Path) -> Crashes:
    settings = VARIANTS[name]
    if name == "torch":
        from tests.support.tiny_encoders import make_base

        settings = tuple(setting.replace("BASE", str(make_base(folder / "base"))) for setting in settings)
    return Crashes.at(folder / name, *settings)


@dataclass
class Crashes:
    """The undisturbed run. `points`: how often it changes the disk. `asked`: how many prompts its teacher answers."""

    recipe: Recipe
    folder: Path
    settings: tuple[str, ...] = ()
    contents: list[str] = field(default_factory=list)
    points: int = 0
    asked: int = 0

    @staticmethod
    def of(seed: int, folder: Path) -> Crashes:
        """The undisturbed run that this seed is compared with. Each kind of run is made once in a folder."""
        name = "torch" if seed % TORCH_EVERY == TORCH_EVERY - 1 else "exam" if seed % EXAM_EVERY == 1 else "plain"
        return _variant(name, folder)

    @staticmethod
    def at(folder: Path, *overrides: str) -> Crashes:
        settings = (*(() if any(o.startswith("student=") for o in overrides) else QUICK), *SETTINGS, *overrides)
        recipe = load(write_recipe(folder), settings)
        crashes = Crashes(recipe, folder, settings)
        status, points = life(crashes, folder / "undisturbed")
        assert status == 0, "the undisturbed run failed"
        crashes.points, crashes.asked = points, len(asked(folder / "undisturbed"))
        crashes.contents = contents(Workspace(folder / "undisturbed" / recipe.name))
        return crashes


VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "exam": ("teacher_trust=force",),
    "torch": ("student={kind: transformer, model: BASE, from_scratch: false, min_steps: 4, epochs: 1, batch_size: 8}",),
}
"""Runs of other stages and students, by their changed settings. BASE is the folder of a tiny encoder."""
TORCH_EVERY, EXAM_EVERY = 20, 3


@dataclass
class Outcome:
    """`points`: kills that happened. `lost`: rounds with other rows, and answers that were in the journal and no longer are."""

    seed: int
    points: int = 0
    lost: int = 0
    duplicated: int = 0
    reasked_beyond_window: int = 0
    violations: list[str] = field(default_factory=list)


def life(crashes: Crashes, runs: Path, dies_before: int = 0) -> tuple[int, int]:
    """Work the run in a fork, to its end or to its death. The fork's wait status, and how many changes of the disk began."""
    runs.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            _note_prompts(runs)
            _count_changes(writer, dies_before)
            play_rounds(crashes.recipe, runs, ROUNDS)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    os.close(writer)
    points = 0
    while chunk := os.read(reader, 65536):
        points += len(chunk)
    os.close(reader)
    return os.waitpid(child, 0)[1], points


def _count_changes(writer: int, dies_before: int) -> None:
    write = os.write

    def act(number: int, _: str | None) -> None:
        write(writer, b".")
        if number == dies_before:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(act)


def _note_prompts(runs: Path) -> None:
    """Every prompt that the teacher is asked goes into a file that no kill can shorten."""
    log = os.open(runs / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    write, complete = os.write, ScriptedEngine.complete

    async def noted(engine: ScriptedEngine, prompt: Any) -> Any:
        write(log, f"{prompt.key}\n".encode())
        return await complete(engine, prompt)

    ScriptedEngine.complete = noted  # type: ignore[method-assign]  # in a fork, which ends


def asked(runs: Path) -> list[str]:
    return (runs / "asked").read_text(encoding="utf-8").splitlines()


def answers(workspace: Workspace) -> Counter[tuple[str, str, str]]:
    """Every answer in the journals of a run; a torn last line is none."""
    journalled: Counter[tuple[str, str, str]] = Counter()
    for folder in workspace.rounds():
        if segments(folder.journal):
            journalled.update((folder.tag, row["key"], row["prompt"]) for row in read_answers(folder.journal))
    return journalled


def play_in(folder: Path, seed: int) -> Outcome:
    """Play a seed, the undisturbed run included, with the folder's files. Call it in a process of one thread: both fork."""
    return play(seed, Crashes.of(seed, folder))


def play(seed: int, crashes: Crashes) -> Outcome:
    """Kill a run up to MAX_KILLS times, work it to its end, and compare it with the undisturbed one."""
    chance, outcome = random.Random(seed), Outcome(seed)
    runs = crashes.folder / f"crash-{seed}"
    workspace = Workspace(runs / crashes.recipe.name)
    journalled: Counter[tuple[str, str, str]] = Counter()
    wanted_kills = chance.randint(1, MAX_KILLS)
    status = -1
    for _ in range(wanted_kills):
        status, _ = life(crashes, runs, chance.randint(1, crashes.points))
        if not _was_killed(status):
            break
        outcome.points += 1
        try:
            after = answers(workspace)
        except EvokdError as error:
            outcome.violations.append(f"after a kill: {error}")
            break
        outcome.lost += sum((journalled - after).values())
        journalled = after
    if status:
        status, _ = life(crashes, runs)
    _compare(outcome, crashes, workspace, status, journalled)
    outcome.violations += [
        f"{name}: {value}"
        for name in ("lost", "duplicated", "reasked_beyond_window")
        if (value := getattr(outcome, name))
    ]
    shutil.rmtree(runs)
    return outcome


def _was_killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _compare(
    outcome: Outcome, crashes: Crashes, workspace: Workspace, status: int, journalled: Counter[tuple[str, str, str]]
) -> None:
    if status:
        outcome.violations.append(f"the last process ended with status {status}")
        outcome.lost += 1
        return
    outcome.lost += sum(a != b for a, b in zip(crashes.contents, contents(workspace), strict=False))
    outcome.lost += abs(len(crashes.contents) - len(contents(workspace)))
    final = answers(workspace)
    outcome.lost += sum((journalled - final).values())
    outcome.duplicated += sum(final.values()) - len(final)
    again = len(asked(workspace.root.parent)) - crashes.asked
    outcome.reasked_beyond_window += max(0, again - WINDOW * outcome.points)
    if leftovers := [path.name for path in workspace.root.rglob("*.draft")]:
        outcome.violations.append(f"left behind: {leftovers}")
