"""The bytes that the Hub receives for one more round, compared with the files that the round's commit adds or changes."""

from __future__ import annotations

from typing import Any

from tests.support.fault_scenarios import Sandbox
from tests.support.faulty_hub import hurried, publish
from tests.support.repository_observer import RepoState

ROWS, WORDS, SHARD = 1000, 28, 64
"""1000 texts of some 200 characters, in the shards of a real recipe."""
MOST = 1.15
"""Bytes sent over bytes of the round. What is above 1 is the commit's own words and the card in base64, which names the columns and classes
of each round: some 30 KB here, the same for a round of any size."""


def measure(sandbox: Sandbox, *, xet: bool, rows: int = ROWS, rounds: int = 5) -> dict[str, Any]:
    """Publish rounds 1 to `rounds` after the seeds; the last is measured. Counts the bytes of all request bodies."""
    hub, repo = sandbox.hub, f"org/upload-{rows}-{'xet' if xet else 'lfs'}"
    run = sandbox.runs.get(f"{rows} rows", rounds=rounds + 1, rows=rows, words=WORDS, shard=SHARD)
    with hurried():
        publish(hub, run, repo, rounds, xet=xet)
        before = hub.received()
        publish(hub, run, repo, rounds + 1, xet=xet)
    sent = hub.received() - before
    state = RepoState(hub.root, repo)
    old, new = (state.files(commit) for commit in state.commits[-2:])
    round_bytes = sum(new[path][1] for path in new if old.get(path) != new[path])
    return {
        "by": "Xet" if xet else "LFS",
        "rows": rows,
        "round_bytes": round_bytes,
        "sent_bytes": sent,
        "ratio": round(sent / round_bytes, 3),
    }
