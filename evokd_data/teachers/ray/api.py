"""What a driver and its workers may call on a coordinator, and the records that they exchange.

    driver    submit -> row -> (Ray Data) -> claim                     worker
              events, acknowledge, set_asleep, shut_down               register, report_*, poll, fetch_work, shared_answer

A row of Ray Data carries no work. It only makes the worker that receives it claim the first work item that no worker has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evokd_data.errors import EvokdError, TeacherError
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Partition, WrittenPartition


@dataclass(frozen=True, slots=True)
class PartitionItem:
    """A work item: a partition of the round whose work `DriverApi.add_work` stored under `work_key`."""

    work_key: int
    partition: Partition


@dataclass(frozen=True, slots=True)
class PromptsItem:
    """A work item: single prompts, to be answered in their order."""

    prompts: Sequence[Prompt]


WorkItem = PartitionItem | PromptsItem

ItemResult = WrittenPartition | list[Completion | TeacherError] | EvokdError
"""What became of a work item: for single prompts, a completion or an error for each."""


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """What a worker gets for a row. `number`: the item's sequence number; `deaths`: how many workers died while they had it."""

    number: int
    item: WorkItem
    deaths: int


@dataclass(frozen=True, slots=True)
class WorkerOpened:
    """Event: a worker's engine is open. `window`: requests it wants in flight; `environment`: see `teachers.Engine`."""

    worker: int
    location: str
    window: int
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StartFailed:
    """Event: a worker's engine did not open. `fatal`: nobody will try again."""

    worker: int
    error: EvokdError
    fatal: bool


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """Event: a worker is gone, after `finished` work items."""

    worker: int
    location: str
    finished: int
    reason: str


@dataclass(frozen=True, slots=True)
class ItemAbandoned:
    """Event: too many workers died while they had this item. `reason`: that of the last death."""

    worker: int
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """Event: a line for the driver's log."""

    worker: int
    text: str


Event = WorkerOpened | StartFailed | WorkerDied | ItemAbandoned | WorkerNote


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What all workers should be. `version` counts the changes; -1 is the state of a worker that has applied none."""

    version: int = 0
    asleep: bool = False
    ended: bool = False


class DriverApi(Protocol):
    """A coordinator's methods for the driver. A remote coordinator may raise anything when it is gone."""

    async def add_work(self, key: int, work: Any) -> None:
        """Keep what all partitions of a round need, for the workers' `fetch_work`."""

    async def remove_work(self, key: int) -> None:
        """Forget it, and the round's shared answers."""

    async def submit(self, number: int, item: WorkItem) -> None:
        """Add a work item and a row for it. Items are begun in the order of their numbers, also those begun again."""

    async def acknowledge(self, number: int) -> None:
        """The driver has the item's result, or does not want it any more."""

    async def events(self, count: int) -> Sequence[Event]:
        """The events after the first `count`. Waits until there are some."""

    async def set_asleep(self, asleep: bool) -> None:
        """Returns when every open worker has applied it. A worker that opens later applies it first."""

    async def shut_down(self, timeout_s: float) -> None:
        """Create no more rows, and have every worker end its engine. Returns when all have, or after `timeout_s`."""


class WorkerApi(Protocol):
    """A coordinator's methods for its workers. `name` identifies a worker, also when a new process follows in its place."""

    async def register(self, name: str, location: str) -> tuple[int, bool]:
        """Called by a process before it opens its engine. Returns its index among the workers, and whether all is over."""

    async def report_opened(self, name: str, window: int, environment: Mapping[str, Any]) -> None:
        """The engine is open."""

    async def report_failed(self, name: str, error: EvokdError) -> float:
        """The engine did not open. Returns the seconds after which the worker may try again."""

    async def report_death(self, name: str, reason: str) -> None:
        """The engine is gone. The worker's items go to others, or are abandoned after MAX_DEATHS deaths."""

    async def report_note(self, name: str, text: str) -> None:
        """A line for the driver's log."""

    async def poll(self, name: str, version: int, running: frozenset[int]) -> DesiredState:
        """A heartbeat of a worker that has applied `version` and writes the items `running`. Returns the desired state when it
        has another version, else the same state after POLL_S seconds."""

    async def claim(self, name: str) -> ClaimedItem | None:
        """For a worker that received a row: the first item that no worker has; None when there is none."""

    async def fetch_work(self, key: int) -> Any:
        """What `DriverApi.add_work` stored; None when it was removed."""

    async def shared_answer(self, digest: str, name: str) -> Completion | None:
        """The answer to a shared prompt, by the prompt's digest. Waits while another worker asks for it. None: the caller
        must ask its engine and call `add_shared_answer`."""

    async def add_shared_answer(self, digest: str, answer: Completion) -> None:
        """Give a shared prompt's answer to all workers."""
