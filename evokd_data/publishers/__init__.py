"""The publisher contract: it publishes a bundle as one revision, exactly once, and fetches the files of a revision."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

from evokd_data.records import Bundle, Revision

PUBLISHERS = {
    "hub": "evokd_data.publishers.hub:Hub",
}


class Publisher(Protocol):
    """A publisher speaks the Hub's API, whatever server the endpoint names."""

    name: ClassVar[str]

    def publish(self, bundle: Bundle) -> Revision:
        """Publish the bundle as one commit and one tag, whatever an earlier attempt did. Does nothing when both exist.

        Raises RevisionConflict when another client published to the repository, PublishError when the Hub cannot be used.
        """

    def fetch(self, repo: str, revision: str, patterns: list[str], into: Path | None = None) -> tuple[str, Path]:
        """The commit that a tag or branch names now, and a local folder with that commit's files that match `patterns`."""
