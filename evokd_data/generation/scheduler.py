"""The scheduler keeps the engine busy: a bounded window of requests is in flight, and results come back in index order.

There is no barrier, neither between generating and labelling nor between shards: waiting for each shard would cost 1.37 times
the engine steps (measured with 1,024 requests of 20 to 200 tokens).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from evokd_data.generation.budget import Meter
from evokd_data.generation.suspects import Suspects
from evokd_data.progress import Progress
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Engine, PartitionedEngine, Teacher

Item = TypeVar("Item")
Result = TypeVar("Result")

BEFORE_OPENING = (
    256  # requests in flight until the engine is open and its window is known: enough to saturate one engine
)
AHEAD = 8  # windows of finished results that may wait for one straggler before new requests wait, too

SUSPECTS = "suspects.json"


class TeacherOnDemand:
    """A teacher that is opened by the first prompt that reaches it, and stays open until the block ends.

    A run whose answers are all in its journals never starts an engine. `log` is the file for the engine's own log.
    """

    def __init__(self, teacher: Teacher, log: Path, progress: Progress | None = None) -> None:
        self._teacher = teacher
        self._log = log
        self._progress = progress or Progress()
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._engine: Engine | None = None
        self._failure: Exception | None = None
        self._slots: asyncio.Semaphore | None = None
        self._suspects = Suspects(log.with_name(SUSPECTS))
        self.meter: Meter | None = None
        """Counts what is asked, and refuses what the run's budget does not allow. Set for each run that the teacher works for."""

    async def __aenter__(self) -> TeacherOnDemand:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine = None
        await self._stack.__aexit__(kind, error, trace)

    @property
    def window(self) -> int:
        """How many requests are worth having in flight."""
        return self._engine.window if self._engine else BEFORE_OPENING

    @property
    def engine(self) -> Engine | None:
        """The engine, or None when it is not open yet."""
        return self._engine

    async def open(self) -> Engine:
        """The open engine; opens it when it is not. Raises TeacherError; after a failure, each call raises the same error."""
        if self._engine is None:
            async with self._opening:
                if self._failure is not None:  # prompts that waited for the first must not start a second engine
                    raise self._failure
                if self._engine is None:
                    self._progress.waits("opening the teacher", self._log)
                    self._log.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        engine = await self._stack.enter_async_context(self._teacher.serve(self._log))
                    except Exception as error:
                        self._failure = error
                        raise
                    self._slots = asyncio.Semaphore(engine.window)
                    self._engine = engine
        return self._engine

    @property
    def partitioned(self) -> bool:
        """Whether the engine writes whole partitions of a round: `open_partitioned` then opens it."""
        return self._teacher.partitioned

    async def open_partitioned(self) -> PartitionedEngine:
        """The open engine of a partitioned teacher. Raises TeacherError."""
        engine = await self.open()
        assert isinstance(engine, PartitionedEngine), f"{self._teacher.name} is declared partitioned"
        return engine

    async def complete(self, prompt: Prompt) -> Completion:
        """One answer; at most `window` prompts are inside the engine. Raises TeacherError, and BudgetSpent as `Meter.complete` does."""
        if self.meter is not None and self._engine is None:
            self.meter.require_left(prompt)  # before an engine is opened for nothing
        engine = self._engine or await self.open()
        assert self._slots is not None
        async with self._slots:
            if self.meter is not None:
                return await self.meter.complete(
                    prompt, lambda metered: self._suspects.complete(metered, engine.complete)
                )
            return await self._suspects.complete(prompt, engine.complete)

    async def sleep(self) -> None:
        """Give the accelerator to the student until `wake`."""
        if self._engine is not None:
            await self._engine.sleep()

    async def wake(self) -> None:
        """Take the accelerator back after `sleep`."""
        if self._engine is not None:
            await self._engine.wake()


async def in_order(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], window: Callable[[], int], ahead: int = AHEAD
) -> AsyncGenerator[tuple[Item, Result]]:
    """Run `work` on every item, at most `window()` at a time, and yield the results in the items' order.

    At most `ahead` windows of results wait for a straggler: this bounds the memory. The first error of any item cancels
    everything in flight and is raised.
    """
    tasks: asyncio.Queue[tuple[Item, asyncio.Task[Result]] | None] = asyncio.Queue()
    running = waiting = 0
    changed = asyncio.Event()
    failed: asyncio.Future[asyncio.Task[Result]] = asyncio.get_running_loop().create_future()
    started: set[asyncio.Task[Result]] = set()

    def finished(task: asyncio.Task[Result]) -> None:
        nonlocal running
        running -= 1
        started.discard(task)
        changed.set()
        if not task.cancelled() and task.exception() is not None and not failed.done():
            failed.set_result(task)

    async def feed() -> None:
        nonlocal running, waiting
        for item in items:
            while running >= window() or waiting >= ahead * window():
                changed.clear()
                await changed.wait()
            task = asyncio.ensure_future(work(item))
            running += 1
            waiting += 1
            started.add(task)
            task.add_done_callback(finished)
            tasks.put_nowait((item, task))
            # Let the new task send its request before the next is made: the engine starts on the first one at once.
            await asyncio.sleep(0)
        tasks.put_nowait(None)

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(lambda _: tasks.put_nowait(None))
    try:
        while (entry := await tasks.get()) is not None:
            item, task = entry
            if not task.done():
                await asyncio.wait((task, failed), return_when=asyncio.FIRST_COMPLETED)
            result = await (failed.result() if failed.done() else task)
            waiting -= 1
            changed.set()
            yield item, result
        await feeder
    finally:
        feeder.cancel()
        failed.cancel()
        for task in list(started):
            task.cancel()
        await asyncio.gather(feeder, *started, return_exceptions=True)
