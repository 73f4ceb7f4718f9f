"""A teacher behind HTTP and the servers in this process that it talks to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.teachers.server.engine import ServerEngine
from evokd_data.teachers.server.plug import Server
from tests.support.fake_chat_server import FakeServer


def prompt(index: int, constraint: Constraint | None = None) -> Prompt:
    messages = (Message("system", "Write."), Message("user", f"text {index}"))
    return Prompt(f"generate/{index:06}", "generate", messages, 2**62 + index, Sampling(0.7, 64, 0.9), constraint)


def talk(
    fake: FakeServer,
    path: Path,
    ask: Callable[[ServerEngine], Awaitable[Any]],
    others: tuple[FakeServer, ...] = (),
    **settings: Any,
) -> Any:
    """What `ask` returns, with the fakes served meanwhile."""

    async def run() -> Any:
        async with contextlib.AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(server.serving()) for server in (fake, *others)]
            teacher = Server(model="org/teacher", urls=tuple(server.url for server in servers), **settings)
            engine = await stack.enter_async_context(teacher.serve(path / "teacher.log"))
            return await asyncio.wait_for(ask(engine), 30)

    return asyncio.run(run())


def completing(*prompts: Prompt) -> Callable[[ServerEngine], Awaitable[list[Completion]]]:
    return lambda engine: asyncio.gather(*map(engine.complete, prompts))


@contextlib.contextmanager
def serving_in_thread(fake: FakeServer) -> Iterator[FakeServer]:
    """The fake served by a loop of its own, for runs that have theirs."""
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with fake.serving():
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield fake
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)
