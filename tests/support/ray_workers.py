"""A round written by Ray workers, and the processes of the workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path

import psutil

from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.loop.rounds import open_run
from evokd_data.recipe import Recipe
from evokd_data.stages.generate import generate
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.scripted import Scripted


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
