"""What a run tells about itself while it works. The library calls these; the command line draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Progress:
    """Silent. Subclasses show what they like; nothing here may change what is made."""

    def stage(self, name: str, round: int, **facts: Any) -> None:
        """A stage begins; `facts` are counts worth a line."""

    def generated(self, asked: int, of: int, kept: int, rejected: Mapping[str, int], tokens: int) -> None:
        """Running totals of the round being generated; `asked` counts texts whose fate is decided."""

    def done(self, name: str, round: int, **facts: Any) -> None:
        """A stage ended, or was found done before (`facts["already"]`)."""

    def note(self, text: str) -> None:
        """Something worth a line: the engine starts, a retry, a wait."""
