"""Corrected rounds: those of a person's corrections, in which no teacher is asked.

The `plan.json` of such a round has two more keys:

    corrections  [{"round", "id", "action", "from", "to", "becomes", "rule"}]   in the order of the rows that they are about
    through      the number of the last record of `corrections.jsonl` that the round has taken up

`round` and `id` name a sample of an earlier round. `action` is "accept" (a person confirms the row), "relabel" (the row is withdrawn,
and the round's shard holds its text with the target `to`, as the sample `becomes`) or "reject" (the row is withdrawn). `rule` is the
number of the rule that decided it, or None. A withdrawn row stays in its shard, where every digest covers it; students,
demonstrations and later readers pass it over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evokd_data.storage.shards import ShardedSamples, Withdrawn
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json

if TYPE_CHECKING:
    from evokd_data.tasks import Task

ACCEPT, RELABEL, REJECT = ACTIONS = ("accept", "relabel", "reject")
REVIEW = "review"
"""The `strategy` of samples that a person has relabelled."""


def corrections_of(folder: RoundFolder) -> list[dict[str, Any]] | None:
    """The corrections of a round; None for a round of another kind, or one that has no plan yet."""
    return read_json(folder.plan).get("corrections") if folder.index and folder.plan.exists() else None


def withdrawn_by(corrections: Iterable[Mapping[str, Any]]) -> Withdrawn:
    """The rows that these corrections withdraw."""
    return frozenset((entry["round"], entry["id"]) for entry in corrections if entry["action"] != ACCEPT)


def withdrawn_rows(workspace: Workspace, last: int) -> Withdrawn:
    """The rows that the rounds up to `last` have withdrawn."""
    rows: set[tuple[int, str]] = set()
    for folder in workspace.before(last + 1):
        rows |= withdrawn_by(corrections_of(folder) or ())
    return frozenset(rows)


def live_samples(task: Task, workspace: Workspace, index: int) -> ShardedSamples:
    """The samples of all rounds before `index` that no round up to `index` has withdrawn, in index order."""
    return ShardedSamples(task, workspace.earlier_shards(index), withdrawn_rows(workspace, index))


def counts(corrections: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """{"accept", "relabel", "reject"}: how many corrections of each kind."""
    actions = Counter(entry["action"] for entry in corrections)
    return {action: actions[action] for action in ACTIONS}
