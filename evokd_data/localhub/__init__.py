"""The local Hub: git repositories and large files behind the Hugging Face Hub's own HTTP API.

Unmodified `huggingface_hub` and `datasets` clients talk to it; nothing here knows of the rest of the toolkit.

    with localhub.running(root) as hub:
        HfApi(endpoint=hub.endpoint, token=hub.token).create_repo(...)

Importing this package costs nothing: the server's dependencies (extra `[hub]`) load when a server starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from evokd_data.localhub.child import RunningHub


def running(
    root: Path, *, faults: Path | None = None, host: str = "127.0.0.1", port: int = 0, start_timeout_s: float = 60
) -> AbstractContextManager[RunningHub]:
    """A server for `root` in a child process, answering when the block is entered and gone when it is left.

    `faults` is a JSON file of rules (see `faults.py`); giving one, even an empty list, opens `/_faults`.
    Any number of servers, in any number of processes of one machine, may serve the same root at once.
    """
    from evokd_data.localhub.child import running as start

    return start(root, faults=faults, host=host, port=port, start_timeout_s=start_timeout_s)
