"""A fleet of real Ray actors on this machine. Scripted engines, so that a start takes seconds; one test has vLLM's."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
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
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.recipe import Recipe
from evokd_data.rounds import open_run
from evokd_data.stages.generate import generate
from evokd_data.storage.journal import read
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.ray import pipeline as engine
from evokd_data.teachers.scripted import Scripted

pytestmark = pytest.mark.ray

NEEDED = {"GPU": 1000.0}
PR_GET_PDEATHSIG = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, started once: the tests below are programs that have it already."""
    import ray

    has = {"num_cpus": 4, "num_gpus": 2, "resources": {"slot": 4}}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", **has)
    yield
    ray.shutdown()


class Actors:
    """A scripted teacher in actors, as a teacher of a recipe."""

    partitioned = True

    def __init__(self, workers: int, **settings: float) -> None:
        self.teacher, self.workers = Scripted(**settings), workers

    def serve(self, log: Path):
        return engine.serve(self.teacher, self.workers, log, resources={"CPU": 1.0})


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
            if "MapWorker" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def opened(workspace: Workspace, count: int) -> list[int]:
    """The processes of the first `count` workers that open."""
    log = workspace.root.parent / "teacher.log"
    told = r"worker \d is open on \S+ \(process (\d+)\)"
    while len(found := re.findall(told, log.read_text() if log.exists() else "")) < count:
        time.sleep(0.05)
    return [int(pid) for pid in found[:count]]


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
        victim = opened(workspace, 1)[0]
        assert victim in pids()
        os.kill(victim, signal.SIGKILL)

    alone, _ = round_1(recipe(), tmp_path / "alone", Scripted())
    teacher = Actors(2, latency_s=0.2, window=4)
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


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("wanted", [{"GPU": 1.0}, {"GPU": 1.0, "CPU": 1.0}, {"slot": 2.0}, {}])
def test_a_worker_has_the_resources_that_were_asked_for(tmp_path, wanted):
    """Of a cluster that says it has two GPUs: each of two workers sees its own, as vLLM will."""

    class Seen(Scripted):
        @contextlib.asynccontextmanager
        async def serve(self, log: Path):
            import ray

            held = {
                name: amount for name, amount in ray.get_runtime_context().get_assigned_resources().items() if amount
            }
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            async with super().serve(log) as opened:
                signalled = ctypes.c_int()
                ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(signalled))
                yield Telling(opened, {"held": held, "visible": visible, "with Ray": signalled.value})

    class Telling:
        def __init__(self, opened, told: dict) -> None:
            self.window, self.complete, self._told = opened.window, opened.complete, told

        def environment(self) -> dict:
            return self._told

    async def main() -> dict:
        async with engine.serve(Seen(), 2, tmp_path / "log", resources=wanted, gpus=1) as fleet:
            while fleet.opened < 2:
                await asyncio.sleep(0.05)
            return dict(fleet.environment())

    told = asyncio.run(main())
    kinds = told.get("kinds") or [told]
    assert all(kind["held"] == (wanted or {"GPU": 1.0}) for kind in kinds)
    assert all(kind["with Ray"] == signal.SIGKILL for kind in kinds), "would outlive the raylet"
    if wanted.get("GPU") or not wanted:
        assert sorted(kind["visible"] for kind in kinds) == ["0", "1"]
