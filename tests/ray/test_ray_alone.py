"""Ray started and ended by the fleet itself, and what is left of it when the program dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_ray_actors import alive

from evokd_data.cluster import pipeline as engine
from evokd_data.errors import TeacherError
from evokd_data.teachers.scripted import Scripted

pytestmark = pytest.mark.ray


def test_a_driver_killed_leaves_no_actor_behind(tmp_path):
    ready = tmp_path / "ready.json"
    driver = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_driver.py")), str(tmp_path / "log"), str(ready)],
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
    time.sleep(1)  # for Ray to say what it thinks of it
    driver.kill()
    assert driver.communicate() == (b"", b""), "Ray prints nothing of its own"
    assert alive(processes, 30) == []


def test_a_cluster_that_is_not_there_is_told(tmp_path):
    async def main() -> None:
        async with engine.serve(Scripted(), 1, tmp_path / "log", address="127.0.0.1:1"):
            raise AssertionError("opened")

    with pytest.raises(TeacherError, match=r"teacher.address: no Ray cluster at '127.0.0.1:1'"):
        asyncio.run(main())
