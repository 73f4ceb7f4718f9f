"""What a run reports while it works. The library calls these methods; the command line implements them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Progress:
    """Reports nothing. Subclasses display what they like; no method may change the results of a run."""

    def stage(self, name: str, round: int, **facts: Any) -> None:
        """A stage begins. `facts` are counts to display."""

    def generated(self, asked: int, total: int, accepted: int, rejected: Mapping[str, int], tokens: int) -> None:
        """Running totals of the round being generated: `asked` of `total` texts were accepted or rejected so far.

        `rejected` counts by reason; `tokens` counts completion tokens.
        """

    def answered(self, count: int, total: int) -> None:
        """Running count of a stage that only asks: `count` of `total` prompts are answered."""

    def done(self, name: str, round: int, **facts: Any) -> None:
        """A stage ended, or an earlier process had done it already (`facts["already"]`)."""

    def note(self, text: str) -> None:
        """One line about an event: the engine starts, a request is repeated, the run waits."""
