"""A fleet of real Ray actors on this machine. Scripted engines, so that a start takes seconds; one test has vLLM's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from evokd_data.errors import RecipeError, TeacherError
from evokd_data.feeding import TeacherOnDemand
from evokd_data.journal import read
from evokd_data.recipe import Recipe
from evokd_data.rounds import open_run
from evokd_data.stages.generate import generate
from evokd_data.teachers import ray as engine
from evokd_data.teachers.scripted import Scripted
from evokd_data.workspace import Workspace

pytestmark = pytest.mark.ray

NEEDED = {"GPU": 1000.0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, started once: the tests below are programs that have it already."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


class Actors:
    """A scripted teacher in actors, as a teacher of a recipe."""

    def __init__(self, workers: int, latency_s: float = 0.0) -> None:
        self.teacher, self.workers = Scripted(latency_s=latency_s), workers

    def serve(self, log: Path):
        return engine.serve(self.teacher, self.workers, log)


def round_1(recipe: Recipe, runs: Path, teacher, while_it_runs=None) -> tuple[str, dict]:
    """The digest of what round 1 made, and its totals."""

    async def main() -> dict:
        async with TeacherOnDemand(teacher, runs / "teacher.log") as opened:
            await generate(recipe, run.workspace, 0, run.splits, opened)
            task = asyncio.create_task(generate(recipe, run.workspace, 1, run.splits, opened))
            if while_it_runs is not None:
                await asyncio.to_thread(while_it_runs, run.workspace)
            return await task

    runs.mkdir(exist_ok=True)
    with open_run(recipe, runs) as run:
        totals = asyncio.run(main())
        return json.dumps([path.read_bytes().hex() for path in run.workspace.round(1).shard_files()]), totals


def pids() -> list[int]:
    """The actors below this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "_Actor" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def alive(processes: list[int], patience_s: float) -> list[int]:
    """Those that still run after at most `patience_s`; one that only waits to be noticed does not."""
    deadline = time.monotonic() + patience_s
    while left := [pid for pid in processes if _runs(pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("cluster")
def test_a_round_from_actors_is_the_round_from_one_engine(recipe, tmp_path):
    alone, _ = round_1(recipe(), tmp_path / "alone", Scripted())
    many, totals = round_1(recipe(), tmp_path / "many", Actors(3))
    assert many == alone
    assert (totals["engine"]["workers"], totals["engine"]["deaths"]) == (3, 0)
    assert totals["engine"]["engine"] == "scripted" and totals["engine"]["ray"] == engine.version()
    assert alive(pids(), 20) == [], "actors that outlive their fleet"


@pytest.mark.usefixtures("cluster")
def test_a_worker_killed_in_the_middle_loses_nothing(recipe, tmp_path):
    def kill_one(workspace: Workspace) -> None:
        journal = workspace.round(1).journal
        while not journal.exists() or sum(1 for _ in read(journal)) < 4:
            time.sleep(0.005)
        told = re.search(
            r"worker \d is open on \S+ \(process (\d+)\)", (workspace.root.parent / "teacher.log").read_text()
        )
        assert told is not None and int(told[1]) in pids()
        os.kill(int(told[1]), signal.SIGKILL)

    alone, _ = round_1(recipe(), tmp_path / "alone", Scripted())
    teacher = Actors(2, latency_s=0.3)
    killed, totals = round_1(recipe(), tmp_path / "killed", teacher, kill_one)
    assert killed == alone
    assert totals["engine"]["deaths"] == 1
    assert "worker" in (log := (tmp_path / "killed" / "teacher.log").read_text()) and "died after" in log


@pytest.mark.usefixtures("cluster")
def test_a_worker_no_machine_has_room_for_is_refused_at_once(tmp_path):
    async def main() -> None:
        async with engine.serve(Scripted(), 2, tmp_path / "log", resources=NEEDED):
            raise AssertionError("opened")

    with pytest.raises(TeacherError, match=r"teacher.resources: a worker needs {'GPU': 1000.0} on one machine"):
        asyncio.run(main())


@pytest.mark.usefixtures("cluster")
def test_what_a_worker_cannot_open_is_told_with_its_machine(tmp_path):
    class Closed(Scripted):
        def serve(self, log: Path):
            raise RecipeError("teacher.engine_args.a: no such argument", "teacher.engine_args.b: no such argument")

    async def main() -> None:
        async with engine.serve(Closed(), 2, tmp_path / "log"):
            raise AssertionError("opened")

    with pytest.raises(RecipeError) as raised:
        asyncio.run(main())
    here = os.uname().nodename
    assert raised.value.problems == tuple(f"{here}: teacher.engine_args.{name}: no such argument" for name in "ab")
