"""An engine's log: keep a library's output out of the terminal, and find in the log why the engine failed."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from evokd_data.printable import printable

LINE_FORMAT = "%(asctime)s %(processName)s %(levelname)s %(name)s: %(message)s"
EXCEPTION_LINE = re.compile(r"^(?:.*?\s)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)(?::| -).*)$")
MAX_LINE = 300
TAIL_BYTES = 65_536


@contextlib.contextmanager
def redirect_output(log: TextIO, path: Path, loggers: Sequence[str], permanent: Sequence[str] = ()) -> Iterator[None]:
    """Send what this thread prints, and what these loggers log, to the log. Other threads keep their terminal.

    `path` is the file of `log`. The `permanent` loggers stay redirected after the block.
    """
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    redirected = [logging.getLogger(name) for name in (*loggers, *permanent)]
    originals = [(logger, logger.handlers, logger.propagate) for logger in redirected]
    streams = sys.stdout, sys.stderr
    replacements = tuple(_ThreadStream(stream, log) for stream in streams)
    sys.stdout, sys.stderr = replacements
    for logger in redirected:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, handlers, propagate in originals:
            if logger.name not in permanent:
                logger.handlers, logger.propagate = handlers, propagate
        # A progress display may have replaced a stream meanwhile. It puts ours back by itself.
        if sys.stdout is replacements[0]:
            sys.stdout = streams[0]
        if sys.stderr is replacements[1]:
            sys.stderr = streams[1]


class _ThreadStream:
    """A standard stream that sends the writing of one thread, its creator, to the log and passes on that of all others."""

    def __init__(self, stream: Any, log: TextIO) -> None:
        self._stream = stream
        self._log = log
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        to_log = threading.get_ident() == self._thread and not self._log.closed
        return (self._log if to_log else self._stream).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def last_error(log: Path, offset: int, secondary: re.Pattern[str]) -> str:
    """The last line of a log, after byte `offset`, that names an exception, without the log's own prefix; "" if none does.

    Lines that match `secondary` only say that something failed elsewhere, and are skipped.
    """
    for line in reversed(tail(log, offset)):
        if (exception := EXCEPTION_LINE.match(line)) and not secondary.search(line):
            return single_line(exception[1])
    return ""


def tail(log: Path, offset: int) -> list[str]:
    """The stripped, non-empty lines after byte `offset` of a log, of at most its last 64 KiB. [] when there is no file."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return []


def describe_error(error: BaseException) -> str:
    """An exception on one line. A pydantic error is described by its problems, not by their number."""
    list_problems = getattr(error, "errors", None)
    if callable(list_problems):
        with contextlib.suppress(Exception):
            return single_line("; ".join(str(problem["msg"]) for problem in list_problems()))
    return single_line(f"{type(error).__name__}: {error}")


def single_line(text: str) -> str:
    """The text on one line, without control characters, cut at 300 characters."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 3] + "..."
