"""Prompts that may have killed the engine. After its death the next process asks those that were inside it one at a time, alone.

When the engine dies again then, that prompt is the cause: it counts as refused, and is not asked again as long as the file is there
(whoever has another engine removes it). Otherwise it has its answer.
So one prompt that an engine cannot survive costs a run two restarts and one text, and not the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from evokd_data.errors import EngineStopped, WorkspaceError
from evokd_data.records import Completion, Prompt, refused
from evokd_data.storage.journal import prompt_digest
from evokd_data.storage.workspace import read_json, write_json

Complete = Callable[[Prompt], Awaitable[Completion]]


class Suspects:
    """The prompts inside one engine. `file` holds those that were inside an earlier one when it died, by their digests."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._suspected: set[str] = set()
        self._killers: dict[str, str] = {}
        self._inside: dict[int, Prompt] = {}
        self._gate = asyncio.Lock()
        self._nobody_inside = asyncio.Event()
        self._nobody_inside.set()
        self._is_dead = False
        with suppress(WorkspaceError):  # a damaged file makes nobody suspected
            if file.exists():
                content = read_json(file)
                self._suspected, self._killers = set(content["suspected"]), dict(content["killers"])

    async def complete(self, prompt: Prompt, complete: Complete) -> Completion:
        """The answer of `complete`, or a refusal for a prompt that is known to kill the engine. Raises what `complete` raises."""
        if not self._suspected and not self._killers:
            return await self._among_others(prompt, complete)
        digest = prompt_digest(prompt)
        if digest in self._killers:
            return refused(self._killers[digest])
        async with self._gate:
            if digest in self._suspected:
                await self._nobody_inside.wait()
                return await self._alone(prompt, digest, complete)
            self._enter(prompt)
        return await self._answer(prompt, complete)

    async def _among_others(self, prompt: Prompt, complete: Complete) -> Completion:
        self._enter(prompt)
        return await self._answer(prompt, complete)

    def _enter(self, prompt: Prompt) -> None:
        self._inside[id(prompt)] = prompt
        self._nobody_inside.clear()

    async def _answer(self, prompt: Prompt, complete: Complete) -> Completion:
        try:
            return await complete(prompt)
        except EngineStopped:
            self._died(set(map(prompt_digest, self._inside.values())))
            raise
        finally:
            self._inside.pop(id(prompt), None)
            if not self._inside:
                self._nobody_inside.set()

    async def _alone(self, prompt: Prompt, digest: str, complete: Complete) -> Completion:
        try:
            answer = await complete(prompt)
        except EngineStopped as error:
            if self._is_dead:  # before this prompt came
                raise
            cause, _, _ = str(error).partition(
                "; its log: "
            )  # refusals are published, and paths of this machine are not
            self._killers[digest] = f"the engine died of it: {cause}"
            self._suspected.discard(digest)
            self._died(set())
            return refused(self._killers[digest])
        self._suspected.discard(digest)
        return answer

    def _died(self, inside: set[str]) -> None:
        """Remember once who was inside."""
        if self._is_dead:
            return
        self._is_dead = True
        self._suspected |= inside
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file, {"suspected": sorted(self._suspected), "killers": self._killers})
