"""Engine processes end with the process that started them, also when that one is killed with -9.

vLLM loads this as a plugin in each of its processes (entry point group "vllm.general_plugins"), in those of other
programs too: without the variable that `teachers.vllm` sets, nothing happens.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

DRIVER = "EVOKD_ENGINE_DRIVER"  # the process id of the driver, in the environment of its engine processes

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent's thread that started it ends; leave the terminal's group.

    Acts in processes that `multiprocessing` started below the driver, never in the driver itself.
    """
    driver = os.environ.get(DRIVER)
    parent = multiprocessing.parent_process()
    if not driver or driver == str(os.getpid()) or parent is None or not sys.platform.startswith("linux"):
        return
    # Ctrl-C reaches the whole foreground group: the driver decides when its engine ends, and how.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    killed_with_parent()
    # The parent may have died before the kernel was asked; then nobody would ever be told.
    if os.getppid() != parent.pid:
        os._exit(1)


def killed_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends; where there is no Linux, nothing."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
