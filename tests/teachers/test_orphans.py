"""Processes that an engine's process starts end with it from their beginning, before vLLM has loaded anything in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, os, sys, time
from evokd_data.teachers.orphans import end_with_parent

def worker():  # has loaded no plugin, and so asked for nothing
    print("worker", os.getpid(), flush=True)
    time.sleep(60)

def core():
    end_with_parent()
    print("core", os.getpid(), flush=True)
    multiprocessing.get_context("spawn").Process(target=worker).start()
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=core).start()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's signal is Linux's")
def test_a_worker_ends_with_the_core_that_started_it_before_it_has_loaded_a_plugin(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(SCRIPT)
    driver = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "EVOKD_ENGINE_DRIVER": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None
        started = dict(driver.stdout.readline().split() for _ in range(2))
        os.kill(int(started["core"]), signal.SIGKILL)
        worker = Path("/proc") / started["worker"]
        deadline = time.monotonic() + 10
        while worker.exists() and "Z" not in (worker / "stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "the worker outlives the core"
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
