"""An engine's log: keeping a library's output out of the terminal, and finding in it why the engine failed."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

LINE = "%(asctime)s %(processName)s %(levelname)s %(name)s: %(message)s"
RAISED = re.compile(r"^(?:.*?\s)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)(?::| -).*)$")


@contextlib.contextmanager
def quiet(log: TextIO, path: Path, names: Sequence[str], for_good: Sequence[str] = ()) -> Iterator[None]:
    """What this thread prints, and what the loggers `names` log, goes to the log; other threads keep their terminal.
    The loggers `for_good` keep to the log afterwards."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter(LINE))
    loggers = [logging.getLogger(name) for name in (*names, *for_good)]
    handlers = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    streams = sys.stdout, sys.stderr
    ours = tuple(_Divided(stream, log) for stream in streams)
    sys.stdout, sys.stderr = ours
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, before, propagate in handlers:
            if logger.name not in for_good:
                logger.handlers, logger.propagate = before, propagate
        # Only what is still ours: a progress display may have been put in its place meanwhile, and puts it back itself.
        if sys.stdout is ours[0]:
            sys.stdout = streams[0]
        if sys.stderr is ours[1]:
            sys.stderr = streams[1]


class _Divided:
    """A standard stream that sends one thread's writing elsewhere and is itself for all others."""

    def __init__(self, stream: Any, log: TextIO) -> None:
        self._stream = stream
        self._log = log
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        aside = threading.get_ident() == self._thread and not self._log.closed
        return (self._log if aside else self._stream).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def last_error(log: Path, since: int, echoes: re.Pattern[str]) -> str:
    """The last line after byte `since` of a log that names an exception, without the log's own prefix; else "".

    Lines that match `echoes` only say that something failed elsewhere.
    """
    for line in reversed(tail(log, since)):
        if (raised := RAISED.match(line)) and not echoes.search(line):
            return one_line(raised[1])
    return ""


def tail(log: Path, since: int) -> list[str]:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - 65_536))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return []


def said(error: BaseException) -> str:
    """An exception in one line; of pydantic's, what is wrong rather than how many things are."""
    listed = getattr(error, "errors", None)
    if callable(listed):
        with contextlib.suppress(Exception):
            return one_line("; ".join(str(problem["msg"]) for problem in listed()))
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:297] + "..."
