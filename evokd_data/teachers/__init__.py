"""The teacher contract: an engine that completes prompts, open as long as its `with` block."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from evokd_data.records import Completion, Prompt

TEACHERS = {
    "vllm": "evokd_data.teachers.vllm:VLLM",
    "ray": "evokd_data.cluster.ray:Ray",
    "server": "evokd_data.teachers.server:Server",
    "scripted": "evokd_data.teachers.scripted:Scripted",
}


class Engine(Protocol):
    """An open teacher. `window` is how many requests it wants in flight; more only wait inside it."""

    @property
    def window(self) -> int: ...

    async def complete(self, prompt: Prompt) -> Completion:
        """One answer. Raises TeacherError when the engine is gone; a prompt too long for the model comes back
        as an empty completion with finish_reason "too_long"."""

    async def sleep(self) -> None:
        """Free the accelerator until `wake`, when the engine can; else nothing."""

    async def wake(self) -> None: ...

    def environment(self) -> Mapping[str, Any]:
        """Versions, arguments and hardware for the manifest; never a secret."""


class Teacher(Protocol):
    """A teacher is a frozen dataclass whose fields are the recipe's `teacher` table.

    One whose engine is a `partitions.Writer` has a class variable `partitioned`, True, and may have a setting `parts`, the
    place of its workers' parts of the journal.
    """

    name: ClassVar[str]

    @property
    def temperature(self) -> float: ...

    @property
    def top_p(self) -> float: ...

    @property
    def max_tokens(self) -> int: ...

    def identity(self) -> Mapping[str, Any]:
        """What decides the teacher's answers: model and revision (or a digest of its files), sampling, dtype."""

    def serve(self, log: Path) -> AbstractAsyncContextManager[Engine]:
        """The engine, open inside the block and gone after it. Its own log goes to `log`."""
