"""A server in a child process, which ends when its parent ends. Standard library only."""

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

_STOP_TIMEOUT_S = 10


class HubDidNotStart(RuntimeError):
    """The child ended, or printed no address in time. The message holds the end of its log."""


@dataclass(frozen=True)
class RunningHub:
    """A server in a child process. `token` may write to every repository; only this server accepts it."""

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
        # The child reads from a pipe. The kernel closes the pipe when this process ends, also when it is killed, and
        # that tells the child to end. The child has its own session, so that Ctrl-C reaches only the parent: the parent
        # may still have a round to publish.
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
        with suppress(BrokenPipeError):  # a child that has ended is reported by the next line
            # The token goes through the pipe, because every user of the machine can read a command line.
            child.stdin.write(f"{token}\n".encode())
            child.stdin.flush()
        yield RunningHub(_endpoint(child, server_log, start_timeout_s), token, child.pid, root)
    finally:
        with suppress(BrokenPipeError):
            child.stdin.close()
        try:
            child.wait(_STOP_TIMEOUT_S)
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
        raise HubDidNotStart(_start_failure(server_log))
    return line


def _start_failure(server_log: Path) -> str:
    return f"the local Hub did not start; {server_log} ends with:\n{server_log.read_text(errors='replace')[-2000:]}"


def _environment() -> dict[str, str]:
    """The environment of the child, in which it imports the same package as this process does."""
    package_parent = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([package_parent, *([path] if path else [])])}


def read_token() -> str:
    """In the child: the first line of stdin. Reads no byte more, so that `parent_ended` sees what follows."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def parent_ended() -> None:
    """In the child: return when the parent has ended.

    The end of stdin tells it, and so does another parent id: a process that the parent forked may hold the pipe open after
    the parent has ended.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 1.0)
        if readable and not os.read(0, 4096):
            return
