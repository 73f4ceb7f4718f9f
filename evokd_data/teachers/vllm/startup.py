"""What surrounds the start of an engine: its environment variables, its logging, and the cause when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from evokd_data.errors import TeacherError
from evokd_data.teachers import logs
from evokd_data.teachers.logs import LINE_FORMAT, describe_error, single_line, tail
from evokd_data.teachers.orphans import DRIVER
from evokd_data.teachers.vllm.processes import ENGINE_LOG

FORWARDED_VARIABLES = (
    "VLLM_BATCH_INVARIANT", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "HF_HUB_OFFLINE",
)  # fmt: skip
"""Environment variables that an engine on another machine needs with the values they have here. Tokens are not among them:
each machine logs in for itself. On a machine without a GPU several engines all bind to its first cores, unless
VLLM_CPU_OMP_THREADS_BIND is `nobind`."""

SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket."""

SECONDARY_ERRORS = re.compile(
    r"See root cause above|Engine core initialization failed|WorkerProc initialization failed|EngineDeadError"
)
"""Log lines which say that something failed elsewhere, and not what."""


@contextlib.contextmanager
def startup_environment(log: Path, scratch: Path) -> Iterator[None]:
    """Set the variables that vLLM reads, while it starts. The engine's processes inherit them.

    `scratch`: a folder for vLLM's logging configuration and its sockets, which must live as long as the engine. Sockets are never
    removed by vLLM, neither after a kill nor after a sound end.
    """
    file = {"class": "logging.FileHandler", "filename": str(log), "formatter": "line"}
    config = scratch / "logging.json"
    config.write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"line": {"format": LINE_FORMAT}},
                "handlers": {"file": file},
                "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
            }
        ),
        encoding="utf-8",
    )
    before = dict(os.environ)
    if len(os.fsencode(scratch)) + len("/") + len(str(uuid4())) <= SOCKET_PATH_BYTES:
        os.environ["VLLM_RPC_BASE_PATH"] = str(scratch)
    os.environ.update(
        {
            "VLLM_LOGGING_CONFIG_PATH": str(config),
            "VLLM_CONFIGURE_LOGGING": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "GOMP_SPINCOUNT": "0",  # waiting threads leave the cores to this process
            DRIVER: str(os.getpid()),
            ENGINE_LOG: str(log),
        }
    )
    try:
        yield
    finally:
        # vLLM adds variables of its own, such as LD_PRELOAD. Processes that the student starts must not inherit them.
        for key in set(os.environ) - set(before):
            del os.environ[key]
        os.environ.update({key: value for key, value in before.items() if os.environ.get(key) != value})


def redirect_output(log: TextIO, path: Path) -> contextlib.AbstractContextManager[None]:
    """`logs.redirect_output` for vLLM and the libraries that it loads."""
    from transformers.utils import logging

    logging.get_logger("transformers")  # installs transformers' own handler, once; it must be there to be replaced
    # vLLM also logs while it answers, so its logger stays redirected.
    return logs.redirect_output(log, path, ("transformers", "huggingface_hub"), permanent=("vllm",))


def last_error(log: Path, offset: int = 0) -> str:
    """The last line of vLLM's log, after byte `offset`, that names the cause of a failure; "" when there is none."""
    return logs.last_error(log, offset, SECONDARY_ERRORS)


def start_error(error: BaseException, model: str, log: Path, offset: int) -> TeacherError:
    """Why the engine did not start, from the exception and from what the engine logged after byte `offset`."""
    lines = tail(log, offset)
    if any("freeze_support" in line for line in lines):
        cause = 'the program that opens it has no `if __name__ == "__main__":`, and engine processes import it; add it'
    elif "': -9" in str(error):
        cause = "the system killed one of its processes, most likely because memory ran out"
    elif SECONDARY_ERRORS.search(str(error)):
        cause = last_error(log, offset) or single_line(lines[-1])
    else:
        cause = describe_error(error)
    return TeacherError(f"the teacher {model!r} did not start: {cause}; its log: {log}")
