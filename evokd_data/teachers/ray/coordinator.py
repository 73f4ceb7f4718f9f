"""Who writes what: between a driver, its workers, and whatever hands rows to workers.

    driver    put -> rows -> (Ray Data) -> begin    worker
              received, news, order, end            hello, opened, failed, died, poll, share, shared

A row says that there is something to do; what, the worker that gets it is told when it begins: the first thing that nobody has
begun. So it does not matter where a row went. When a worker dies, what it held is to be done again, and there are new rows
for that: those that it had may come back with it, wait for it for ever, or go to it still while Ray Data has not noticed.

Runs in an actor of its own; everything here happens in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evokd_data.errors import EvokdError, RecipeError, TeacherError
from evokd_data.records import Completion

ROWS = 4
"""Rows in one worker: while the results of some are on their way, and rows in their place, the others keep it busy."""
DEATHS = 3
"""In whose company something is given up; and of how many openings in a row none may succeed when no worker is open."""
POLL_S = 5.0
LOST_S = 60.0
"""Of silence, after which a worker counts as dead, though nobody has said so: its machine may be gone."""


@dataclass(frozen=True, slots=True)
class News:
    """Something the driver should know. `what`: open, failed, died, given up, note."""

    what: str
    worker: int
    said: Any


@dataclass(frozen=True, slots=True)
class State:
    """What all workers should be. `version` counts the changes."""

    version: int = 0
    asleep: bool = False
    ended: bool = False


@dataclass(slots=True)
class _Worker:
    index: int
    where: str
    heard: float
    open: bool = False
    opening: bool = True
    lost: bool = False
    version: int = 0
    done: int = 0
    holds: set[int] = field(default_factory=set)


class Coordinator:
    """See above. Workers go by the names that they give themselves, one for each of the `places`, which are filled again and
    again. Of silence, one is dead after `lost_s`; it has no more than `rows` rows at a time."""

    def __init__(self, places: int, lost_s: float = LOST_S, rows: int = ROWS) -> None:
        self._places = places
        self._rows_each = rows
        self._lost_s = lost_s
        self._rows = 0
        self._todo: dict[int, Any] = {}
        self._pending: list[int] = []  # a heap: what was asked first is begun first, also when it is asked again
        self._shelf: dict[int, Any] = {}
        self._holder: dict[int, _Worker] = {}
        self._deaths: Counter[int] = Counter()
        self._workers: dict[str, _Worker] = {}
        self._state = State()
        self._news: list[News] = []
        self._failures = 0
        self._once_open = False
        self._answers: dict[str, Completion] = {}
        self._asking: dict[str, str] = {}
        self._conditions = {name: asyncio.Condition() for name in ("rows", "state", "news", "workers", "answers")}
        self._watching: asyncio.Task[None] | None = None

    async def _wait(self, topic: str, until: Callable[[], bool], patience_s: float | None = None) -> None:
        condition = self._conditions[topic]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s), condition:
                await condition.wait_for(until)

    async def _changed(self, *topics: str) -> None:
        for topic in topics:
            async with self._conditions[topic]:
                self._conditions[topic].notify_all()

    async def _tell(self, what: str, worker: int, said: Any) -> None:
        self._news.append(News(what, worker, said))
        await self._changed("news")

    # The driver's.

    async def shelve(self, key: int, what: Any) -> None:
        """Keep what many rows need, for `fetch`."""
        self._shelf[key] = what

    async def unshelve(self, key: int) -> None:
        self._shelf.pop(key, None)
        self._answers.clear()
        self._asking.clear()

    async def put(self, number: int, what: Any) -> None:
        """`number` counts what is asked."""
        self._todo[number] = what
        heapq.heappush(self._pending, number)
        self._rows += 1
        await self._changed("rows")

    async def received(self, number: int) -> None:
        """The driver has what `number` led to, or does not want it any more."""
        self._todo.pop(number, None)
        self._deaths.pop(number, None)
        if (holder := self._holder.pop(number, None)) is not None:
            holder.holds.discard(number)
            holder.done += 1

    async def news(self, seen: int) -> list[News]:
        """Those after the first `seen`, as soon as there are some."""
        await self._wait("news", lambda: len(self._news) > seen)
        return self._news[seen:]

    async def order(self, asleep: bool) -> None:
        """Returns when every open worker is so. One that opens later is so from its beginning."""
        await self._become(State(self._state.version + 1, asleep, self._state.ended))

    async def end(self, patience_s: float) -> None:
        """No more rows; every worker ends its engine. Returns when all have, or after `patience_s`."""
        self._state = State(self._state.version, self._state.asleep, True)
        await self._changed("rows")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._become(State(self._state.version + 1, self._state.asleep, True))

    async def _become(self, state: State) -> None:
        self._state = state
        await self._changed("state")
        await self._wait(
            "workers", lambda: all(one.version >= state.version for one in self._workers.values() if one.open)
        )

    # The source's.

    async def rows(self, before: int) -> tuple[int, bool]:
        """How many there are, as soon as they are more than `before`, and whether that is all."""
        await self._wait("rows", lambda: self._rows > before or self._state.ended)
        return self._rows, self._state.ended

    # A worker's.

    async def hello(self, name: str, where: str) -> tuple[int, bool]:
        """Said by a process before it opens its engine; its number among the workers, and whether all is over."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        if (known := self._workers.get(name)) is None:
            known = self._workers[name] = _Worker(len(self._workers), where, time.monotonic())
        elif known.open:
            await self.died(name, "its process ended")
        elif known.opening:
            await self.failed(name, TeacherError(f"{known.where}: the process ended while it opened its engine"))
        known.where, known.heard, known.open, known.opening, known.lost = where, time.monotonic(), False, True, False
        return known.index, self._state.ended

    async def opened(self, name: str, window: int, environment: Mapping[str, Any]) -> None:
        worker = self._workers[name]
        worker.open, worker.opening, worker.version, worker.done = True, False, -1, 0
        worker.heard = time.monotonic()
        self._failures, self._once_open = 0, True
        await self._tell("open", worker.index, (worker.where, window, dict(environment)))

    async def failed(self, name: str, error: EvokdError) -> float:
        """Seconds after which the worker may try again."""
        worker = self._workers[name]
        worker.opening = False
        self._failures += 1
        workers = self._workers.values()
        waiting = sum(not one.open and not one.opening for one in workers)
        hopeless = not any(one.open for one in workers) and (
            self._failures >= DEATHS
            or isinstance(error, RecipeError)
            # What keeps all the first from opening is the recipe or the machines, and no accident.
            or (waiting == self._places and not self._once_open)
        )
        await self._tell("failed", worker.index, (error, hopeless))
        return float(min(300, 2 ** min(self._failures, 10) / 2))

    async def died(self, name: str, reason: str) -> None:
        worker = self._workers[name]
        if not worker.open:
            return
        worker.open = False
        held, worker.holds = sorted(worker.holds), set()
        self._rows += self._rows_each
        for number in held:
            self._holder.pop(number, None)
            self._deaths[number] += 1
            if self._deaths[number] >= DEATHS:
                await self._tell("given up", worker.index, (number, reason))
            else:
                heapq.heappush(self._pending, number)
        self._asking = {answer: by for answer, by in self._asking.items() if by != name}
        await self._tell("died", worker.index, (reason, worker.where, worker.done))
        await self._changed("rows", "workers", "answers")

    async def note(self, name: str, said: str) -> None:
        await self._tell("note", self._workers[name].index, said)

    async def poll(self, name: str, version: int) -> State:
        """What the worker should be, when that is another than `version`, which it is; else the same after a while."""
        worker = self._workers[name]
        worker.heard = time.monotonic()
        if worker.lost:  # it was there all the time
            worker.open, worker.lost = True, False
        if worker.version != version:
            worker.version = version
            await self._changed("workers")
        await self._wait("state", lambda: self._state.version != version, POLL_S)
        worker.heard = time.monotonic()
        return self._state

    async def begin(self, name: str) -> tuple[int, Any, int] | None:
        """For a worker that got a row: the number of what it is to do, that, and how many workers died of it. None when there
        is nothing."""
        while self._pending and not self._state.ended:
            number = heapq.heappop(self._pending)
            if number in self._todo:
                worker = self._workers[name]
                self._holder[number] = worker
                worker.holds.add(number)
                return number, self._todo[number], self._deaths[number]
        return None

    async def fetch(self, key: int) -> Any:
        return self._shelf.get(key)

    async def share(self, answer: str, name: str) -> Completion | None:
        """The answer of this name, when it is there; None for who must find it, and tell with `shared`."""
        await self._wait("answers", lambda: answer in self._answers or answer not in self._asking)
        if answer not in self._answers:
            self._asking[answer] = name
        return self._answers.get(answer)

    async def shared(self, answer: str, said: Completion) -> None:
        self._answers[answer] = said
        self._asking.pop(answer, None)
        await self._changed("answers")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._lost_s / 10)
            now = time.monotonic()
            for name, worker in list(self._workers.items()):
                if worker.open and now - worker.heard > self._lost_s:
                    worker.lost = True
                    await self.died(name, f"nothing was heard of it for {self._lost_s:.0f} s")
