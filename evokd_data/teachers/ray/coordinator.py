"""The coordinator: which worker has which work item, what happens when a worker dies, and what all workers should be.

A row of Ray Data says only that there is something to do. The worker that receives it claims the first item that nobody has,
so it does not matter where a row went. When a worker dies, its items go back among the pending ones, and new rows are created
for them: the rows it had may return with its successor, may wait for it for ever, or may still go to the dead worker until
Ray Data notices.

A result can be lost without a death of its writer. A worker that dies between a row's result and the row's end has the row
repeated by Ray, in a successor that claims another item; but Ray gives the driver the first result that a row ever had, and
drops the second. So an item that its worker has written, and whose result the driver does not have after RESULT_TIMEOUT_S, is
given out again.

A coordinator runs in an actor of its own, in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evokd_data.errors import EvokdError, RecipeError, TeacherError
from evokd_data.records import Completion
from evokd_data.teachers.ray.api import (
    ClaimedItem,
    DesiredState,
    DriverApi,
    Event,
    ItemAbandoned,
    StartFailed,
    WorkerApi,
    WorkerDied,
    WorkerNote,
    WorkerOpened,
    WorkItem,
)

ROWS_PER_WORKER = 4
"""Rows in one worker at a time: while the results of some are on their way and new rows arrive, the others keep it busy."""
MAX_DEATHS = 3
"""Abandon an item after this many workers died on it. Stop after this many failed starts in a row with no open worker."""
POLL_S = 5.0
HEARTBEAT_TIMEOUT_S = 60.0
"""A worker without a heartbeat for this many seconds is treated as dead: its machine may be gone."""
RESULT_TIMEOUT_S = 30.0
"""Seconds from an item's end in its worker until its result counts as lost. Writing it twice is only a waste: the first counts."""


@dataclass(slots=True)
class _WorkerRecord:
    index: int
    location: str
    last_heartbeat: float
    open: bool = False
    opening: bool = True
    lost: bool = False
    version: int = 0  # of the desired state that it has applied
    finished: int = 0
    items: set[int] = field(default_factory=set)
    written: dict[int, float] = field(default_factory=dict)
    """Items of `items` that it no longer writes -> when that was first heard of."""


class Coordinator(DriverApi, WorkerApi):
    """For `worker_slots` workers, each with at most `rows_per_worker` rows at a time. A slot whose worker ends is filled by a
    new process, under the same name."""

    def __init__(
        self,
        worker_slots: int,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
        rows_per_worker: int = ROWS_PER_WORKER,
    ) -> None:
        self._worker_slots = worker_slots
        self._rows_per_worker = rows_per_worker
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._row_count = 0
        self._items: dict[int, WorkItem] = {}
        self._pending: list[int] = []  # a heap of item numbers
        self._works: dict[int, Any] = {}
        self._worker_by_item: dict[int, _WorkerRecord] = {}
        self._item_deaths: Counter[int] = Counter()
        self._workers: dict[str, _WorkerRecord] = {}
        self._desired = DesiredState()
        self._events: list[Event] = []
        self._failed_starts = 0
        self._ever_open = False
        self._shared_answers: dict[str, Completion] = {}
        self._shared_askers: dict[str, str] = {}  # prompt digest -> the worker that asks its engine
        self._conditions = {name: asyncio.Condition() for name in ("rows", "state", "events", "workers", "answers")}
        self._monitor: asyncio.Task[None] | None = None

    async def _wait(self, topic: str, predicate: Callable[[], bool], timeout_s: float | None = None) -> None:
        condition = self._conditions[topic]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), condition:
                await condition.wait_for(predicate)

    async def _notify(self, *topics: str) -> None:
        for topic in topics:
            async with self._conditions[topic]:
                self._conditions[topic].notify_all()

    async def _emit(self, event: Event) -> None:
        self._events.append(event)
        await self._notify("events")

    # For the driver: see `DriverApi`.

    async def add_work(self, key: int, work: Any) -> None:
        self._works[key] = work

    async def remove_work(self, key: int) -> None:
        self._works.pop(key, None)
        self._shared_answers.clear()
        self._shared_askers.clear()

    async def submit(self, number: int, item: WorkItem) -> None:
        self._items[number] = item
        heapq.heappush(self._pending, number)
        self._row_count += 1
        await self._notify("rows")

    async def acknowledge(self, number: int) -> None:
        self._items.pop(number, None)
        self._item_deaths.pop(number, None)
        if (worker := self._worker_by_item.pop(number, None)) is not None:
            worker.items.discard(number)
            worker.finished += 1

    async def events(self, count: int) -> list[Event]:
        await self._wait("events", lambda: len(self._events) > count)
        return self._events[count:]

    async def set_asleep(self, asleep: bool) -> None:
        await self._apply(replace(self._desired, version=self._desired.version + 1, asleep=asleep))

    async def shut_down(self, timeout_s: float) -> None:
        self._desired = replace(self._desired, ended=True)
        await self._notify("rows")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._apply(replace(self._desired, version=self._desired.version + 1))

    async def _apply(self, state: DesiredState) -> None:
        """Returns when every open worker has applied the state."""
        self._desired = state
        await self._notify("state")
        await self._wait(
            "workers",
            lambda: all(worker.version >= state.version for worker in self._workers.values() if worker.open),
        )

    # For the source of rows.

    async def row_count(self, previous: int) -> tuple[int, bool]:
        """How many rows there are, as soon as they are more than `previous`, and whether no more will come."""
        await self._wait("rows", lambda: self._row_count > previous or self._desired.ended)
        return self._row_count, self._desired.ended

    # For workers: see `WorkerApi`.

    async def register(self, name: str, location: str) -> tuple[int, bool]:
        if self._monitor is None:
            self._monitor = asyncio.create_task(self._detect_lost_workers())
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _WorkerRecord(len(self._workers), location, time.monotonic())
        elif worker.open:
            await self.report_death(name, "its process ended")
        elif worker.opening:
            await self.report_failed(
                name, TeacherError(f"{worker.location}: the process ended while it opened its engine")
            )
        worker.location, worker.last_heartbeat = location, time.monotonic()
        worker.open, worker.opening, worker.lost = False, True, False
        return worker.index, self._desired.ended

    async def report_opened(self, name: str, window: int, environment: Mapping[str, Any]) -> None:
        worker = self._workers[name]
        worker.open, worker.opening, worker.version, worker.finished = True, False, -1, 0
        worker.last_heartbeat = time.monotonic()
        self._failed_starts, self._ever_open = 0, True
        await self._emit(WorkerOpened(worker.index, worker.location, window, dict(environment)))

    async def report_failed(self, name: str, error: EvokdError) -> float:
        worker = self._workers[name]
        worker.opening = False
        self._failed_starts += 1
        workers = self._workers.values()
        closed = sum(not other.open and not other.opening for other in workers)
        fatal = not any(other.open for other in workers) and (
            self._failed_starts >= MAX_DEATHS
            or isinstance(error, RecipeError)
            # When the first start failed in every slot, the recipe or the machines are the cause, and no accident.
            or (closed == self._worker_slots and not self._ever_open)
        )
        await self._emit(StartFailed(worker.index, error, fatal))
        return float(min(300, 2 ** min(self._failed_starts, 10) / 2))

    async def report_death(self, name: str, reason: str) -> None:
        worker = self._workers[name]
        if not worker.open:
            return
        worker.open = False
        items, worker.items = sorted(worker.items), set()
        self._row_count += self._rows_per_worker
        for number in items:
            self._worker_by_item.pop(number, None)
            self._item_deaths[number] += 1
            if self._item_deaths[number] >= MAX_DEATHS:
                await self._emit(ItemAbandoned(worker.index, number, reason))
            else:
                heapq.heappush(self._pending, number)
        self._shared_askers = {digest: asker for digest, asker in self._shared_askers.items() if asker != name}
        await self._emit(WorkerDied(worker.index, worker.location, worker.finished, reason))
        await self._notify("rows", "workers", "answers")

    async def report_note(self, name: str, text: str) -> None:
        await self._emit(WorkerNote(self._workers[name].index, text))

    async def poll(self, name: str, version: int, running: frozenset[int]) -> DesiredState:
        worker = self._workers[name]
        worker.last_heartbeat = time.monotonic()
        await self._give_out_again(worker, running)
        if worker.lost:  # it was treated as dead, but its machine was only out of reach
            worker.open, worker.lost = True, False
        if worker.version != version:
            worker.version = version
            await self._notify("workers")
        await self._wait("state", lambda: self._desired.version != version, POLL_S)
        worker.last_heartbeat = time.monotonic()
        return self._desired

    async def _give_out_again(self, worker: _WorkerRecord, running: frozenset[int]) -> None:
        """Items whose results are lost become pending again, each with a new row."""
        now = time.monotonic()
        worker.written = {number: worker.written.get(number, now) for number in worker.items - running}
        lost = [number for number, since in worker.written.items() if now - since > RESULT_TIMEOUT_S]
        for number in lost:
            worker.items.discard(number)
            self._worker_by_item.pop(number, None)
            heapq.heappush(self._pending, number)
        if lost:
            self._row_count += len(lost)
            await self._notify("rows")

    async def claim(self, name: str) -> ClaimedItem | None:
        while self._pending and not self._desired.ended:
            number = heapq.heappop(self._pending)
            if number in self._items:
                worker = self._workers[name]
                self._worker_by_item[number] = worker
                worker.items.add(number)
                return ClaimedItem(number, self._items[number], self._item_deaths[number])
        return None

    async def fetch_work(self, key: int) -> Any:
        return self._works.get(key)

    async def shared_answer(self, digest: str, name: str) -> Completion | None:
        await self._wait("answers", lambda: digest in self._shared_answers or digest not in self._shared_askers)
        if digest not in self._shared_answers:
            self._shared_askers[digest] = name
        return self._shared_answers.get(digest)

    async def add_shared_answer(self, digest: str, answer: Completion) -> None:
        self._shared_answers[digest] = answer
        self._shared_askers.pop(digest, None)
        await self._notify("answers")

    async def _detect_lost_workers(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_timeout_s / 10)
            now = time.monotonic()
            for name, worker in list(self._workers.items()):
                if worker.open and now - worker.last_heartbeat > self._heartbeat_timeout_s:
                    worker.lost = True
                    await self.report_death(name, f"no heartbeat for {self._heartbeat_timeout_s:.0f} s")
