"""asyncio's Runner for commands and for programs that use the library: Ctrl-C stops it in order, however often it is pressed."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from evokd_data.interrupts import Interrupts

T = TypeVar("T")


class Runner:
    """asyncio's, but a second Ctrl-C raises nothing inside of its tasks, as long as it is an echo or the process is a command.

    An event loop with the methods of asyncio.Runner that are needed here. It is a context manager, too: at its end all tasks are
    cancelled and end.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._restore = False

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._runner.close()
        finally:
            if self._restore:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. Raises KeyboardInterrupt after Ctrl-C, when what it has opened is closed."""
        if threading.current_thread() is not threading.main_thread():
            return self._runner.run(coro)
        interrupts = signal.getsignal(signal.SIGINT)
        if interrupts is signal.default_int_handler:
            interrupts = Interrupts(ends_process=False)
            self._restore = True
        if not isinstance(interrupts, Interrupts):  # the program has its own
            return self._runner.run(coro)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in its place asyncio puts what cancels the main task
        try:
            return self._runner.run(_with(interrupts, coro))
        finally:
            interrupts.first = None
            signal.signal(signal.SIGINT, interrupts)


async def _with(interrupts: Interrupts, coro: Coroutine[Any, Any, T]) -> T:
    cancel = signal.getsignal(signal.SIGINT)
    assert callable(cancel)
    interrupts.first = cancel
    signal.signal(signal.SIGINT, interrupts)
    return await coro
