"""What a card needs of each round, and which of its rows are valid at the newest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evokd_data import repo_layout
from evokd_data.repo_layout import round_tag


@dataclass(frozen=True)
class RoundFacts:
    """What the card needs of one round. `manifest` is the published form; its `files` need not contain the card yet."""

    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Mapping[str, Any]

    @property
    def index(self) -> int:
        """The round's number."""
        return self.manifest["round"]

    @property
    def tag(self) -> str:
        """The round's tag, such as "round-003"."""
        return round_tag(self.index)

    @property
    def rows(self) -> int:
        """The number of the round's samples."""
        return self.manifest["identity"]["rows"]

    @property
    def corrections(self) -> Mapping[str, int] | None:
        """{"accept", "relabel", "reject"} of a corrected round, otherwise None."""
        counts: Mapping[str, int] | None = self.manifest["totals"].get("corrections")
        return counts

    @property
    def begins_branch(self) -> bool:
        """Whether it is the first own round of a branch."""
        return "from" in self.manifest["identity"]

    def parquet_files(self, kind: str) -> list[str]:
        """The round's Parquet files of one kind (`repo_layout.DATA`, ...), in row order."""
        return sorted(path for path in self.manifest["files"] if path.startswith(f"{kind}/{self.tag}/"))


def live_rows(rounds: Sequence[RoundFacts]) -> int:
    """The rows of all rounds that are not withdrawn."""
    return sum(facts.rows - facts.manifest["identity"].get("withdrawn", 0) for facts in rounds)


def live_files(rounds: Sequence[RoundFacts], of: Sequence[RoundFacts]) -> dict[str, Any]:
    """Path -> entry of the data files of some rounds, as they are valid at the newest of `rounds`."""
    files_of_rounds = [facts.manifest["files"] for facts in rounds]
    entries = {path: entry for files in files_of_rounds for path, entry in files.items()}
    return {path: entries[path] for path in repo_layout.live_files(files_of_rounds, [facts.index for facts in of])}
