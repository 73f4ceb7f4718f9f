"""The engine's processes: where their output goes, which they are, and when they end."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import threading
from collections.abc import Iterator, Sequence

from evokd_data.teachers.orphans import ending_with_parent, is_spawn

ENGINE_LOG = "EVOKD_ENGINE_LOG"
"""The environment variable that names the log. The shell that starts an engine process reads it."""


class EngineProcesses:
    """The processes that `multiprocessing` starts for an engine.

    By default they inherit the terminal. Within `recording`, those that the calling thread starts write to the log and end
    with that thread, both from their beginning, and their ids are recorded. Each begins as a shell that opens the log and
    then becomes the process: it has the same id, and the parent's own output stays as it is.
    """

    SHELL = b'exec "$0" "$@" >>"$' + ENGINE_LOG.encode() + b'" 2>&1 </dev/null'

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._refuse = False

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Redirect and record the processes that the calling thread starts inside the block."""
        original = multiprocessing.util.spawnv_passfds
        starter = threading.get_ident()

        def spawn(path: bytes, args: Sequence[bytes], passfds: Sequence[int]) -> int:
            if threading.get_ident() != starter:
                return original(path, args, passfds)
            if self._refuse:
                raise InterruptedError("stopped while starting")
            command = ending_with_parent(args)
            pid = original(b"/bin/sh", [b"/bin/sh", b"-c", self.SHELL, *map(os.fsencode, command)], passfds)
            if is_spawn(command):
                self._ids.append(pid)
            return pid

        multiprocessing.util.spawnv_passfds = spawn  # type: ignore[assignment]
        try:
            yield
        finally:
            multiprocessing.util.spawnv_passfds = original

    def refuse_new(self) -> None:
        """Start no more processes. A start in progress fails at once; the processes of an open engine are left to `kill`."""
        self._refuse = True

    def kill(self) -> None:
        """Kill the recorded processes and wait up to a second for each."""
        for process in multiprocessing.active_children():
            if process.pid in self._ids:
                process.kill()
                process.join(1)
