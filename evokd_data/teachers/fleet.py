"""Many engines as one: prompts go to the worker with the most room, and those of a dead worker to the others.

The driver keeps the journal, the seeds and the order; a worker is asked and answers, and has nothing that could be lost
with it. So nothing has to be shared but the model: no folder, no shards, no checkpoints. A prompt that is asked twice
because its first worker died has the same seed, and so the same answer.

Prompts and answers travel in batches that nobody waits for: what has gathered while the last message was on its way
makes the next. There is no affinity between prompts and workers: the prompts of one stage share their beginning, and
each worker computes that once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from evokd_data.errors import EngineStopped, EvokdError, TeacherError
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Engine, Teacher

GATHER_S = 0.02
"""How long a worker waits for more answers once it has one: little beside the seconds an answer takes, and it keeps the
driver at 50 messages a second and worker."""

DEATHS = 3
"""In a row without an answer between, after which a place stays empty; and in whose company a prompt is given up."""

Asked: TypeAlias = tuple[int, Prompt]
Answered: TypeAlias = tuple[int, Completion | TeacherError]


class Worker(Protocol):
    """One open engine, wherever it is. Every method raises EngineStopped when it is no more."""

    @property
    def window(self) -> int: ...

    async def ask(self, prompts: Sequence[Asked]) -> None:
        """Returns when the prompts have arrived, not when they are answered."""

    async def answers(self) -> Sequence[Answered]:
        """At least one, as soon as there is one."""

    async def sleep(self) -> None: ...

    async def wake(self) -> None: ...

    async def environment(self) -> Mapping[str, Any]: ...

    async def end(self) -> None:
        """Never raises: the worker may be dead already."""


class Host:
    """An engine of any teacher, as a Worker. Lives where the engine lives: an actor's process, or this one."""

    def __init__(self, teacher: Teacher, log: Path) -> None:
        self._teacher = teacher
        self._log = log
        self._stack = AsyncExitStack()
        self._engine: Engine | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[Answered] = []
        self._some = asyncio.Event()
        self._stopped: EngineStopped | None = None

    async def open(self, identity: Mapping[str, Any]) -> None:
        """Raises TeacherError when the model here is not the one that the driver has."""
        if dict(mine := await asyncio.to_thread(self._teacher.identity)) != dict(identity):
            raise TeacherError(f"teacher.model: here it is {mine}, at the driver {identity}; give both the same files")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._engine = await self._stack.enter_async_context(self._teacher.serve(self._log))

    @property
    def window(self) -> int:
        return self._opened.window

    @property
    def _opened(self) -> Engine:
        assert self._engine is not None
        return self._engine

    async def ask(self, prompts: Sequence[Asked]) -> None:
        for number, prompt in prompts:
            task = asyncio.create_task(self._one(number, prompt))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, number: int, prompt: Prompt) -> None:
        try:
            answer: Completion | TeacherError = await self._opened.complete(prompt)
        except EngineStopped as error:
            self._stopped = error
        except TeacherError as error:
            self._ready.append((number, error))
        except Exception as error:
            self._ready.append((number, TeacherError(f"{prompt.key}: {type(error).__name__}: {error}")))
        else:
            self._ready.append((number, answer))
        self._some.set()

    async def answers(self) -> Sequence[Answered]:
        await self._some.wait()
        await asyncio.sleep(GATHER_S)
        ready, self._ready = self._ready, []
        if not ready and self._stopped is not None:
            raise self._stopped
        if self._stopped is None:
            self._some.clear()
        return ready

    async def sleep(self) -> None:
        await self._opened.sleep()

    async def wake(self) -> None:
        await self._opened.wake()

    async def environment(self) -> Mapping[str, Any]:
        return dict(self._opened.environment())

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._stack.aclose()


@dataclass(eq=False)
class _Ticket:
    """A prompt on its way, and how many workers died while they had it."""

    prompt: Prompt
    answer: asyncio.Future[Completion]
    deaths: int = 0


class _Place:
    """A place in the fleet with the worker that fills it now."""

    def __init__(self, worker: Worker, freed: Callable[[_Place], None]) -> None:
        self.worker = worker
        self._freed = freed
        self.window = worker.window
        self.tickets: dict[int, _Ticket] = {}
        self.load = 0.0  # kept, not computed: every prompt looks at that of every place
        self.outbox: list[Asked] = []
        self.post = asyncio.Event()
        self.answered = 0

    def give(self, number: int, ticket: _Ticket) -> None:
        self.tickets[number] = ticket
        self.load = len(self.tickets) / self.window
        self.outbox.append((number, ticket.prompt))
        self.post.set()

    async def send(self) -> None:
        while True:
            await self.post.wait()
            self.post.clear()
            batch, self.outbox = self.outbox, []
            await self.worker.ask(batch)

    async def receive(self) -> None:
        while True:
            for number, answer in await self.worker.answers():
                self.answered += 1
                ticket = self.tickets.pop(number)
                if ticket.answer.done():  # cancelled: nobody waits for it any more
                    continue
                if isinstance(answer, Completion):
                    ticket.answer.set_result(answer)
                else:
                    ticket.answer.set_exception(answer)
            self.load = len(self.tickets) / self.window
            self._freed(self)

    async def work(self) -> EngineStopped:
        """Until the worker is no more; the reason."""
        both = asyncio.create_task(self.send()), asyncio.create_task(self.receive())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        for end in ends:
            if isinstance(end, EngineStopped):
                return end
        return next(EngineStopped(f"{type(end).__name__}: {end}") for end in ends if isinstance(end, Exception))


_load = attrgetter("load")


class Fleet:
    """See `teachers.Engine`. `hire` opens a worker for a place; places whose worker dies are filled again.

    Use as an asynchronous context manager: inside the block at least one worker is open, others may follow.
    """

    def __init__(self, hire: Callable[[int], Awaitable[Worker]], places: int, note: Callable[[str], None]) -> None:
        self._hire = hire
        self._wanted = places
        self._note = note
        self._numbers = itertools.count()
        self._places: list[_Place] = []
        self._waiting: dict[int, _Ticket] = {}
        self._left = places
        self._failure: EvokdError | None = None
        self._first = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._environments: dict[int, Mapping[str, Any]] = {}
        self.deaths = 0
        self.window = 0

    async def __aenter__(self) -> Fleet:
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(self._wanted)]
        try:
            await self._first.wait()
            if self._failure is not None:
                raise self._failure
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._fail(TeacherError("the teacher is closed"))

    async def complete(self, prompt: Prompt) -> Completion:
        if self._failure is not None:
            raise self._failure
        ticket = _Ticket(prompt, asyncio.get_running_loop().create_future())
        self._place(next(self._numbers), ticket)
        return await ticket.answer

    def _place(self, number: int, ticket: _Ticket) -> None:
        """No worker gets more than its window: what waits here goes to the first that has room, perhaps a new one."""
        place = min(self._places, key=_load, default=None)
        if place is not None and place.load < 1:
            place.give(number, ticket)
        else:
            self._waiting[number] = ticket

    def _fill(self, place: _Place) -> None:
        while self._waiting and place.load < 1:
            number = next(iter(self._waiting))
            ticket = self._waiting.pop(number)
            if not ticket.answer.done():
                place.give(number, ticket)

    async def _keep(self, index: int) -> None:
        """Fill a place, and fill it again when its worker dies, until that leads nowhere."""
        fruitless = 0
        while fruitless < DEATHS:
            try:
                worker = await self._hire(index)
            except EvokdError as error:
                self._note(f"worker {index} did not open: {error}")
                # What keeps the first workers from opening is the recipe or the machine, and no accident.
                if not self._first.is_set() or fruitless + 1 == DEATHS:
                    self._lose(error)
                    return
                fruitless += 1
                continue
            try:
                reason, answered = await self._employ(index, worker)
            finally:
                await worker.end()
            fruitless = 0 if answered else fruitless + 1
            self._note(f"worker {index} died after {answered} answers: {reason}")
            last = reason
        self._lose(TeacherError(f"{last} ({DEATHS} workers in a row died without an answer)"))

    async def _employ(self, index: int, worker: Worker) -> tuple[EngineStopped, int]:
        try:
            self._environments[index] = await worker.environment()
        except EngineStopped as error:
            return error, 0
        place = _Place(worker, self._fill)
        self._places.append(place)
        self.window = self.window or place.window * self._wanted
        self._first.set()
        self._fill(place)
        try:
            reason = await place.work()
        finally:
            self._places.remove(place)
        self.deaths += 1
        for number, ticket in place.tickets.items():
            ticket.deaths += 1
            if ticket.answer.done():
                continue
            if ticket.deaths >= DEATHS:
                ticket.answer.set_exception(
                    TeacherError(f"{ticket.prompt.key}: {DEATHS} workers died while they had it, the last: {reason}")
                )
            else:
                self._place(number, ticket)
        return reason, place.answered

    def _lose(self, error: EvokdError) -> None:
        """A place stays empty. The last one takes the whole fleet down."""
        self._left -= 1
        if self._left == 0:
            self._fail(error)
            self._first.set()

    def _fail(self, error: EvokdError) -> None:
        self._failure = self._failure or error
        waiting, self._waiting = self._waiting, {}
        for ticket in [*waiting.values(), *(ticket for place in self._places for ticket in place.tickets.values())]:
            if not ticket.answer.done():
                ticket.answer.set_exception(self._failure)

    async def sleep(self) -> None:
        await self._all(lambda worker: worker.sleep())

    async def wake(self) -> None:
        await self._all(lambda worker: worker.wake())

    async def _all(self, order: Callable[[Worker], Awaitable[None]]) -> None:
        """A worker that dies of it is replaced like any other."""
        ends = await asyncio.gather(*(order(place.worker) for place in self._places), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, EngineStopped):
                raise end

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
            return {**kinds[0][0], "workers": self._wanted, "deaths": self.deaths}
        return {
            "workers": self._wanted,
            "deaths": self.deaths,
            "kinds": [{**kind, "workers": count} for kind, count in kinds],
        }
