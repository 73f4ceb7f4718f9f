"""Samples and rejections of a run as rows for people: what became of the texts of a round, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from evokd_data.errors import WorkspaceError
from evokd_data.generation.filters import REASONS
from evokd_data.registry import nearest
from evokd_data.storage.shards import read_rejections, read_table
from evokd_data.storage.workspace import RoundFolder, Workspace

DUPLICATES = ("duplicate", "near_duplicate")


def newest_round(workspace: Workspace, index: int | None) -> RoundFolder:
    """The round asked for; with None the newest that has texts of the teacher. Raises WorkspaceError when there is none."""
    rounds = {folder.index: folder for folder in workspace.rounds()}
    if index is None:
        written = [number for number, folder in rounds.items() if folder.shard_files() and number]
        if not written:
            raise WorkspaceError(f"{workspace.root}: no round has texts of the teacher; next: evokd-data run RECIPE")
        index = written[-1]
    if index not in rounds:
        raise WorkspaceError(f"{workspace.root}: has no round {index}; it has {', '.join(map(str, rounds))}")
    return rounds[index]


def samples(folder: RoundFolder, count: int) -> list[dict[str, Any]]:
    """Up to `count` samples, evenly spread over the round: text, target as one text, label asked for, difficulty, weakness, weight."""
    rows = [row for path in folder.shard_files() for row in read_table(path).to_pylist()]
    return [
        {
            "text": row["text"],
            "target": shown_target(row),
            **{key: row[key] for key in ("intended", "difficulty", "weakness")},
        }
        for row in rows[:: max(1, -(-len(rows) // count))]
    ]


def shown_target(row: Mapping[str, Any]) -> str:
    """The label of a stored row, or its spans, as one text."""
    return row.get("label") or "; ".join(f"{span['surface']} ({span['type']})" for span in row.get("spans") or ())


def rejections(workspace: Workspace, folder: RoundFolder, count: int, reason: str = "") -> list[dict[str, str]]:
    """The first `count` rejections, of one reason or of all: reason, text, label asked for, detail. For a duplicate the detail is the
    text that it repeats.

    Raises WorkspaceError for a reason that does not exist, naming the nearest.
    """
    if reason and reason not in REASONS:
        raise WorkspaceError(f"--rejections: {reason!r} is no reason{nearest(reason, REASONS)}")
    dropped = (r for r in read_rejections(folder.rejection_files()) if not reason or r.reason == reason)
    shown = list(islice(dropped, count))
    repeated = {repeated_id(rejection.detail) for rejection in shown if rejection.reason in DUPLICATES}
    texts = texts_by_id(workspace, repeated)
    return [
        {
            "reason": rejection.reason,
            "text": rejection.text,
            "intended": rejection.origin.intended,
            "detail": texts.get(repeated_id(rejection.detail), rejection.detail),
        }
        for rejection in shown
    ]


def repeated_id(detail: str) -> str:
    """The id of the sample that a duplicate repeats, from the detail of its rejection."""
    return detail.partition(" ")[0]


def texts_by_id(workspace: Workspace, ids: Iterable[str]) -> dict[str, str]:
    """Id -> text, for those samples of any round."""
    missing, texts = set(ids), dict[str, str]()
    for folder in workspace.rounds():
        for path in folder.shard_files():
            if not missing:
                return texts
            columns = read_table(path).select(["id", "text"])
            for batch in columns.to_batches():
                for row in batch.to_pylist():
                    if row["id"] in missing:
                        texts[row["id"]] = row["text"]
                        missing.discard(row["id"])
    return texts
