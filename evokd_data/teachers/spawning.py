"""Where the output of processes that `multiprocessing` starts goes, which processes they are, and when they end."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence

ENGINE_LOG = "EVOKD_ENGINE_LOG"
"""The variable that names the log to the shell that opens the engine's processes."""

END_WITH_PARENT = "import ctypes, os; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.getppid() == {parent} or os._exit(1); "
"""`orphans.end_with_parent` for the time before vLLM loads its plugins, which it does in the middle of its start: a process
whose driver was killed by then would wait for it for minutes. Nothing but Python itself can be imported that early."""


class Spawning:
    """Sends what the engine's processes print to the log, and ends them with this thread, both from their first breath on;
    remembers their ids.

    `multiprocessing` lets its children inherit the terminal. Within `watched`, those that this thread starts begin as a
    shell that opens the log and then becomes the process: same id, nothing of the parent's own output is touched.
    """

    SHELL = b'exec "$0" "$@" >>"$' + ENGINE_LOG.encode() + b'" 2>&1 </dev/null'

    def __init__(self) -> None:
        self._processes: list[int] = []
        self._stopped = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        original = multiprocessing.util.spawnv_passfds
        owner = threading.get_ident()

        def spawn(path: bytes, args: Sequence[bytes], passfds: Sequence[int]) -> int:
            if threading.get_ident() != owner:
                return original(path, args, passfds)
            if self._stopped:
                raise InterruptedError("stopped while starting")
            command = [os.fsdecode(arg) for arg in args]
            child = command[-1] == "--multiprocessing-fork"  # not Python's resource tracker
            if child and sys.platform.startswith("linux"):
                command[-2] = END_WITH_PARENT.format(parent=os.getpid()) + command[-2]
            pid = original(b"/bin/sh", [b"/bin/sh", b"-c", self.SHELL, *map(os.fsencode, command)], passfds)
            if child:
                self._processes.append(pid)
            return pid

        multiprocessing.util.spawnv_passfds = spawn  # type: ignore[assignment]
        try:
            yield
        finally:
            multiprocessing.util.spawnv_passfds = original

    def stop(self) -> None:
        """No more processes; a start that is under way fails at once. Those of an open engine are left to `kill`."""
        self._stopped = True

    def kill(self) -> None:
        for process in multiprocessing.active_children():
            if process.pid in self._processes:
                process.kill()
                process.join(1)
