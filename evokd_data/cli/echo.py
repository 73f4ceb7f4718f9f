"""How every command prints: nothing that could act on the terminal gets through, and no secret. No other module prints."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import IO, Any

import click

from evokd_data.printable import printable
from evokd_data.redaction import redact

QUIET, LOG_JSON = "evokd_data.quiet", "evokd_data.log_json"
"""Keys in the meta of click's context, set by the options --quiet and --log-json."""


def _meta(key: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(key))


def is_quiet() -> bool:
    """Whether only results and errors are wanted."""
    return _meta(QUIET)


def logs_json() -> bool:
    """Whether stderr is read by a program, as one JSON object a line."""
    return _meta(LOG_JSON)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text on stdout, or on stderr: there as --quiet and --log-json have it."""
    if err and is_quiet():
        return
    if err and logs_json():
        echo_event("message", text=text)
    else:
        click.echo(printable(text), err=err, nl=nl)


def echo_event(event: str, **content: Any) -> None:
    """Print a line of JSON on stderr, of ASCII alone: `time`, `event`, `content`."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    shown = {key: redact(value) if isinstance(value, str) else value for key, value in content.items()}
    click.echo(json.dumps({"time": moment, "event": event, **shown}, default=str), err=True)


class _Failure(click.ClickException):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._as_json = logs_json()

    def show(self, file: IO[Any] | None = None) -> None:
        """See click."""
        if self._as_json:
            echo_event("error", text=self.message)
        else:
            super().show(file)


def failure(error: object) -> click.ClickException:
    """The error that ends a command with this message and exit code 1."""
    return _Failure(printable(redact(str(error))))


class PrintableFormatter(logging.Formatter):
    """Lines of a log that goes to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        return printable(redact(super().format(record)))
