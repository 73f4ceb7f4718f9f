"""asyncio's Runner for commands and for programs that use the library: Ctrl-C stops it in order, however often it is pressed.

It also works where an event loop is running already, as in Jupyter's cells and in every `async def`: asyncio allows one running loop
in a thread, so the coroutine then runs in another thread, while the caller waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

from evokd_data.interrupts import Interrupts

T = TypeVar("T")
P = ParamSpec("P")

LOOK_S = 0.25
"""So often a waiting loop wakes. The stop button of Jupyter needs it: ipykernel's handler of the signal does not wake an idle loop, and
`await asyncio.sleep(8)` ended 8.5 s after the button was pressed."""


class Runner:
    """asyncio's, but a second Ctrl-C raises nothing inside of its tasks, as long as it is an echo or the process is a command.

    An event loop with the methods of asyncio.Runner that are needed here, and `call`. All coroutines run on one loop, so that what one of
    them opened the next can use. It is a context manager, too: at its end all tasks are cancelled and end.
    """

    def __init__(self) -> None:
        # With a factory asyncio leaves the thread's own loop alone, which in Jupyter is the kernel's.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._restore = False
        self._thread: ThreadPoolExecutor | None = None
        self._cancelling = threading.Lock()
        self._cancelled = False
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._elsewhere(self._runner.close) if _loop_is_running() else self._runner.close()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            if self._restore:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. Raises KeyboardInterrupt after Ctrl-C, when what it has opened is closed."""
        if _loop_is_running():
            return self._elsewhere(self._run_watched, coro)
        return self._run_here(coro)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that uses `run` in a thread of its own; the caller's loop goes on meanwhile.

        Cancelled, it cancels the coroutine that the function runs, or else the next, and waits for the function's end.
        """
        self._cancelled = False
        outcome = asyncio.wrap_future(self._submit(function, *args, **kwargs))
        try:
            while not outcome.done():
                await asyncio.wait((outcome,), timeout=LOOK_S)
        except asyncio.CancelledError:
            self._cancel()
            await asyncio.wait((outcome,))
            if not outcome.cancelled():
                outcome.exception()  # asyncio logs an error that nobody looks at
            raise
        return outcome.result()

    def _elsewhere(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for a caller that waits. After Ctrl-C it raises KeyboardInterrupt, when the function has ended; at once after another."""
        self._cancelled = False
        outcome = self._submit(function, *args, **kwargs)
        try:
            return outcome.result()
        except KeyboardInterrupt:
            self._cancel()
            wait((outcome,))
            raise

    def _submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "evokd-data")
        return self._thread.submit(contextvars.copy_context().run, partial(function, *args, **kwargs))

    def _cancel(self) -> None:
        """Cancel the coroutine that runs in the other thread; when none does, the next one ends at its start."""
        with self._cancelling:
            self._cancelled = self._task is None
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _watched(self, coro: Coroutine[Any, Any, T]) -> T:
        try:
            with self._cancelling:
                if self._cancelled:
                    self._cancelled = False
                    raise asyncio.CancelledError
                self._task = asyncio.current_task()
            return await coro
        finally:
            coro.close()  # where it was not begun
            with self._cancelling:
                self._task = None

    def _run_watched(self, coro: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(self._watched(coro))

    def _run_here(self, coro: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is not threading.main_thread():
            return self._run_watched(coro)
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


def _loop_is_running() -> bool:
    """Whether this thread runs an event loop, so that it can run no other."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _with(interrupts: Interrupts, coro: Coroutine[Any, Any, T]) -> T:
    cancel = signal.getsignal(signal.SIGINT)
    assert callable(cancel)
    interrupts.first = cancel
    signal.signal(signal.SIGINT, interrupts)
    return await coro
