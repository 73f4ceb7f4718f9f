"""Rows carried to workers in this process: what Ray Data does for a run, for tests of all that it does not do.

As Ray Data does: a row goes to the worker that has fewest, no more than ROWS to one; a worker whose process ends is
opened again under its name, and is given the rows that it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from evokd_data.errors import EngineStopped
from evokd_data.teachers import Teacher
from evokd_data.teachers.ray.coordinator import ROWS, Coordinator
from evokd_data.teachers.ray.engine import Cluster
from evokd_data.teachers.ray.worker import Worker
from evokd_data.teachers.scripted import Scripted


class Crew:
    """`hire(index)` gives the teacher of each worker that opens, by its place. Is itself a recipe's teacher."""

    partitioned = True

    def __init__(self, hire: Callable[[int], Teacher], places: int, log: Path, lost_s: float = 60.0) -> None:
        self.coordinator = Coordinator(places, lost_s)
        self.notes: list[str] = []
        self.cluster = Cluster(
            self.coordinator, places, self.notes.append, share=lambda work: pickle.loads(pickle.dumps(work))
        )
        self.rows: list[tuple[int, int]] = []  # each row that was begun, and where
        self._hire, self._places, self._log = hire, places, log
        self._identity = Scripted().identity()
        self._load = [0] * places
        self._open: dict[int, Worker] = {}
        self._follows: dict[int, asyncio.Task[Any]] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._generation = [0] * places

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.cluster.fail(EngineStopped(f"the crew: {type(error).__name__}: {error}"))

        task.add_done_callback(done)
        return task

    async def _fill(self, index: int) -> None:
        while True:
            worker = Worker(self._hire(index), self._log, self.coordinator, f"place {index}")
            again_s = await worker.open(self._identity)
            if again_s is None:
                break
            await asyncio.sleep(again_s / 100)
        self._open[index] = worker
        self._follows[index] = self._start(self._follow(worker))
        async with self._changed:
            self._changed.notify_all()

    async def _follow(self, worker: Worker) -> None:
        with contextlib.suppress(EngineStopped):
            await worker.follow()

    async def _feed(self) -> None:
        said, ended = 0, False
        while not ended:
            before, (said, ended) = said, await self.coordinator.rows(said)
            for row in range(before, said):
                async with self._changed:
                    await self._changed.wait_for(self._room)
                index = min(self._open, key=lambda index: self._load[index])
                self._load[index] += 1
                self._start(self._do(row, index))

    def _room(self) -> bool:
        return any(self._load[index] < ROWS for index in self._open)

    async def _do(self, row: int, index: int) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: index in self._open)
            worker, generation = self._open[index], self._generation[index]
            self.rows.append((row, index))
            try:
                done = await worker.do()
            except EngineStopped:
                if generation == self._generation[index]:
                    self.kill(index)
                continue
            if generation == self._generation[index]:
                break
        if done is not None:
            self.cluster.take(*pickle.loads(pickle.dumps(done)))
        self._load[index] -= 1
        async with self._changed:
            self._changed.notify_all()

    def kill(self, index: int) -> None:
        """The process of a worker ends, without a word; what was under way in it never does."""
        worker = self._open.pop(index)
        self._follows[index].cancel()
        self._generation[index] += 1
        for task in worker._writing:
            task.cancel()
        self._start(self._fill(index))

    @contextlib.asynccontextmanager
    async def serve(self, log: Path | None = None) -> AsyncIterator[Cluster]:
        for index in range(self._places):
            self._start(self._fill(index))
        self._start(self._feed())
        try:
            await self.cluster.open()
            yield self.cluster
        finally:
            await self.cluster.close(5)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
