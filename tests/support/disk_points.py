"""Every moment at which this process is about to change the disk: a fork can be killed there, or the change can fail there.

Python reports files it opens, renames, removes and cuts to audit hooks. It does not report writes and syncs of descriptors, so
`watch` puts a report before each. A hook cannot be taken away again: call it in a fork, which ends.

    watch(lambda number, _: number == 17 and os.kill(os.getpid(), signal.SIGKILL))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

RENAMES = frozenset({"os.rename"})
OPEN = "open to write"
CHANGES = RENAMES | {"os.remove", "os.mkdir", "os.rmdir", "os.truncate", "tempfile.mkstemp", OPEN}
WRITES = frozenset({"write", "sync", "cut"})
"""Reported by `watch` itself."""
POINTS = CHANGES | WRITES


def watch(act: Callable[[int, str | None], Any], events: frozenset[str] = POINTS) -> None:
    """From now on `act` is called before each change of the disk of one of the kinds `events`.

    It gets the change's number from 1, and the file's name, None where the system does not know it (a write, a sync).
    What `act` raises, the change raises in place of happening.
    """
    numbers = count(1)

    def note(event: str, name: str | None = None) -> None:
        if event in events:
            act(next(numbers), name)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            event = OPEN
        if event in CHANGES:
            note(event, str(arguments[0]))

    sys.addaudithook(audit)
    if events & WRITES:
        for name, event in (("write", "write"), ("fsync", "sync"), ("ftruncate", "cut")):
            setattr(os, name, _reported(getattr(os, name), event, note))


def _reported(call: Callable[..., Any], event: str, note: Callable[[str], None]) -> Callable[..., Any]:
    def reported(*arguments: Any) -> Any:
        note(event)
        return call(*arguments)

    return reported
