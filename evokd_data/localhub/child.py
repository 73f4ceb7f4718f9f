"""A server in a child process that cannot outlive its parent. Standard library only."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_END_S = 10


class HubDidNotStart(RuntimeError):
    """The child ended, or stayed silent; the message holds the end of its log."""


@dataclass(frozen=True)
class RunningHub:
    """`token` may write everywhere and is good for this server only."""

    endpoint: str
    token: str
    pid: int
    root: Path


@contextmanager
def running(
    root: Path, *, host: str, port: int, start_timeout_s: float, program: Sequence[str] | None
) -> Iterator[RunningHub]:
    """See `evokd_data.localhub.running`."""
    root = Path(root).absolute()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [*(program or (sys.executable, "-m", "evokd_data.localhub")), "--root", str(root)]
    command += ["--host", host, "--port", str(port), "--with-parent"]
    token = f"hub_{secrets.token_urlsafe(32)}"
    server_log = root / "server.log"
    with server_log.open("ab") as errors:
        # The child holds the other end of its stdin: when this process ends, however it ends, the pipe does too.
        # A session of its own: Ctrl-C is for the parent, which may still have a round to publish.
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            start_new_session=True,
        )
    assert child.stdin is not None and child.stdout is not None
    try:
        with suppress(BrokenPipeError):  # if it ended already, the next line says why
            # Through the pipe, not the command line: anybody on the machine can read that.
            child.stdin.write(f"{token}\n".encode())
            child.stdin.flush()
        yield RunningHub(_endpoint(child, server_log, start_timeout_s), token, child.pid, root)
    finally:
        with suppress(BrokenPipeError):
            child.stdin.close()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _endpoint(child: subprocess.Popen[bytes], server_log: Path, timeout_s: float) -> str:
    assert child.stdout is not None
    readable, _, _ = select.select([child.stdout], [], [], timeout_s)
    line = child.stdout.readline().decode().strip() if readable else ""
    if not line:
        child.kill()
        raise HubDidNotStart(_why(server_log))
    return line


def _why(server_log: Path) -> str:
    return f"the local Hub did not start; {server_log} ends with:\n{server_log.read_text(errors='replace')[-2000:]}"


def _environment() -> dict[str, str]:
    """The child imports this very package, also when the parent found it through sys.path."""
    package_parent = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([package_parent, *([path] if path else [])])}


def read_token() -> str:
    """In the child: the first line of the pipe. Unbuffered, so that `parent_ended` sees all that follows."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def parent_ended() -> None:
    """In the child: returns once the parent is gone.

    Beside the pipe this watches the parent's id: a process the parent forked may hold the pipe open after it died.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 1.0)
        if readable and not os.read(0, 4096):
            return
