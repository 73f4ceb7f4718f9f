"""What a run reports while it works. The library calls these methods; the command line implements them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evokd_data.records import Sample


class Totals(NamedTuple):
    """Running totals of the round being generated: `decided` of `asked` texts were kept or rejected so far.

    `rejected` counts by reason; `tokens` counts completion tokens. Of `compared` texts the teacher's label could be compared with the
    one that was asked for, and `agreed` have it. `newest` holds the last few that were kept, the newest last.
    """

    decided: int
    asked: int
    kept: int
    rejected: Mapping[str, int]
    tokens: int
    agreed: int = 0
    compared: int = 0
    newest: Sequence[Sample] = ()


class Progress:
    """Reports nothing. Subclasses display what they like; no method may change the results of a run."""

    def stage(self, name: str, round: int, **facts: Any) -> None:
        """A stage begins. `facts` are counts to display."""

    def generated(self, totals: Totals) -> None:
        """The totals after another text of the round."""

    def answered(self, count: int, total: int) -> None:
        """Running count of a stage that only asks: `count` of `total` prompts are answered."""

    def waits(self, for_what: str, log: Path) -> None:
        """A wait begins that tells nothing but what it writes into `log`. It ends when another method is called."""

    def done(self, name: str, round: int, **facts: Any) -> None:
        """A stage ended, or an earlier process had done it already (`facts["already"]`)."""

    def note(self, text: str) -> None:
        """One line about an event: the engine starts, a request is repeated, the run waits."""


class LoggedProgress(Progress):
    """Writes stages and notes to the log `evokd_data.progress`, at level INFO: what a program sees that asks for nothing else."""

    def __init__(self) -> None:
        self._log = logging.getLogger(__name__)

    def stage(self, name: str, round: int, **facts: Any) -> None:
        """See Progress."""
        self._log.info("round %d: %s %s", round, name, facts or "")

    def waits(self, for_what: str, log: Path) -> None:
        """See Progress."""
        self._log.info("%s; its log: %s", for_what, log)

    def done(self, name: str, round: int, **facts: Any) -> None:
        """See Progress. The metrics of a round are too long for a line."""
        short = {key: value for key, value in facts.items() if key != "metrics"}
        self._log.info("round %d: %s is done %s", round, name, short or "")

    def note(self, text: str) -> None:
        """See Progress."""
        self._log.info("%s", text)
