"""The publisher contract: a bundle becomes one revision, exactly once; a revision comes back as files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

from evokd_data.records import Bundle, Revision

PUBLISHERS = {
    "hub": "evokd_data.publishers.hub:Hub",
}


class Publisher(Protocol):
    """One path: the Hub's API, wherever the endpoint points."""

    name: ClassVar[str]

    def publish(self, bundle: Bundle) -> Revision:
        """One commit and one tag for the bundle, whatever happened before; a rerun finds them and does nothing.

        Raises RevisionConflict when the repository moved on without us, PublishError when the Hub cannot be used.
        """

    def fetch(self, repo: str, revision: str, patterns: list[str], into: Path | None = None) -> tuple[str, Path]:
        """The commit a tag or branch names now, and a local folder with that commit's files matching `patterns`."""
