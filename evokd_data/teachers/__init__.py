"""The teacher contract: an engine that completes prompts, open as long as its `with` block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from evokd_data.models import ModelReference
from evokd_data.records import Completion, Constraint, Draft, Prompt

TEACHERS = {
    "vllm": "evokd_data.teachers.vllm.plug:VLLM",
    "ray": "evokd_data.teachers.ray.plug:Ray",
    "server": "evokd_data.teachers.server.plug:Server",
    "scripted": "evokd_data.teachers.scripted:Scripted",
}


def missing_packages(*names: str) -> list[str]:
    """One line for each of these packages that is not installed here; none is imported."""
    return [
        f"the package {name} is not installed here; run: pip install 'evokd-data[{name}]'"
        for name in names
        if find_spec(name) is None
    ]


class Engine(Protocol):
    """An open teacher. `window` is the number of requests it wants in flight; more of them would only wait inside it."""

    @property
    def window(self) -> int:
        """Requests to have in flight."""

    async def complete(self, prompt: Prompt) -> Completion:
        """One answer. A prompt too long for the model comes back as an empty completion with finish_reason "too_long", and one that
        the engine refuses, or fails on, while it answers others, as `records.refused`.

        Raises TeacherError when the engine is gone, or refuses all prompts.
        """

    async def sleep(self) -> None:
        """Free the accelerator until `wake`, if the engine can; otherwise do nothing."""

    async def wake(self) -> None:
        """Take the accelerator back. Returns when prompts can be answered again."""

    def environment(self) -> Mapping[str, Any]:
        """Versions, arguments and hardware for the manifest; never a secret."""


class Teacher(Protocol):
    """A teacher is a frozen dataclass whose fields are the recipe's `teacher` table.

    A plug inherits from this Protocol and so gets the defaults of the capabilities.
    """

    name: ClassVar[str]
    partitioned: ClassVar[bool] = False
    """Capability: `serve` opens a PartitionedEngine, which writes whole partitions of a round."""
    loads_model: ClassVar[bool] = True
    """Whether `base_model` is loaded here; a server has loaded its own."""

    @property
    def temperature(self) -> float:
        """Of the texts it writes, as in `records.Sampling`; strategies choose another for labels."""

    @property
    def top_p(self) -> float:
        """The probability mass that tokens are drawn from."""

    @property
    def max_tokens(self) -> int:
        """The bound of one answer."""

    @property
    def base_model(self) -> ModelReference | None:
        """The model whose weights answer; None for a teacher without one, or with one that it cannot name."""
        return None

    def refuses(self, constraint: Constraint) -> str | None:
        """Why its engine cannot hold an answer to the constraint, with what to do; None when it can."""
        return None

    def lacks(self) -> Sequence[str]:
        """What this machine lacks to open it, each with what to do: a package, a variable. Nothing is loaded to find out."""
        return ()

    def parts_url(self) -> str | None:
        """A folder or URL that all workers reach, for their parts of the journal; None: below the run folder."""
        return None

    def identity(self) -> Mapping[str, Any]:
        """What decides the teacher's answers: model and revision (or a digest of its files), sampling, dtype."""

    def serve(self, log: Path) -> AbstractAsyncContextManager[Engine]:
        """The engine, open inside the block and gone after it. Its own log goes to `log`."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Requests of one shard that one worker writes in one go.

    `requests` are their indices in the round, ascending. `answers` are the completions of their prompts that the journal
    has already, by the prompt's digest.
    """

    requests: Sequence[int]
    answers: Mapping[str, Completion] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """ "000120-000168": the first index, and the one after the last."""
        return f"{self.requests[0]:06d}-{self.requests[-1] + 1:06d}"


@dataclass(frozen=True, slots=True)
class WrittenPartition:
    """What a worker returns for a partition.

    `drafts` holds the drafts of each request, in order. `lines` are the answers the worker asked for, as journal lines.
    `shared` are the answers that belong to no single request, by the prompt's digest: other partitions may use them too.
    `left_parts` says whether parts of the journal lie where `RoundWork.leave` put them.
    """

    drafts: Sequence[Sequence[Draft]]
    lines: bytes
    shared: Mapping[str, tuple[Prompt, Completion]]
    prompt_tokens: int
    completion_tokens: int
    left_parts: bool = False


Complete = Callable[[Prompt], Awaitable[Completion]]
"""Answers one prompt."""

Share = Callable[[str, Prompt], Awaitable[Completion]]
"""Answers a prompt, known by its digest, once for all partitions of the round."""


class PartitionWriter(Protocol):
    """Writes one partition. `lines` grows while it works: one journal line for each answer asked for so far."""

    lines: list[bytes]

    async def write(self, answers: Mapping[str, Completion]) -> WrittenPartition:
        """`answers` were given to earlier attempts at the partition, by the prompt's digest."""


class RoundWork(Protocol):
    """All that a worker must know to write any partition of a round. It is pickled and sent to other machines."""

    @property
    def leaves_parts(self) -> bool:
        """Whether a worker leaves its answers outside its own memory while it works on a partition."""

    def writer(self, partition: Partition, complete: Complete, share: Share, window: int) -> PartitionWriter:
        """Writes this partition with at most `window` requests in flight."""

    def earlier_answers(self, partition: Partition) -> Mapping[str, Completion]:
        """Answers that workers left before they died, by the prompt's digest. Blocks: it reads shared storage."""

    def leave(self, name: str, lines: bytes) -> None:
        """Keep journal lines where other machines find them, under `name`. Blocks: it writes to shared storage."""

    def without_parts(self) -> RoundWork:
        """The same work, of which workers leave nothing."""


@runtime_checkable
class PartitionedEngine(Engine, Protocol):
    """An engine of many workers that writes whole partitions. `window` counts the requests in flight in all of them."""

    @property
    def workers(self) -> int:
        """The number of workers that partitions are divided among."""

    @property
    def partitions(self) -> int:
        """The number of partitions worth having in flight."""

    async def write(self, work: RoundWork, partition: Partition) -> WrittenPartition:
        """Have a worker write the partition. Raises TeacherError when it cannot be written."""

    async def forget(self, work: RoundWork) -> None:
        """The round is over: free what the workers keep of it."""
