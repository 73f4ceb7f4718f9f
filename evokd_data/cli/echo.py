"""How every command prints: nothing that could act on the terminal gets through, and no secret. No other module prints."""

from __future__ import annotations

import logging

import click

from evokd_data.printable import printable
from evokd_data.redaction import redact


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text on stdout, or on stderr."""
    click.echo(printable(text), err=err, nl=nl)


def failure(error: object) -> click.ClickException:
    """The error that ends a command with this message and exit code 1."""
    return click.ClickException(printable(redact(str(error))))


class PrintableFormatter(logging.Formatter):
    """Lines of a log that goes to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        return printable(redact(super().format(record)))
