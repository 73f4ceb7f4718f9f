"""The engine ends with its program, however that ends, and the terminal stays clean. Each test starts its own engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from evokd_data.scratch import remove_abandoned
from tests.support import ROOT

pytestmark = pytest.mark.vllm


class Driver:
    """vllm_program.py in a process group of its own, as a shell would start it."""

    def __init__(self, model: Path, folder: Path, **environment: str) -> None:
        self.log = folder / "teacher.log"
        self.ready = folder / "ready.json"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.vllm_program", str(model), str(self.log), str(self.ready)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_ready(self) -> dict:
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)
        return json.loads(self.ready.read_text())

    def wait_until_starting(self) -> list[int]:
        """The processes of an engine that has begun to start a second ago."""
        while not psutil.Process(self.process.pid).children(recursive=True):
            time.sleep(0.1)
        time.sleep(1)
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)


def alive(processes: list[int], timeout_s: float) -> list[int]:
    """The processes that still run after at most `timeout_s`, without zombies."""
    deadline = time.monotonic() + timeout_s
    while True:
        running = [pid for pid in processes if psutil.pid_exists(pid) and _status(pid) != psutil.STATUS_ZOMBIE]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.05)


def _status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def texts() -> list[list[str]]:
    """The texts that each engine of this module wrote for the same prompts and seeds."""
    return []


def test_ctrl_c_ends_the_engine_and_nothing_was_printed(model: Path, tmp_path: Path, texts: list[list[str]]) -> None:
    driver = Driver(model, tmp_path)
    report = driver.wait_until_ready()
    texts.append(report["texts"])
    assert len(report["processes"]) >= 2
    driver.interrupt()
    out, err = driver.process.communicate(timeout=20)
    assert (driver.process.returncode, out, err) == (3, b"", b"")
    assert alive(report["processes"], 1) == []
    assert "Initializing a V1 LLM engine" in driver.log.read_text()


def test_a_killed_driver_takes_its_engine_along(
    model: Path, tmp_path: Path, texts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next process removes what it left in the temporary folder, the sockets of vLLM among it. One small file that torch
    makes to find its processes stays, as after every killed program of torch."""
    with tempfile.TemporaryDirectory(prefix="e") as temporary:  # short, as the path of a socket must be
        driver = Driver(model, tmp_path, TMPDIR=temporary)
        report = driver.wait_until_ready()
        texts.append(report["texts"])
        assert len(report["processes"]) >= 2
        driver.process.kill()
        assert alive(report["processes"], 5) == []
        out, err = driver.process.communicate(timeout=5)
        assert (out, err) == (b"", b"")
        assert [path for path in Path(temporary).rglob("*") if path.is_socket()]
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        remove_abandoned()
        assert [path for path in Path(temporary).iterdir() if not path.name.startswith("vllm_dist_")] == []


def test_a_restarted_engine_writes_the_same_texts(texts: list[list[str]]) -> None:
    assert len(texts) == 2, "needs the two tests above"
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 4


def test_ctrl_c_during_the_start_ends_it(model: Path, tmp_path: Path) -> None:
    driver = Driver(model, tmp_path)
    children = driver.wait_until_starting()
    driver.interrupt()
    out, err = driver.process.communicate(timeout=30)
    assert (driver.process.returncode, out, err) == (3, b"", b"")
    assert alive(children, 2) == []


def test_a_driver_killed_during_the_start_takes_its_engine_along(model: Path, tmp_path: Path) -> None:
    """vLLM's own processes wait five minutes for one that does not answer."""
    driver = Driver(model, tmp_path)
    children = driver.wait_until_starting()
    assert "Initializing a V1 LLM engine" not in driver.log.read_text(), "the engine is further than its first second"
    driver.process.kill()
    assert alive(children, 5) == []
