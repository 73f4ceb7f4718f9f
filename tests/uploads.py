"""What the Hub receives for one more round, beside the files that the round's commit adds or changes."""

from __future__ import annotations

from typing import Any

from faulty import hurried, publish
from scenarios import Place
from witness import Held

ROWS, WORDS, SHARD = 1000, 28, 64
"""1000 texts of some 200 characters, in the shards of a real recipe."""


def measure(place: Place, *, xet: bool, rows: int = ROWS, rounds: int = 5) -> dict[str, Any]:
    """Rounds 1 to `rounds` after the seeds; the last is measured. Bytes of request bodies, of all calls."""
    hub, repo = place.hub, f"org/upload-{rows}-{'xet' if xet else 'lfs'}"
    run = place.runs.get(f"{rows} rows", rounds=rounds + 1, rows=rows, words=WORDS, shard=SHARD)
    with hurried():
        publish(hub, run, repo, rounds, xet=xet)
        before = hub.received()
        publish(hub, run, repo, rounds + 1, xet=xet)
    sent = hub.received() - before
    held = Held(hub.root, repo)
    old, new = (held.files(commit) for commit in held.commits[-2:])
    own = sum(new[path][1] for path in new if old.get(path) != new[path])
    return {
        "by": "Xet" if xet else "LFS",
        "rows": rows,
        "round_bytes": own,
        "sent_bytes": sent,
        "ratio": round(sent / own, 3),
    }
