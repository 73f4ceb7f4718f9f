"""Engine processes end with the process that started them, even when it is killed with -9.

vLLM loads this module as a plugin in each of its processes (entry point group "vllm.general_plugins"), also in those of other
programs. There nothing happens, because the variable that `vllm.startup` sets is absent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Sequence

DRIVER = "EVOKD_ENGINE_DRIVER"
"""The environment variable of engine processes that holds the driver's process id."""

PR_SET_PDEATHSIG = 1

_PRELUDE = "import ctypes, os; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.getppid() == {parent} or os._exit(1); "
"""Does what `end_with_parent` does, but before vLLM loads its plugins, which happens in the middle of its start. A process whose parent
was killed before that would go on for as long as its imports take: minutes on a busy machine. Only Python itself can be imported so
early."""


def ending_with_parent(command: Sequence[str | bytes]) -> list[str]:
    """The command with which `multiprocessing` spawns a process, so that it ends with this process from its beginning."""
    words = [os.fsdecode(word) for word in command]
    if is_spawn(words) and sys.platform.startswith("linux"):
        words[-2] = _PRELUDE.format(parent=os.getpid()) + words[-2]
    return words


def is_spawn(command: Sequence[str]) -> bool:
    """Whether a command starts a process of `multiprocessing`, and not Python's resource tracker."""
    return command[-1] == "--multiprocessing-fork"


def end_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends, and leave the terminal's process group.

    Acts in processes that `multiprocessing` started below the driver, never in the driver itself. Does nothing outside
    Linux.
    """
    driver = os.environ.get(DRIVER)
    parent = multiprocessing.parent_process()
    if not driver or driver == str(os.getpid()) or parent is None or not sys.platform.startswith("linux"):
        return
    _let_children_end_with_this_process()
    # Ctrl-C reaches the whole foreground group, but the driver decides when and how its engine ends.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    kill_with_parent_thread()
    # If the parent died before the kernel was asked, the signal never comes.
    if os.getppid() != parent.pid:
        os._exit(1)


def _let_children_end_with_this_process() -> None:
    """The engine's core starts its workers itself."""
    original = multiprocessing.util.spawnv_passfds

    def spawn(path: bytes, args: Sequence[str | bytes], passfds: Sequence[int]) -> int:
        return original(path, ending_with_parent(args), passfds)

    multiprocessing.util.spawnv_passfds = spawn  # type: ignore[assignment]


def kill_with_parent_thread() -> None:
    """Ask the kernel to kill this process when the thread that started it ends. Does nothing outside Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
