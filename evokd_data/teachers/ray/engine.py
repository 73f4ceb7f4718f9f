"""Many engines as one, for the driver: partitions and prompts become work items, and their results come back.

The coordinator knows which worker has which item. Whoever opens this brings rows to workers and calls `deliver` with results.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evokd_data.errors import EngineStopped, EvokdError, TeacherError
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Partition, RoundWork, WrittenPartition
from evokd_data.teachers.logs import single_line
from evokd_data.teachers.ray.api import (
    DriverApi,
    Event,
    ItemAbandoned,
    ItemResult,
    PartitionItem,
    PromptsItem,
    StartFailed,
    WorkerDied,
    WorkerOpened,
    WorkItem,
)
from evokd_data.teachers.ray.coordinator import MAX_DEATHS, ROWS_PER_WORKER

GATHER_S = 0.02
"""Single prompts that come within this time go to a worker together."""


class ClusterEngine:
    """See `teachers.PartitionedEngine`.

    `workers`: how many there should be. `write_log` gets lines for the driver's log. `store_work` turns a RoundWork into what
    the coordinator keeps of it. `leave_parts`: whether workers may leave parts of the journal. `drop_variables`: send prompts
    without the template variables, which only a scripted teacher reads. `rows_per_worker`: rows in one worker at a time.

    `workers_opened` counts how often a worker has opened, `deaths` how many died.
    """

    def __init__(
        self,
        coordinator: DriverApi,
        workers: int,
        write_log: Callable[[str], None],
        *,
        store_work: Callable[[RoundWork], Any] = lambda work: work,
        leave_parts: bool = True,
        drop_variables: bool = False,
        rows_per_worker: int = ROWS_PER_WORKER,
    ) -> None:
        self.workers = workers
        self.window = self.workers_opened = self.deaths = 0
        self._coordinator = coordinator
        self._write_log = write_log
        self._store_work = store_work
        self._leave_parts = leave_parts
        self._drop_variables = drop_variables
        self._rows_per_worker = rows_per_worker
        self._numbers = itertools.count()
        self._results: dict[int, asyncio.Future[Any]] = {}
        # By the object's id, which nothing else can have while the object is referenced here.
        self._works: dict[int, tuple[RoundWork, asyncio.Task[int]]] = {}
        self._prompts: list[tuple[Prompt, asyncio.Future[Completion]]] = []
        self._environments: dict[int, Mapping[str, Any]] = {}
        self._failure: EvokdError | None = None
        self._first_open = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Returns when the first worker is open. Raises the error that kept the workers from opening."""
        self._start(self._handle_events())
        await self._first_open.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self, timeout_s: float) -> None:
        """Returns when every worker has ended its engine, or after `timeout_s`. Whatever still waits for a result fails."""
        self.fail(TeacherError("the teacher is closed"))
        with contextlib.suppress(Exception):  # the coordinator is gone, and so are the workers
            await self._coordinator.shut_down(timeout_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def deliver(self, number: int, result: ItemResult) -> None:
        """Take an item's result. The first one counts; an item may be written twice."""
        future = self._results.pop(number, None)
        if future is None or future.done():
            return
        if isinstance(result, EvokdError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def fail(self, error: EvokdError) -> None:
        """Every item fails with this error, now and from now on. A second error changes nothing."""
        self._failure = self._failure or error
        for number in list(self._results):
            self.deliver(number, self._failure)
        prompts, self._prompts = self._prompts, []
        for _, future in prompts:
            if not future.done():
                future.set_exception(self._failure)
        self._first_open.set()

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _handle_events(self) -> None:
        count = 0
        while True:
            try:
                events = await self._coordinator.events(count)
            except Exception as error:  # a remote coordinator may raise anything
                self.fail(EngineStopped(f"the coordinator is gone: {single_line(str(error))}"))
                return
            count += len(events)
            for event in events:
                self._handle(event)

    def _handle(self, event: Event) -> None:
        worker = f"worker {event.worker}"
        if isinstance(event, WorkerOpened):
            self._environments[event.worker] = event.environment
            self.window = self.window or event.window * self.workers
            self.workers_opened += 1
            self._write_log(f"{worker} is open on {event.location}")
            self._first_open.set()
        elif isinstance(event, StartFailed):
            self._write_log(f"{worker} did not open: {event.error}")
            if event.fatal:
                self.fail(event.error)
        elif isinstance(event, WorkerDied):
            self.deaths += 1
            self._write_log(f"{worker} on {event.location} died after {event.finished} rows: {event.reason}")
        elif isinstance(event, ItemAbandoned):
            error = f"{MAX_DEATHS} workers died while they wrote the same requests, the last: {event.reason}"
            self.deliver(event.number, TeacherError(error))
        else:
            self._write_log(f"{worker}: {event.text}")

    async def _submit(self, item: WorkItem) -> Any:
        """The item's result. Raises the error that it came to."""
        if self._failure is not None:
            raise self._failure
        number = next(self._numbers)
        future = self._results[number] = asyncio.get_running_loop().create_future()
        try:
            await self._coordinator.submit(number, item)
            return await future
        finally:
            self._results.pop(number, None)
            self._start(self._acknowledge(number))

    async def _acknowledge(self, number: int) -> None:
        with contextlib.suppress(Exception):  # when the coordinator is gone, `_handle_events` notices
            await self._coordinator.acknowledge(number)

    @property
    def partitions(self) -> int:
        return (self._rows_per_worker + 1) * self.workers

    async def write(self, work: RoundWork, partition: Partition) -> WrittenPartition:
        """The partition's drafts. Raises TeacherError when an engine refuses all prompts or MAX_DEATHS workers died on it."""
        if id(work) not in self._works:
            self._works[id(work)] = work, self._start(self._add_work(work))
        key = await asyncio.shield(self._works[id(work)][1])
        written: WrittenPartition = await self._submit(PartitionItem(key, partition))
        return written

    async def _add_work(self, work: RoundWork) -> int:
        key = next(self._numbers)
        sent = work if self._leave_parts else work.without_parts()
        await self._coordinator.add_work(key, await asyncio.to_thread(self._store_work, sent))
        return key

    async def forget(self, work: RoundWork) -> None:
        entry = self._works.pop(id(work), None)
        if entry is not None and self._failure is None:
            await self._coordinator.remove_work(await entry[1])

    async def complete(self, prompt: Prompt) -> Completion:
        """See `teachers.Engine`. Prompts that come together go to one worker; a planned round uses `write`."""
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._prompts.append((replace(prompt, variables={}) if self._drop_variables else prompt, future))
        if len(self._prompts) == 1:
            asyncio.get_running_loop().call_later(GATHER_S, self._send_prompts)
        elif len(self._prompts) >= self.window // self.workers:
            self._send_prompts()
        return await future

    def _send_prompts(self) -> None:
        prompts, self._prompts = self._prompts, []
        if prompts:
            self._start(self._complete_all(prompts))

    async def _complete_all(self, prompts: Sequence[tuple[Prompt, asyncio.Future[Completion]]]) -> None:
        try:
            answers: Sequence[Completion | TeacherError] = await self._submit(
                PromptsItem([prompt for prompt, _ in prompts])
            )
        except Exception as error:
            answers = [error if isinstance(error, TeacherError) else TeacherError(str(error))] * len(prompts)
        for (_, future), answer in zip(prompts, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Completion):
                future.set_result(answer)
            else:
                future.set_exception(answer)

    async def sleep(self) -> None:
        await self._coordinator.set_asleep(True)

    async def wake(self) -> None:
        await self._coordinator.set_asleep(False)

    def environment(self) -> Mapping[str, Any]:
        """The engines' environment: one table when all are equal, else each kind with its number of workers."""
        kinds: list[Mapping[str, Any]] = []
        counts: Counter[int] = Counter()
        for environment in self._environments.values():
            if environment not in kinds:
                kinds.append(environment)
            counts[kinds.index(environment)] += 1
        if len(kinds) == 1:
            return {**kinds[0], "workers": self.workers, "deaths": self.deaths}
        return {
            "workers": self.workers,
            "deaths": self.deaths,
            "kinds": [{**kind, "workers": counts[index]} for index, kind in enumerate(kinds)],
        }
