"""A round written by many: its requests in partitions, each written and labelled by one worker with its own engine.

    driver    plan -> RoundWork (once a round), Partition -> worker          Written -> journal, filters, shards, in index order
    worker    RoundWork + Partition -> strategy, engine -> Written

The driver keeps the order, the journal and the filters; a worker renders, asks and parses, and has nothing that could be
lost with it but some seconds of answers (see `parts`). A partition lies within one shard. One that is written twice
because its first worker died has the same seeds, and so the same answers where the engine gives the same twice.

An answer that is no request's own, such as an analysis that many requests build on, is asked for once in the whole
round, by the first worker that needs it: what is written from two different answers could not be replayed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

import orjson

from evokd_data.generation.scheduler import in_order
from evokd_data.records import Completion, Draft, GenerationRequest, Prompt
from evokd_data.storage.journal import AnswerEncoder, Journal, NotJournalled, completion, prompt_digest
from evokd_data.storage.journal_parts import Parts
from evokd_data.strategies import Ask, Brief, Strategy

AHEAD = 2  # windows of written partitions that may wait for one straggler
MOST_SHARES = 256
"""Of what is left, of which the next partition is one, unless workers are more: a driver handed out some 30 a second."""
OWN = re.compile(r"[^/]+/(\d{6,})(?:/|$)")  # the key of a prompt that belongs to the request of this index


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What a worker must know to write any request of a round. `parts`: where it leaves what it was answered, if anywhere."""

    strategy: Strategy
    brief: Brief
    planned: Sequence[GenerationRequest]
    parts: str | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """Requests to be written in one go, by index. `found`: answers to their prompts that the journal has already, by the
    prompt's digest."""

    requests: Sequence[int]
    found: Mapping[str, Completion] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.requests[0]:06d}-{self.requests[-1] + 1:06d}"


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a partition. `drafts` of each request in order; `lines` the answers that were asked for, as the journal
    has them; `shared` the answers that are no request's own, which other partitions may have used, too; `left`: parts of the
    journal lie in `RoundWork.parts`."""

    drafts: Sequence[Sequence[Draft]]
    lines: bytes
    shared: Mapping[str, tuple[Prompt, Completion]]
    prompt_tokens: int
    completion_tokens: int
    left: bool = False


class Writer(Protocol):
    """An open engine of many workers."""

    @property
    def workers(self) -> int: ...

    @property
    def window(self) -> int:
        """Requests in flight, over all workers."""

    @property
    def partitions(self) -> int:
        """Partitions worth having in flight."""

    async def write(self, work: RoundWork, partition: Partition) -> Written: ...

    async def forget(self, work: RoundWork) -> None:
        """The round is over."""


class Partitioner:
    """Where partitions end: within a shard, and the smaller the less is left, so that no worker has much when the others have
    nothing more (guided self-scheduling, Polychronopoulos and Kuck 1987). Between a quarter of a worker's window, for the few
    that it has at a time must fill its engine, and two: each costs the driver some milliseconds, whatever is in it."""

    def __init__(self, shards: Sequence[range], first: int) -> None:
        self._shards = [range(max(shard.start, first), shard.stop) for shard in shards if shard.stop > first]

    def ranges(self, workers: Callable[[], int], window: Callable[[], int]) -> Iterator[range]:
        left = sum(map(len, self._shards))
        for shard in self._shards:
            start = shard.start
            while start < shard.stop:
                each = max(1, window() // workers())
                shares = max(workers(), min(4 * workers(), MOST_SHARES))
                size = min(2 * each, max(-(-each // 4), left // shares))
                rest = shard.stop - start
                pieces = -(-rest // size)
                yield range(start, start + -(-rest // pieces))
                left -= -(-rest // pieces)
                start += -(-rest // pieces)


async def written(
    work: RoundWork,
    shards: Sequence[range],
    first: int,
    journal: Journal,
    opened: Callable[[], Awaitable[Writer]],
    seen: Callable[[int], None],
) -> AsyncGenerator[tuple[GenerationRequest, Sequence[Draft]]]:
    """The drafts of every request from `first` on, in order, as from `feeding.in_order` and one engine.

    What the journal can answer is written here; `opened` is awaited when something is left to ask. `seen` is told of the
    tokens of each partition's answers.
    """
    parts = Parts(work.parts) if work.parts else None
    if parts is not None:
        await asyncio.to_thread(_take_in, parts, journal)
    here = _JournalledWriter(work, journal)
    while not journal.empty and first < len(work.planned):
        drafts = await here.write(first)
        if drafts is None:
            break
        yield work.planned[first], drafts
        first += 1
    if first == len(work.planned):
        return
    writer = await opened()
    kept: set[str] = set()

    async def one(places: range) -> list[Sequence[Draft]]:
        drafts = {} if journal.empty else {at: done for at in places if (done := await here.write(at)) is not None}
        if todo := [at for at in places if at not in drafts]:
            told = await writer.write(work, Partition(todo, here.found(todo)))
            for name, (prompt, answer) in told.shared.items():
                if name not in kept and journal.find(prompt) is None:
                    journal.add(prompt, answer)
                kept.add(name)
            if told.lines:
                journal.add_lines(told.lines, told.prompt_tokens, told.completion_tokens)
            if told.left and parts is not None:
                await asyncio.to_thread(parts.remove, f"{Partition(todo).name}-")
            seen(told.completion_tokens)
            drafts.update(zip(todo, told.drafts, strict=True))
        return [drafts[at] for at in places]

    cuts = Partitioner(shards, first).ranges(lambda: writer.workers, lambda: writer.window)
    try:
        async with aclosing(in_order(cuts, one, lambda: writer.partitions, AHEAD)) as results:
            async for places, of_all in results:
                for at, of_one in zip(places, of_all, strict=True):
                    yield work.planned[at], of_one
    finally:
        await writer.forget(work)
    if parts is not None:
        await asyncio.to_thread(parts.clear)


def _take_in(parts: Parts, journal: Journal) -> None:
    for lines in parts.read():
        journal.take_in(lines)
    journal.sync()
    parts.clear()


class _JournalledWriter:
    """Writes requests that the journal can answer whole; of others keeps what it has."""

    def __init__(self, work: RoundWork, journal: Journal) -> None:
        self._work = work
        self._journal = journal
        self._found: dict[int, dict[str, Completion]] = {}
        self._shared: dict[str, Completion] = {}
        self._write = work.strategy.writer(work.brief, self._ask)

    async def _ask(self, prompt: Prompt) -> Completion:
        answer = self._journal.find(prompt)
        if answer is None:
            raise NotJournalled(prompt.key)
        own = OWN.match(prompt.key)
        (self._found.setdefault(int(own[1]), {}) if own else self._shared)[prompt_digest(prompt)] = answer
        return answer

    async def write(self, at: int) -> Sequence[Draft] | None:
        try:
            drafts = await self._write(self._work.planned[at])
        except NotJournalled:
            return None
        self._found.pop(at, None)
        return drafts

    def found(self, requests: Iterable[int]) -> dict[str, Completion]:
        """The answers that there are to prompts of requests which could not be written."""
        own = {name: answer for at in requests for name, answer in self._found.pop(at, {}).items()}
        return self._shared | own


class PartitionWriter:
    """Writes one partition with an engine. `complete` answers prompts of its own, `share` those that are no request's own.

    `lines` are the answers asked for up to now: whoever cannot wait for the end takes them from there.
    """

    def __init__(self, work: RoundWork, partition: Partition, complete: Ask, share: Ask, window: int) -> None:
        self._work = work
        self._partition = partition
        self._own = frozenset(partition.requests)
        self._complete = complete
        self._share = share
        self._window = window
        self._encoder = AnswerEncoder()
        self._shared: dict[str, tuple[Prompt, Completion]] = {}
        self._prompt_tokens = self._completion_tokens = 0
        self.lines: list[bytes] = []

    async def write(self, found: Mapping[str, Completion]) -> Written:
        """`found`: answers of earlier attempts, beside those of the partition itself."""
        work = self._work

        async def ask(prompt: Prompt) -> Completion:
            own = (named := OWN.match(prompt.key)) is not None and int(named[1]) in self._own
            if own and not found and not self._partition.found:
                return self._keep(prompt, await self._complete(prompt))
            name = prompt_digest(prompt)
            if (answer := self._partition.found.get(name)) is not None:
                return answer
            if own:
                return self._keep(prompt, found.get(name) or await self._complete(prompt))
            answer = await self._share(prompt)
            self._shared[name] = replace(prompt, variables={}), answer
            return answer

        write = work.strategy.writer(work.brief, ask)
        requests = map(work.planned.__getitem__, self._partition.requests)
        async with aclosing(in_order(requests, write, lambda: self._window)) as results:
            drafts = [of_one async for _, of_one in results]
        lines, tokens = b"".join(self.lines), (self._prompt_tokens, self._completion_tokens)
        return Written(drafts, lines, self._shared, *tokens)

    def _keep(self, prompt: Prompt, answer: Completion) -> Completion:
        line, fresh = self._encoder.written(prompt, answer)
        self._encoder.keep(fresh)
        self.lines.append(line)
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        return answer


def answers(parts: Sequence[bytes]) -> dict[str, Completion]:
    """What earlier attempts at a partition were answered, by the prompt's digest."""
    rows = (orjson.loads(line) for lines in parts for line in lines.splitlines(keepends=True) if line.endswith(b"\n"))
    return {row["prompt"]: completion(row) for row in rows if "message" not in row}
