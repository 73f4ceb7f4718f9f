"""Engine processes end with the process that started them, even when it is killed with -9.

vLLM loads this module as a plugin in each of its processes (entry point group "vllm.general_plugins"), also in those of other
programs. There nothing happens, because the variable that `vllm.startup` sets is absent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

DRIVER = "EVOKD_ENGINE_DRIVER"
"""The environment variable of engine processes that holds the driver's process id."""

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends, and leave the terminal's process group.

    Acts in processes that `multiprocessing` started below the driver, never in the driver itself. Does nothing outside
    Linux.
    """
    driver = os.environ.get(DRIVER)
    parent = multiprocessing.parent_process()
    if not driver or driver == str(os.getpid()) or parent is None or not sys.platform.startswith("linux"):
        return
    # Ctrl-C reaches the whole foreground group, but the driver decides when and how its engine ends.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    kill_with_parent_thread()
    # If the parent died before the kernel was asked, the signal never comes.
    if os.getppid() != parent.pid:
        os._exit(1)


def kill_with_parent_thread() -> None:
    """Ask the kernel to kill this process when the thread that started it ends. Does nothing outside Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
