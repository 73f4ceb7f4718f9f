"""Ctrl-C: the first stops the work in order, its echoes are nothing, a later one ends a command at once.

A terminal, a shell and a wrapper may each send the signal for one press of the keys. asyncio answers the second one with an exception
in whatever runs at that moment. Inside of a task or of asyncio itself that can lose the wake-up of another task, and the loop then
waits for it for ever: several in a few dozen commands did, on a busy machine, with the signals a millisecond apart or less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells expect."""
ECHO_S = 0.5
"""Signals that come so soon after the first are taken for the same press of the keys."""

Handler = Callable[[int, FrameType | None], Any]


class Interrupts:
    """A handler of SIGINT. The first calls `first`, or raises KeyboardInterrupt where there is none. Its echoes are ignored. A later
    one ends the process when it is a command, with the exit code of the first; a command can be killed at any moment, and processes
    that it started end with it. In a program that uses the library a later one raises KeyboardInterrupt."""

    def __init__(self, ends_process: bool) -> None:
        self.first: Handler | None = None
        self._ends_process = ends_process
        self._since: float | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._since is None:
            self._since = time.monotonic()
            if self.first is not None:
                self.first(signum, frame)
                return
        elif time.monotonic() - self._since < ECHO_S:
            return
        elif self._ends_process:
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt
