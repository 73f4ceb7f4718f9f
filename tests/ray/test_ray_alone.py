"""Ray started and ended by the engine itself, and what remains of it when the program dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evokd_data.errors import TeacherError
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.scripted import Scripted
from tests.support import ROOT
from tests.support.ray_workers import Actors, alive, opened, pids, round_1

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.ray


def test_a_driver_killed_leaves_no_actor_behind(tmp_path):
    ready = tmp_path / "ready.json"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ray_program", str(tmp_path / "log"), str(ready)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not ready.exists():
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    processes = json.loads(ready.read_text())
    assert len(processes) == 2
    os.kill(processes[0], signal.SIGKILL)
    while not (tmp_path / "again").exists():
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    time.sleep(1)  # time in which Ray might print something
    driver.kill()
    assert driver.communicate() == (b"", b""), "Ray prints nothing of its own"
    assert alive(processes, 30) == []


def test_nothing_starts_ray_again_when_the_run_has_shut_it_down(recipe, tmp_path):
    import ray
    from ray.exceptions import RaySystemError

    round_1(recipe(), tmp_path / "runs", Actors(1))
    with pytest.raises(RaySystemError, match="Ray has not been started yet"):
        ray.put("as a thread of Ray Data does that ends late")
    assert not ray.is_initialized()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The driver's machine, without slots, and two machines with a slot each. All are processes here, which Ray cannot tell."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1, resources={"slot": 1})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


class Remote:
    """A scripted teacher on the machines that have a slot."""

    partitioned = True

    def serve(self, log: Path):
        teacher = Scripted(latency_s=0.3, window=4)
        return pipeline.serve(teacher, 2, log, resources={"slot": 1.0}, heartbeat_timeout_s=8)


def test_when_a_machine_is_gone_for_good_the_others_write_its_part(recipe, tmp_path, machines):
    """No machine has room for its worker, and Ray Data waits for it. Only the coordinator notices."""

    def take_one_away(run: Workspace) -> None:
        opened(run, 2)
        while not run.round(1).journal.exists() or sum(1 for _ in read_answers(run.round(1).journal)) < 4:
            time.sleep(0.005)
        machines.remove_node(next(iter(machines.worker_nodes)), allow_graceful=False)

    longer = recipe(**{"samples: 24": "samples: 90"})
    alone, _ = round_1(longer, tmp_path / "alone", Scripted())
    remaining, totals = round_1(longer, tmp_path / "remaining", Remote(), take_one_away)
    assert remaining == alone
    assert totals["engine"]["deaths"] == 1
    assert "no heartbeat for 8 s" in (tmp_path / "remaining/teacher.log").read_text()


def test_a_worker_that_still_opens_when_ray_ends_does_not_outlive_it(tmp_path):
    class SlowToOpen(Scripted):
        @contextlib.asynccontextmanager
        async def serve(self, log: Path):
            if log.stem.endswith("-1"):
                await asyncio.sleep(600)
            async with super().serve(log) as engine:
                yield engine

    async def main() -> list[int]:
        async with pipeline.serve(SlowToOpen(), 2, tmp_path / "log"):
            while len(ids := pids()) < 2:
                await asyncio.sleep(0.1)
            await asyncio.sleep(3)
            return ids

    assert alive(asyncio.run(main()), 20) == []


def test_a_cluster_that_is_not_there_is_told(tmp_path):
    async def main() -> None:
        async with pipeline.serve(Scripted(), 1, tmp_path / "log", address="127.0.0.1:1"):
            raise AssertionError("opened")

    with pytest.raises(TeacherError, match=r"teacher.address: no Ray cluster at '127.0.0.1:1'"):
        asyncio.run(main())
