"""Where the runs of this machine were published: a repository's name does not say on which Hub it is."""

from __future__ import annotations

from pathlib import Path

from evokd_data.errors import WorkspaceError
from evokd_data.storage.workspace import Workspace, read_json

RUNS = Path("runs")


def endpoint_of(repo: str, runs: Path = RUNS) -> tuple[str, Path] | None:
    """(endpoint, run folder) of the run below `runs` that published last to `repo`; None when none did.

    The endpoint is a URL, or "local". Files that cannot be read are passed over.
    """
    newest: tuple[float, str, Path] | None = None
    for path in runs.glob("*/round-*/revision.json"):
        try:
            revision = read_json(path)
            endpoint, changed = revision.get("endpoint"), path.stat().st_mtime
        except (WorkspaceError, OSError, AttributeError):
            continue
        is_newer = newest is None or changed > newest[0]
        if revision.get("repo") == repo and isinstance(endpoint, str) and is_newer:
            newest = changed, endpoint, Workspace(path.parent.parent).root
    return newest and newest[1:]
