"""Many engines as one, for the driver: partitions and prompts go out as rows, what becomes of them comes back.

Who works where is the coordinator's to know; who brings rows to workers and results back is whoever opened this.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from evokd_data.errors import EngineStopped, EvokdError, TeacherError
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Partition, RoundWork, WrittenPartition
from evokd_data.teachers.ray.coordinator import DEATHS, ROWS, News
from evokd_data.teachers.ray.worker import Result

GATHER_S = 0.02
"""In which single prompts gather for a row."""


class ForDriver(Protocol):
    """A `Coordinator`, near or far: its methods for the driver."""

    async def shelve(self, key: int, what: Any) -> None: ...
    async def unshelve(self, key: int) -> None: ...
    async def put(self, number: int, what: Any) -> None: ...
    async def received(self, number: int) -> None: ...
    async def news(self, seen: int) -> Sequence[News]: ...
    async def order(self, asleep: bool) -> None: ...
    async def end(self, patience_s: float) -> None: ...


class Cluster:
    """See `teachers.PartitionedEngine`. `share` makes of a RoundWork what the coordinator keeps of it; without `parts`
    workers leave none; `lean` prompts leave behind what only a scripted teacher reads; `rows` that one worker has at a time.

    `workers` are those wanted, `opened` how often one has opened, `deaths` how many died.
    """

    def __init__(
        self,
        coordinator: ForDriver,
        workers: int,
        note: Callable[[str], None],
        *,
        share: Callable[[RoundWork], Any] = lambda work: work,
        parts: bool = True,
        lean: bool = False,
        rows: int = ROWS,
    ) -> None:
        self.workers = workers
        self._rows_each = rows
        self.window = self.opened = self.deaths = 0
        self._coordinator = coordinator
        self._note = note
        self._share = share
        self._parts = parts
        self._lean = lean
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        # By the object's id, which is its own as long as the object is here.
        self._works: dict[int, tuple[RoundWork, asyncio.Task[int]]] = {}
        self._prompts: list[tuple[Prompt, asyncio.Future[Completion]]] = []
        self._environments: dict[int, Mapping[str, Any]] = {}
        self._failure: EvokdError | None = None
        self._first = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Returns when the first worker is open. Raises what kept the workers from it."""
        self._start(self._hear())
        await self._first.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self, patience_s: float) -> None:
        """Returns when every worker has ended its engine, or after `patience_s`. What is still asked fails."""
        self.fail(TeacherError("the teacher is closed"))
        with contextlib.suppress(Exception):  # the coordinator is gone, and so are the workers
            await self._coordinator.end(patience_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, number: int, result: Result) -> None:
        """What `number` led to; the first that comes counts."""
        waiting = self._asked.pop(number, None)
        if waiting is None or waiting.done():  # written twice, or nobody waits for it any more
            return
        if isinstance(result, EvokdError):
            waiting.set_exception(result)
        else:
            waiting.set_result(result)

    def fail(self, error: EvokdError) -> None:
        """Everything asked fails with it, now and from now on."""
        self._failure = self._failure or error
        for number in list(self._asked):
            self.take(number, self._failure)
        prompts, self._prompts = self._prompts, []
        for _, waiting in prompts:
            if not waiting.done():
                waiting.set_exception(self._failure)
        self._first.set()

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hear(self) -> None:
        """What the coordinator has to say, until the end."""
        seen = 0
        while True:
            try:
                news = await self._coordinator.news(seen)
            except Exception as error:  # of whatever kind, from far away
                self.fail(EngineStopped(f"the coordinator is gone: {' '.join(str(error).split())[:300]}"))
                return
            seen += len(news)
            for one in news:
                self._heard(one)

    def _heard(self, news: News) -> None:
        said = news.said
        if news.what == "open":
            where, window, self._environments[news.worker] = said
            self.window = self.window or window * self.workers
            self.opened += 1
            self._note(f"worker {news.worker} is open on {where}")
            self._first.set()
        elif news.what == "failed":
            error, hopeless = said
            self._note(f"worker {news.worker} did not open: {error}")
            if hopeless:
                self.fail(error)
        elif news.what == "died":
            reason, where, done = said
            self.deaths += 1
            self._note(f"worker {news.worker} on {where} died after {done} rows: {reason}")
        elif news.what == "given up":
            number, reason = said
            self.take(
                number, TeacherError(f"{DEATHS} workers died while they wrote the same requests, the last: {reason}")
            )
        else:
            self._note(f"worker {news.worker}: {said}")

    async def _ask(self, what: Any) -> Any:
        if self._failure is not None:
            raise self._failure
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self._coordinator.put(number, what)
            return await answer
        finally:
            self._asked.pop(number, None)
            self._start(self._received(number))

    async def _received(self, number: int) -> None:
        with contextlib.suppress(Exception):  # if the coordinator is gone, others will notice
            await self._coordinator.received(number)

    @property
    def partitions(self) -> int:
        return (self._rows_each + 1) * self.workers

    async def write(self, work: RoundWork, partition: Partition) -> WrittenPartition:
        if id(work) not in self._works:
            self._works[id(work)] = work, self._start(self._shelve(work))
        key = await asyncio.shield(self._works[id(work)][1])
        written: WrittenPartition = await self._ask((key, partition))
        return written

    async def _shelve(self, work: RoundWork) -> int:
        key = next(self._numbers)
        sent = work if self._parts else work.without_parts()
        await self._coordinator.shelve(key, await asyncio.to_thread(self._share, sent))
        return key

    async def forget(self, work: RoundWork) -> None:
        known = self._works.pop(id(work), None)
        if known is not None and self._failure is None:
            await self._coordinator.unshelve(await known[1])

    async def complete(self, prompt: Prompt) -> Completion:
        """Prompts that come together go to one worker: where there is a plan, `write` is the way."""
        if self._failure is not None:
            raise self._failure
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._prompts.append((replace(prompt, variables={}) if self._lean else prompt, answer))
        if len(self._prompts) == 1:
            asyncio.get_running_loop().call_later(GATHER_S, self._send)
        elif len(self._prompts) >= self.window // self.workers:
            self._send()
        return await answer

    def _send(self) -> None:
        prompts, self._prompts = self._prompts, []
        if prompts:
            self._start(self._complete(prompts))

    async def _complete(self, prompts: Sequence[tuple[Prompt, asyncio.Future[Completion]]]) -> None:
        try:
            answers: Sequence[Completion | TeacherError] = await self._ask([prompt for prompt, _ in prompts])
        except Exception as error:
            answers = [error if isinstance(error, TeacherError) else TeacherError(str(error))] * len(prompts)
        for (_, waiting), answer in zip(prompts, answers, strict=True):
            if waiting.done():
                continue
            if isinstance(answer, Completion):
                waiting.set_result(answer)
            else:
                waiting.set_exception(answer)

    async def sleep(self) -> None:
        await self._coordinator.order(True)

    async def wake(self) -> None:
        await self._coordinator.order(False)

    def environment(self) -> Mapping[str, Any]:
        """Of the engines: one table when they are alike, else every kind with its number of workers."""
        kinds: list[tuple[Mapping[str, Any], int]] = []
        for one in self._environments.values():
            at = next((at for at, (kind, _) in enumerate(kinds) if kind == one), None)
            if at is None:
                kinds.append((one, 1))
            else:
                kinds[at] = (one, kinds[at][1] + 1)
        if len(kinds) == 1:
            return {**kinds[0][0], "workers": self.workers, "deaths": self.deaths}
        return {
            "workers": self.workers,
            "deaths": self.deaths,
            "kinds": [{**kind, "workers": count} for kind, count in kinds],
        }
