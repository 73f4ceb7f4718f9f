"""A cluster inside this process: carries rows to workers as Ray Data does, to test everything that Ray Data does not do.

A row goes to the worker that has the fewest, at most ROWS_PER_WORKER to one. A worker whose process ends is opened again
under its name and gets the rows that it had.
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
from evokd_data.teachers.ray.coordinator import ROWS_PER_WORKER, Coordinator
from evokd_data.teachers.ray.engine import ClusterEngine
from evokd_data.teachers.ray.worker import Worker
from evokd_data.teachers.scripted import Scripted


class InProcessCluster:
    """A recipe's teacher. `teacher_for(slot)` returns the teacher of the next worker that opens in this slot."""

    partitioned = True

    def __init__(
        self, teacher_for: Callable[[int], Teacher], slots: int, log: Path, heartbeat_timeout_s: float = 60.0
    ) -> None:
        self.coordinator = Coordinator(slots, heartbeat_timeout_s)
        self.log_lines: list[str] = []
        self.engine = ClusterEngine(
            self.coordinator, slots, self.log_lines.append, store_work=lambda work: pickle.loads(pickle.dumps(work))
        )
        self.rows: list[tuple[int, int]] = []  # each row that was begun, and its slot
        self._teacher_for, self._slots, self._log = teacher_for, slots, log
        self._identity = Scripted().identity()
        self._rows_in_slot = [0] * slots
        self._open: dict[int, Worker] = {}
        self._state_tasks: dict[int, asyncio.Task[Any]] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._process_count = [0] * slots

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.engine.fail(EngineStopped(f"the cluster of this process: {type(error).__name__}: {error}"))

        task.add_done_callback(done)
        return task

    async def _open_worker(self, slot: int) -> None:
        while True:
            worker = Worker(self._teacher_for(slot), self._log, self.coordinator, f"slot {slot}")
            retry_s = await worker.open(self._identity)
            if retry_s is None:
                break
            await asyncio.sleep(retry_s / 100)
        self._open[slot] = worker
        self._state_tasks[slot] = self._start(self._apply_states(worker))
        async with self._changed:
            self._changed.notify_all()

    async def _apply_states(self, worker: Worker) -> None:
        with contextlib.suppress(EngineStopped):
            await worker.apply_states()

    async def _distribute_rows(self) -> None:
        count, ended = 0, False
        while not ended:
            previous, (count, ended) = count, await self.coordinator.row_count(count)
            for row in range(previous, count):
                async with self._changed:
                    await self._changed.wait_for(self._has_room)
                slot = min(self._open, key=lambda slot: self._rows_in_slot[slot])
                self._rows_in_slot[slot] += 1
                self._start(self._process_row(row, slot))

    def _has_room(self) -> bool:
        return any(self._rows_in_slot[slot] < ROWS_PER_WORKER for slot in self._open)

    async def _process_row(self, row: int, slot: int) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: slot in self._open)
            worker, process = self._open[slot], self._process_count[slot]
            self.rows.append((row, slot))
            try:
                result = await worker.process_row()
            except EngineStopped:
                if process == self._process_count[slot]:
                    self.kill(slot)
                continue
            if process == self._process_count[slot]:
                break
        if result is not None:
            self.engine.deliver(*pickle.loads(pickle.dumps(result)))
        self._rows_in_slot[slot] -= 1
        async with self._changed:
            self._changed.notify_all()

    def kill(self, slot: int) -> None:
        """A worker's process ends without a message. Work that was under way in it never finishes."""
        worker = self._open.pop(slot)
        self._state_tasks[slot].cancel()
        self._process_count[slot] += 1
        for task in worker._running:
            task.cancel()
        self._start(self._open_worker(slot))

    @contextlib.asynccontextmanager
    async def serve(self, log: Path | None = None) -> AsyncIterator[ClusterEngine]:
        for slot in range(self._slots):
            self._start(self._open_worker(slot))
        self._start(self._distribute_rows())
        try:
            await self.engine.open()
            yield self.engine
        finally:
            await self.engine.close(5)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
