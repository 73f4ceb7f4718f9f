"""One engine and what is done with it for a coordinator: partitions written, prompts answered, sleep and waking."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from evokd_data.errors import EngineStopped, EvokdError, TeacherError
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Engine, Partition, PartitionWriter, RoundWork, Teacher, WrittenPartition
from evokd_data.teachers.ray.coordinator import State

EVERY_S = 5.0
"""Seconds' answers that a journal part holds: what a worker's death costs, with those in flight."""

Result = WrittenPartition | list[Completion | TeacherError] | EvokdError


class ForWorkers(Protocol):
    """A `Coordinator`, near or far: its methods for workers."""

    async def hello(self, name: str, where: str) -> tuple[int, bool]: ...
    async def opened(self, name: str, window: int, environment: Mapping[str, Any]) -> None: ...
    async def failed(self, name: str, error: EvokdError) -> float: ...
    async def died(self, name: str, reason: str) -> None: ...
    async def note(self, name: str, said: str) -> None: ...
    async def poll(self, name: str, version: int) -> State: ...
    async def begin(self, name: str) -> tuple[int, Any, int] | None: ...
    async def fetch(self, key: int) -> Any: ...
    async def share(self, answer: str, name: str) -> Completion | None: ...
    async def shared(self, answer: str, said: Completion) -> None: ...


class Slots:
    """Places in an engine. Whoever waits for one with the lowest number is next: what was begun first ends first, and the
    labels of a text do not wait behind texts that nobody is waiting for yet."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._came = itertools.count()

    @contextlib.asynccontextmanager
    async def one(self, number: int) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (number, next(self._came), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # its turn had come
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Worker:
    """Lives in the process that has the engine. `name` stays when a process follows another in its place; `more` is told of
    the engine, beside what it tells itself."""

    def __init__(
        self, teacher: Teacher, log: Path, coordinator: ForWorkers, name: str, more: Mapping[str, Any] | None = None
    ) -> None:
        self._teacher = teacher
        self._log = log
        self._coordinator = coordinator
        self._name = name
        self._more = more or {}
        self._stack = AsyncExitStack()
        self._engine: Engine | None = None
        self._slots: Slots | None = None
        self._ended = False
        self._works: dict[int, asyncio.Task[RoundWork]] = {}
        self._shared: dict[str, asyncio.Task[Completion]] = {}
        self._writing: set[asyncio.Task[Result]] = set()

    async def open(self, identity: Mapping[str, Any]) -> float | None:
        """Open the engine; the coordinator knows how it went. None, or the seconds after which to try again."""
        where = f"{socket.gethostname()} (process {os.getpid()})"
        index, self._ended = await self._coordinator.hello(self._name, where)
        if self._ended:
            return None
        try:
            await self._open(identity, index)
        except EvokdError as error:
            lines = (f"{socket.gethostname()}: {line}" for line in str(error).splitlines())
            return await self._coordinator.failed(self._name, type(error)(*lines))
        except Exception as error:
            told = TeacherError(f"{socket.gethostname()}: {type(error).__name__}: {error}")
            return await self._coordinator.failed(self._name, told)
        assert self._engine is not None
        environment = {**self._engine.environment(), **self._more}
        await self._coordinator.opened(self._name, self._engine.window, environment)
        return None

    async def _open(self, identity: Mapping[str, Any], index: int) -> None:
        if dict(mine := await asyncio.to_thread(self._teacher.identity)) != dict(identity):
            raise TeacherError(f"teacher.model: here it is {mine}, at the driver {identity}; give both the same files")
        log = self._log.with_name(f"{self._log.stem}-{index}{self._log.suffix}")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._engine = await self._stack.enter_async_context(self._teacher.serve(log))
        self._slots = Slots(self._engine.window)

    async def follow(self) -> None:
        """Be what the coordinator wants, until the end."""
        if self._engine is None:  # it was over before this was open
            return
        was = State(-1)
        while not was.ended:
            state = await self._coordinator.poll(self._name, was.version)
            if state.asleep and not was.asleep:
                await self._drop()
            if state.asleep != was.asleep:
                await (self._engine.sleep() if state.asleep else self._engine.wake())
            if state.ended:
                await self.end()
            was = state
        await self._coordinator.poll(self._name, was.version)

    async def end(self) -> None:
        self._ended = True
        await self._drop()
        await self._stack.aclose()

    async def _drop(self) -> None:
        """What nobody waits for any more, such as a partition that another worker has written meanwhile."""
        for task in list(self._writing):
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def do(self) -> tuple[int, Result] | None:
        """For a row: the number of what was to do, and what became of it; None when there was nothing."""
        if self._ended or (told := await self._coordinator.begin(self._name)) is None:
            return None
        number, asked, deaths = told
        work = self._write(asked[0], asked[1], deaths) if isinstance(asked, tuple) else self._answer(asked)
        task: asyncio.Task[Result] = asyncio.create_task(work)
        self._writing.add(task)
        try:
            return number, await task
        except asyncio.CancelledError:
            return None
        except EngineStopped as error:
            await self._coordinator.died(self._name, str(error))
            raise
        except EvokdError as error:
            return number, error
        except Exception as error:
            return number, TeacherError(f"{socket.gethostname()}: {type(error).__name__}: {error}")
        finally:
            self._writing.discard(task)

    async def _complete(self, prompt: Prompt) -> Completion:
        assert self._engine is not None and self._slots is not None
        async with self._slots.one(-1 if prompt.request is None else prompt.request):
            return await self._engine.complete(prompt)

    async def _answer(self, prompts: Sequence[Prompt]) -> Result:
        async def one(prompt: Prompt) -> Completion | TeacherError:
            try:
                return await self._complete(prompt)
            except EngineStopped:
                raise
            except TeacherError as error:  # is that prompt's alone
                return error

        return await asyncio.gather(*map(one, prompts))

    async def _write(self, key: int, partition: Partition, deaths: int) -> Result:
        if key not in self._works:  # once for all its partitions: what prompts share is known by being the same object
            self._works = {key: asyncio.ensure_future(self._coordinator.fetch(key))}
            self._shared = {}
        work = await asyncio.shield(self._works[key])
        answers = await asyncio.to_thread(work.earlier_answers, partition) if deaths else {}
        assert self._engine is not None
        writer = work.writer(partition, self._complete, self._share, self._engine.window)
        over = asyncio.Event()
        keeper = asyncio.create_task(self._keep(writer, work, f"{partition.name}-{secrets.token_hex(4)}", over))
        try:
            written = await writer.write(answers)
        finally:  # not cancelled: a part being written now must be there before it is removed
            over.set()
            left_parts = await keeper
        return replace(written, left_parts=left_parts)

    async def _keep(self, writer: PartitionWriter, work: RoundWork, name: str, over: asyncio.Event) -> bool:
        """Leave the answers so far where other machines find them, every few seconds until `over` is set.

        Returns whether any part lies there.
        """
        number = lines_left = 0
        while work.leaves_parts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await over.wait()
            if over.is_set():
                break
            lines = writer.lines[lines_left:]
            if not lines:
                continue
            try:
                await asyncio.to_thread(work.leave, f"{name}-{number:04d}", b"".join(lines))
            except Exception as error:
                await self._coordinator.note(self._name, f"no part of the journal could be left: {error}")
                break
            lines_left += len(lines)
            number += 1
        return number > 0

    async def _share(self, digest: str, prompt: Prompt) -> Completion:
        if digest not in self._shared:
            self._shared[digest] = asyncio.ensure_future(self._share_once(digest, prompt))
        return await asyncio.shield(self._shared[digest])

    async def _share_once(self, digest: str, prompt: Prompt) -> Completion:
        answer = await self._coordinator.share(digest, self._name)
        if answer is None:
            answer = await self._complete(prompt)
            await self._coordinator.shared(digest, answer)
        return answer
