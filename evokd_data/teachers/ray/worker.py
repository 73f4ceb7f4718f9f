"""A worker: one engine, which writes partitions and answers prompts for a coordinator."""

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
from typing import Any

from evokd_data.errors import EngineStopped, EvokdError, TeacherError
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Engine, PartitionWriter, RoundWork, Teacher
from evokd_data.teachers.ray.api import DesiredState, ItemResult, PartitionItem, WorkerApi, WorkItem

PART_INTERVAL_S = 5.0
"""Seconds between two parts of the journal. A worker's death loses this much of its answers, and those in flight."""


class PrioritySemaphore:
    """Like asyncio.Semaphore, but the waiter with the lowest priority number is next.

    Requests that were begun first end first, and the labels of a text do not wait behind texts that nobody needs yet.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @contextlib.asynccontextmanager
    async def acquire(self, priority: int) -> AsyncIterator[None]:
        """Hold one of the places inside the block."""
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiters, (priority, next(self._arrivals), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # the place was given to it just before
                    self._release()
                raise
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        while self._waiters:
            *_, turn = heapq.heappop(self._waiters)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Worker:
    """Lives in the process that holds the engine.

    `name` identifies the worker; a process that replaces another has the same one. `log`: its name with the worker's index
    added names the engine's own log. `extra_environment` is reported beside the engine's.
    """

    def __init__(
        self,
        teacher: Teacher,
        log: Path,
        coordinator: WorkerApi,
        name: str,
        extra_environment: Mapping[str, Any] | None = None,
    ) -> None:
        self._teacher = teacher
        self._log = log
        self._coordinator = coordinator
        self._name = name
        self._extra_environment = extra_environment or {}
        self._stack = AsyncExitStack()
        self._engine: Engine | None = None
        self._window: PrioritySemaphore | None = None
        self._ended = False
        self._works: dict[int, asyncio.Task[RoundWork]] = {}
        self._shared_answers: dict[str, asyncio.Task[Completion]] = {}
        self._running: dict[asyncio.Task[ItemResult], int] = {}
        """Tasks that write an item -> the item's number."""

    async def open(self, identity: Mapping[str, Any]) -> float | None:
        """Open the engine and report the outcome to the coordinator. Returns None, or the seconds after which to try again.

        `identity`: the teacher's identity at the driver, which must be the same here.
        """
        location = f"{socket.gethostname()} (process {os.getpid()})"
        index, self._ended = await self._coordinator.register(self._name, location)
        if self._ended:
            return None
        try:
            await self._open(identity, index)
        except EvokdError as error:
            lines = (f"{socket.gethostname()}: {line}" for line in str(error).splitlines())
            return await self._coordinator.report_failed(self._name, type(error)(*lines))
        except Exception as error:
            return await self._coordinator.report_failed(self._name, _on_this_machine(error))
        assert self._engine is not None
        environment = {**self._engine.environment(), **self._extra_environment}
        await self._coordinator.report_opened(self._name, self._engine.window, environment)
        return None

    async def _open(self, identity: Mapping[str, Any], index: int) -> None:
        local_identity = dict(await asyncio.to_thread(self._teacher.identity))
        if local_identity != dict(identity):
            raise TeacherError(
                f"teacher.model: here it is {local_identity}, at the driver {identity}; give both the same files"
            )
        log = self._log.with_name(f"{self._log.stem}-{index}{self._log.suffix}")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._engine = await self._stack.enter_async_context(self._teacher.serve(log))
        self._window = PrioritySemaphore(self._engine.window)

    async def apply_states(self) -> None:
        """Apply the coordinator's desired states (asleep, awake, ended) until the end."""
        if self._engine is None:  # all was over before the engine opened
            return
        current = DesiredState(-1)
        while not current.ended:
            desired = await self._coordinator.poll(self._name, current.version, frozenset(self._running.values()))
            if desired.asleep and not current.asleep:
                await self._cancel_items()
            if desired.asleep != current.asleep:
                await (self._engine.sleep() if desired.asleep else self._engine.wake())
            if desired.ended:
                await self.end()
            current = desired
        await self._coordinator.poll(self._name, current.version, frozenset())

    async def end(self) -> None:
        """Close the engine. Items that are still being written are cancelled."""
        self._ended = True
        await self._cancel_items()
        await self._stack.aclose()

    async def _cancel_items(self) -> None:
        """Nobody waits for these any more, such as a partition that another worker has written meanwhile."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def process_row(self) -> tuple[int, ItemResult] | None:
        """Claim an item and write it: its number and its result, or None when there was none.

        Raises EngineStopped when the engine is gone, which the coordinator then knows.
        """
        if self._ended or (claimed := await self._coordinator.claim(self._name)) is None:
            return None
        task: asyncio.Task[ItemResult] = asyncio.create_task(self._process(claimed.item, claimed.deaths))
        self._running[task] = claimed.number
        try:
            return claimed.number, await task
        except asyncio.CancelledError:
            return None
        except EngineStopped as error:
            await self._coordinator.report_death(self._name, str(error))
            raise
        except EvokdError as error:
            return claimed.number, error
        except Exception as error:
            return claimed.number, _on_this_machine(error)
        finally:
            self._running.pop(task, None)

    async def _process(self, item: WorkItem, deaths: int) -> ItemResult:
        if isinstance(item, PartitionItem):
            return await self._write(item, deaths)
        return await self._answer(item.prompts)

    async def _complete(self, prompt: Prompt) -> Completion:
        assert self._engine is not None and self._window is not None
        async with self._window.acquire(-1 if prompt.request is None else prompt.request):
            return await self._engine.complete(prompt)

    async def _answer(self, prompts: Sequence[Prompt]) -> ItemResult:
        async def complete(prompt: Prompt) -> Completion | TeacherError:
            try:
                return await self._complete(prompt)
            except EngineStopped:
                raise
            except TeacherError as error:  # concerns this prompt alone
                return error

        return await asyncio.gather(*map(complete, prompts))

    async def _write(self, item: PartitionItem, deaths: int) -> ItemResult:
        partition = item.partition
        if item.work_key not in self._works:
            # Fetched once for all partitions: parts of prompts that are the same object are encoded once.
            self._works = {item.work_key: asyncio.ensure_future(self._coordinator.fetch_work(item.work_key))}
            self._shared_answers = {}
        work = await asyncio.shield(self._works[item.work_key])
        answers = await asyncio.to_thread(work.earlier_answers, partition) if deaths else {}
        assert self._engine is not None
        writer = work.writer(partition, self._complete, self._share, self._engine.window)
        finished = asyncio.Event()
        part_name = f"{partition.name}-{secrets.token_hex(4)}"
        parts = asyncio.create_task(self._leave_parts(writer, work, part_name, finished))
        try:
            written = await writer.write(answers)
        finally:  # not cancelled: a part that is being written must be complete before the driver removes it
            finished.set()
            left_parts = await parts
        return replace(written, left_parts=left_parts)

    async def _leave_parts(self, writer: PartitionWriter, work: RoundWork, name: str, finished: asyncio.Event) -> bool:
        """Leave the answers so far where other machines find them, every PART_INTERVAL_S until `finished` is set.

        Returns whether any part lies there.
        """
        number = lines_left = 0
        while work.leaves_parts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PART_INTERVAL_S):
                    await finished.wait()
            if finished.is_set():
                break
            lines = writer.lines[lines_left:]
            if not lines:
                continue
            try:
                await asyncio.to_thread(work.leave, f"{name}-{number:04d}", b"".join(lines))
            except Exception as error:
                await self._coordinator.report_note(self._name, f"no part of the journal could be left: {error}")
                break
            lines_left += len(lines)
            number += 1
        return number > 0

    async def _share(self, digest: str, prompt: Prompt) -> Completion:
        if digest not in self._shared_answers:
            self._shared_answers[digest] = asyncio.ensure_future(self._ask_shared(digest, prompt))
        return await asyncio.shield(self._shared_answers[digest])

    async def _ask_shared(self, digest: str, prompt: Prompt) -> Completion:
        answer = await self._coordinator.shared_answer(digest, self._name)
        if answer is None:
            answer = await self._complete(prompt)
            await self._coordinator.add_shared_answer(digest, answer)
        return answer


def _on_this_machine(error: Exception) -> TeacherError:
    return TeacherError(f"{socket.gethostname()}: {type(error).__name__}: {error}")
