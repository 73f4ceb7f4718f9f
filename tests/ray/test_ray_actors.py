"""Real Ray actors on this machine, with scripted engines, so that a start takes seconds."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evokd_data.errors import RecipeError, TeacherError
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.scripted import Scripted
from tests.support.ray_workers import Actors, alive, opened, pids, round_1

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
