"""Real Ray actors on this machine, with scripted engines, so that a start takes seconds."""

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
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.scripted import Scripted

pytestmark = pytest.mark.ray

TOO_MUCH = {"GPU": 1000.0}
PR_GET_PDEATHSIG = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, started once: to the tests below it is already initialized."""
    import ray

    resources = {"num_cpus": 4, "num_gpus": 2, "resources": {"slot": 4}}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", **resources)
    yield
    ray.shutdown()


class Actors:
    """A scripted teacher in actors, as a teacher of a recipe."""

    partitioned = True

    def __init__(self, workers: int, **settings: float) -> None:
        self.teacher, self.workers = Scripted(**settings), workers

    def serve(self, log: Path):
        return pipeline.serve(self.teacher, self.workers, log, resources={"CPU": 1.0})


def round_1(recipe: Recipe, runs: Path, teacher, while_it_runs=None) -> tuple[str, dict]:
    """The contents of round 1's shards, and its totals."""

    async def main() -> dict:
        async with TeacherOnDemand(teacher, runs / "teacher.log") as on_demand:
            await generate(recipe, run.workspace, 0, run.splits, on_demand)
            task = asyncio.create_task(generate(recipe, run.workspace, 1, run.splits, on_demand))
            if while_it_runs is not None:
                await asyncio.to_thread(while_it_runs, run.workspace)
            return await task

    runs.mkdir(exist_ok=True)
    with open_run(recipe, runs) as run:
        totals = asyncio.run(main())
        return json.dumps([path.read_bytes().hex() for path in run.workspace.round(1).shard_files()]), totals


def pids() -> list[int]:
    """The actors below this process."""
    ids = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "MapWorker" in " ".join(child.cmdline()):
                ids.append(child.pid)
    return ids


def opened(workspace: Workspace, count: int) -> list[int]:
    """The processes of the first `count` workers that open."""
    log = workspace.root.parent / "teacher.log"
    pattern = r"worker \d is open on \S+ \(process (\d+)\)"
    while len(ids := re.findall(pattern, log.read_text() if log.exists() else "")) < count:
        time.sleep(0.05)
    return [int(pid) for pid in ids[:count]]


def alive(processes: list[int], timeout_s: float) -> list[int]:
    """The processes that still run after at most `timeout_s`, without zombies."""
    deadline = time.monotonic() + timeout_s
    while running := [pid for pid in processes if _runs(pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return running


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
    assert totals["engine"]["engine"] == "scripted" and totals["engine"]["ray"] == pipeline.version()
    assert alive(pids(), 20) == [], "actors that outlive their engine"


@pytest.mark.usefixtures("cluster")
def test_a_worker_killed_in_the_middle_loses_nothing(recipe, tmp_path):
    def kill_one(workspace: Workspace) -> None:
        journal = workspace.round(1).journal
        while not journal.exists() or sum(1 for _ in read_answers(journal)) < 4:
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
        async with pipeline.serve(Scripted(), 2, tmp_path / "log", resources=TOO_MUCH):
            raise AssertionError("opened")

    with pytest.raises(TeacherError, match=r"teacher.resources: a worker needs {'GPU': 1000.0} on one machine"):
        asyncio.run(main())


@pytest.mark.usefixtures("cluster")
def test_what_a_worker_cannot_open_is_told_with_its_machine(tmp_path):
    class Closed(Scripted):
        def serve(self, log: Path):
            raise RecipeError("teacher.engine_args.a: no such argument", "teacher.engine_args.b: no such argument")

    async def main() -> None:
        async with pipeline.serve(Closed(), 2, tmp_path / "log"):
            raise AssertionError("opened")

    with pytest.raises(RecipeError) as raised:
        asyncio.run(main())
    host = os.uname().nodename
    assert raised.value.problems == tuple(f"{host}: teacher.engine_args.{name}: no such argument" for name in "ab")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("resources", [{"GPU": 1.0}, {"GPU": 1.0, "CPU": 1.0}, {"slot": 2.0}, {}])
def test_a_worker_has_the_resources_that_were_asked_for(tmp_path, resources):
    """In a cluster that claims two GPUs, each of two workers sees its own, as vLLM will."""

    class Inspecting(Scripted):
        @contextlib.asynccontextmanager
        async def serve(self, log: Path):
            import ray

            assigned = {
                name: amount for name, amount in ray.get_runtime_context().get_assigned_resources().items() if amount
            }
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            async with super().serve(log) as engine:
                signalled = ctypes.c_int()
                ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(signalled))
                yield Reporting(engine, {"assigned": assigned, "visible": visible, "with Ray": signalled.value})

    class Reporting:
        def __init__(self, engine, environment: dict) -> None:
            self.window, self.complete, self._environment = engine.window, engine.complete, environment

        def environment(self) -> dict:
            return self._environment

    async def main() -> dict:
        async with pipeline.serve(Inspecting(), 2, tmp_path / "log", resources=resources, gpus=1) as engine:
            while engine.workers_opened < 2:
                await asyncio.sleep(0.05)
            return dict(engine.environment())

    environment = asyncio.run(main())
    kinds = environment.get("kinds") or [environment]
    assert all(kind["assigned"] == (resources or {"GPU": 1.0}) for kind in kinds)
    assert all(kind["with Ray"] == signal.SIGKILL for kind in kinds), "would outlive the raylet"
    if resources.get("GPU") or not resources:
        assert sorted(kind["visible"] for kind in kinds) == ["0", "1"]
