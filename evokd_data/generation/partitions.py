"""A round written by many workers: its requests in partitions, each written and labelled by one worker with its own engine.

    driver    plan -> RoundWork (once a round), Partition -> worker     WrittenPartition -> journal, filters, shards, in index order
    worker    RoundWork + Partition -> strategy, engine -> WrittenPartition

The driver keeps the order, the journal and the filters. A worker renders prompts, asks its engine and parses the answers; its
death loses only some seconds of answers (see `storage.journal_parts`). A partition lies within one shard. A partition that is
written twice, because its first worker died, has the same seeds, and so the same answers where the engine repeats itself.

An answer that belongs to no single request, such as an analysis that many requests build on, is asked for once in the whole
round, by the first worker that needs it: a round written from two different answers could not be replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from evokd_data.generation.scheduler import in_order
from evokd_data.generation.seed_student import SeedStudent, with_student
from evokd_data.records import Completion, Draft, GenerationRequest, Prompt
from evokd_data.storage.journal import AnswerEncoder, Journal, NotJournalled, completion, prompt_digest
from evokd_data.storage.journal_lines import decode_line
from evokd_data.storage.journal_parts import JournalParts
from evokd_data.strategies import Brief, Strategy
from evokd_data.teachers import Complete, Partition, PartitionedEngine, Share, WrittenPartition

AHEAD = 2  # windows of written partitions that may wait for one straggler
MAX_SHARES = 256
"""The next partition is at least this share of what is left, unless there are more workers: one driver can hand out about
30 partitions a second."""


@dataclass(frozen=True, slots=True)
class StrategyWork:
    """A `teachers.RoundWork`: a strategy, its brief, and all requests of the round.

    `student`: the seeds-only student, where it is asked. `parts_url`: the folder or URL for the workers' parts of the journal; None when workers leave none.
    """

    strategy: Strategy
    brief: Brief
    planned: Sequence[GenerationRequest]
    parts_url: str | None = None
    student: SeedStudent | None = None

    @property
    def leaves_parts(self) -> bool:
        return self.parts_url is not None

    def writer(self, partition: Partition, complete: Complete, share: Share, window: int) -> StrategyPartitionWriter:
        return StrategyPartitionWriter(self, partition, complete, share, window)

    def earlier_answers(self, partition: Partition) -> dict[str, Completion]:
        parts = self._parts()
        return answers_in(list(parts.read(f"{partition.name}-"))) if parts is not None else {}

    def leave(self, name: str, lines: bytes) -> None:
        parts = self._parts()
        assert parts is not None
        parts.write(name, lines)

    def without_parts(self) -> StrategyWork:
        return replace(self, parts_url=None)

    def _parts(self) -> JournalParts | None:
        return JournalParts(self.parts_url) if self.parts_url is not None else None


class Partitioner:
    """Divides shards into partitions. A partition lies within one shard.

    Partitions get smaller as less work is left, so that no worker still has much to do when the others have finished (guided
    self-scheduling, Polychronopoulos and Kuck 1987). Each holds at least a quarter of a worker's window, because the few
    partitions a worker has at a time must fill its engine, and at most two windows. Each costs the driver some milliseconds,
    whatever its size.
    """

    def __init__(self, shards: Sequence[range], first: int) -> None:
        self._shards = [range(max(shard.start, first), shard.stop) for shard in shards if shard.stop > first]

    def ranges(self, workers: Callable[[], int], window: Callable[[], int]) -> Iterator[range]:
        """Request indices of each partition, in order. `workers` and `window` are asked anew for each."""
        remaining = sum(map(len, self._shards))
        for shard in self._shards:
            start = shard.start
            while start < shard.stop:
                worker_window = max(1, window() // workers())
                shares = max(workers(), min(4 * workers(), MAX_SHARES))
                size = min(2 * worker_window, max(-(-worker_window // 4), remaining // shares))
                rest_of_shard = shard.stop - start
                pieces = -(-rest_of_shard // size)
                even_size = -(-rest_of_shard // pieces)
                yield range(start, start + even_size)
                remaining -= even_size
                start += even_size


async def written_by_workers(
    work: StrategyWork,
    shards: Sequence[range],
    first: int,
    journal: Journal,
    open_engine: Callable[[], Awaitable[PartitionedEngine]],
    count_tokens: Callable[[int], None],
) -> AsyncGenerator[tuple[GenerationRequest, Sequence[Draft]]]:
    """The drafts of every request from index `first` on, in index order.

    The result is the same as from `scheduler.in_order` with one engine. Requests that the journal answers whole are written
    here; `open_engine` is awaited only when something must be asked. `count_tokens` gets the completion tokens of each
    partition.
    """
    parts = JournalParts(work.parts_url) if work.parts_url else None
    if parts is not None:
        await asyncio.to_thread(_move_into, journal, parts)
    journalled = _JournalledWriter(work, journal)
    while not journal.empty and first < len(work.planned):
        drafts = await journalled.write(first)
        if drafts is None:
            break
        yield work.planned[first], drafts
        first += 1
    if first == len(work.planned):
        return
    engine = await open_engine()
    journalled_shared: set[str] = set()

    async def write(indices: range) -> list[Sequence[Draft]]:
        drafts: dict[int, Sequence[Draft]] = {}
        if not journal.empty:
            for index in indices:
                if (complete := await journalled.write(index)) is not None:
                    drafts[index] = complete
        if todo := [index for index in indices if index not in drafts]:
            partition = Partition(todo, journalled.answers(todo))
            written = await engine.write(work, partition)
            for digest, (prompt, answer) in written.shared.items():
                if digest not in journalled_shared and journal.find(prompt) is None:
                    journal.add(prompt, answer)
                journalled_shared.add(digest)
            if written.lines:
                journal.add_lines(written.lines, written.prompt_tokens, written.completion_tokens)
            if written.left_parts and parts is not None:
                await asyncio.to_thread(parts.remove, f"{partition.name}-")
            count_tokens(written.completion_tokens)
            drafts.update(zip(todo, written.drafts, strict=True))
        return [drafts[index] for index in indices]

    ranges = Partitioner(shards, first).ranges(lambda: engine.workers, lambda: engine.window)
    try:
        async with aclosing(in_order(ranges, write, lambda: engine.partitions, AHEAD)) as results:
            async for indices, partition_drafts in results:
                for index, drafts in zip(indices, partition_drafts, strict=True):
                    yield work.planned[index], drafts
    finally:
        await engine.forget(work)
    if parts is not None:
        await asyncio.to_thread(parts.clear)


def _move_into(journal: Journal, parts: JournalParts) -> None:
    for lines in parts.read():
        journal.merge(lines)
    journal.sync()
    parts.clear()


class _JournalledWriter:
    """Writes requests from the journal alone. It keeps the journal's answers to a request that it cannot write whole."""

    def __init__(self, work: StrategyWork, journal: Journal) -> None:
        self._work = work
        self._journal = journal
        self._answers: dict[int, dict[str, Completion]] = {}
        self._shared: dict[str, Completion] = {}
        self._write = work.strategy.writer(work.brief, self._ask)

    async def _ask(self, prompt: Prompt) -> Completion:
        answer = self._journal.find(prompt)
        if answer is None:
            raise NotJournalled(prompt.key)
        index = prompt.request
        answers = self._shared if index is None else self._answers.setdefault(index, {})
        answers[prompt_digest(prompt)] = answer
        return answer

    async def write(self, index: int) -> Sequence[Draft] | None:
        """The drafts of a request, or None when the journal lacks an answer."""
        try:
            drafts = await self._write(self._work.planned[index])
        except NotJournalled:
            return None
        self._answers.pop(index, None)
        return drafts

    def answers(self, requests: Iterable[int]) -> dict[str, Completion]:
        """The journal's answers to prompts of requests that could not be written whole, by the prompt's digest."""
        answers = {digest: answer for index in requests for digest, answer in self._answers.pop(index, {}).items()}
        return self._shared | answers


class StrategyPartitionWriter:
    """Writes one partition with an engine; see `teachers.PartitionWriter`.

    `complete` answers prompts that belong to one request, `share` those that belong to none.
    """

    def __init__(self, work: StrategyWork, partition: Partition, complete: Complete, share: Share, window: int) -> None:
        self._work = work
        self._partition = partition
        self._requests = frozenset(partition.requests)
        self._complete = with_student(complete, work.student)
        self._share = share
        self._window = window
        self._encoder = AnswerEncoder()
        self._shared: dict[str, tuple[Prompt, Completion]] = {}
        self._prompt_tokens = self._completion_tokens = 0
        self.lines: list[bytes] = []

    async def write(self, answers: Mapping[str, Completion]) -> WrittenPartition:
        work = self._work

        async def ask(prompt: Prompt) -> Completion:
            own_request = prompt.request in self._requests
            if own_request and not (answers or self._partition.answers):  # nothing to look up: no digest is needed
                return self._journal(prompt, await self._complete(prompt))
            digest = prompt_digest(prompt)
            if (answer := self._partition.answers.get(digest)) is not None:
                return answer
            if own_request:
                return self._journal(prompt, answers.get(digest) or await self._complete(prompt))
            answer = await self._share(digest, prompt)
            self._shared[digest] = replace(prompt, variables={}), answer
            return answer

        write = work.strategy.writer(work.brief, ask)
        requests = map(work.planned.__getitem__, self._partition.requests)
        async with aclosing(in_order(requests, write, lambda: self._window)) as results:
            drafts = [drafts async for _, drafts in results]
        lines, tokens = b"".join(self.lines), (self._prompt_tokens, self._completion_tokens)
        return WrittenPartition(drafts, lines, self._shared, *tokens)

    def _journal(self, prompt: Prompt, answer: Completion) -> Completion:
        line, fresh = self._encoder.encode(prompt, answer)
        self._encoder.add_shared(fresh)
        self.lines.append(line)
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        return answer


def answers_in(parts: Sequence[bytes]) -> dict[str, Completion]:
    """The answers in parts of a journal, by the prompt's digest. Torn and damaged lines are left out: they are asked again."""
    rows = (decode_line(line) for lines in parts for line in lines.splitlines(keepends=True))
    return {row["prompt"]: completion(row) for row in rows if row is not None and "message" not in row}
