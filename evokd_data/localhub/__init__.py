"""The local Hub: git repositories and large files behind the HTTP API of the Hugging Face Hub.

Unmodified `huggingface_hub` and `datasets` clients talk to it. It knows nothing of the rest of the toolkit.

    with localhub.running(root) as hub:
        HfApi(endpoint=hub.endpoint, token=hub.token).create_repo(...)

Importing this package costs nothing: the server's dependencies (extra `[hub]`) load when a server starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from evokd_data.localhub.child import RunningHub


def running(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    start_timeout_s: float = 60,
    program: Sequence[str] | None = None,
) -> AbstractContextManager[RunningHub]:
    """A server for `root` in a child process. It answers when the block is entered and is gone when it is left.

    Any number of servers, in any number of processes of one machine, may serve the same root at once. `program` is the
    command of the child, by default `python -m evokd_data.localhub`. A program that puts middleware around the Hub calls
    `__main__.main`, which takes the same options.

    Raises HubDidNotStart when the server does not answer within `start_timeout_s` seconds.
    """
    from evokd_data.localhub.child import running as start

    return start(root, host=host, port=port, start_timeout_s=start_timeout_s, program=program)
