"""Runs whose disk fails, derived from a seed, and a check of what they come to. See bench/faults.py.

    play(17, crashes)    the same fault each time; `crashes` holds the undisturbed run (tests/support/crash_points.py)

A change of the disk fails once, or all of them from some moment on, as on a full disk; or no file may grow beyond a size, which
also writers in C++ meet. The command ends with one message that names a file, never with a traceback; rerun on a sound disk,
its rows are those of the undisturbed run.
"""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

from evokd_data.cli import cli
from evokd_data.storage.workspace import Workspace
from tests.support.crash_points import Crashes, life
from tests.support.disk_points import watch
from tests.support.example_task import contents

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)
NAMED_FILE = re.compile(r"\[Errno \d+\] [^:]+: '.+'")
LARGEST_FILE = 60_000
"""Bytes; larger than any file of these runs."""


@dataclass
class Outcome:
    """`kind`: what was done to the disk. `status`: the command's exit code. `wrong`: the rows after the rerun are others."""

    seed: int
    kind: str
    status: int = 0
    message: str = ""
    wrong: int = 0
    violations: list[str] = field(default_factory=list)


def play_in(folder: Path, seed: int) -> Outcome:
    """As `crash_points.play_in`."""
    return play(seed, Crashes.of(0, folder))


def play(seed: int, crashes: Crashes) -> Outcome:
    """Work a run on a failing disk, then on a sound one, and compare it with the undisturbed run."""
    chance = random.Random(seed)
    kind = chance.choice(("once", "from then on", "small files"))
    number, code = chance.randint(1, crashes.points), chance.choice(ERRORS)
    size = chance.randint(0, LARGEST_FILE) if chance.random() < 0.5 else chance.randint(0, 4000)
    name = f"files of {size} bytes" if kind == "small files" else f"{errno.errorcode[code]} {kind}, change {number}"
    outcome = Outcome(seed, name)
    runs = crashes.folder / f"storage-{seed}"
    runs.mkdir()

    def break_disk() -> None:
        if kind == "small files":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return

        def act(current: int, name: str | None) -> None:
            if current == number or (current > number and kind == "from then on"):
                raise OSError(code, os.strerror(code), *([name] if name else []))

        watch(act)

    outcome.status, outcome.message = command(crashes, runs, break_disk)
    outcome.violations += problems(outcome.status, outcome.message, runs)
    status, _ = life(crashes, runs)
    workspace = Workspace(runs / crashes.recipe.name)
    outcome.wrong = int(bool(status) or contents(workspace) != crashes.contents)
    if outcome.wrong:
        outcome.violations.append(f"rerun on a sound disk: status {status}, other rows")
    shutil.rmtree(runs)
    return outcome


def command(crashes: Crashes, runs: Path, break_disk: Callable[[], None]) -> tuple[int, str]:
    """`evokd-data run` in a fork, on a broken disk. Its exit code and what it printed; 70 and the traceback when it failed as
    no command should."""
    reader, writer = os.pipe()
    write = os.write
    child = os.fork()
    if not child:
        overrides = [part for setting in crashes.settings for part in ("--set", setting)]
        status, text = 70, ""
        try:
            break_disk()
            result = CliRunner().invoke(cli, ["run", str(crashes.recipe.path), "--runs", str(runs), *overrides])
            status, text = result.exit_code, result.stderr
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                status, text = 70, f"{type(result.exception).__name__}: {result.exception}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        write(writer, f"{status} {text}"[:60_000].encode("utf-8", "replace"))
        os._exit(0)
    os.close(writer)
    chunks = []
    while chunk := os.read(reader, 65536):
        chunks.append(chunk)
    os.close(reader)
    os.waitpid(child, 0)
    status, _, text = b"".join(chunks).decode("utf-8", "replace").partition(" ")
    return int(status or -1), text


def problems(status: int, message: str, runs: Path) -> list[str]:
    """What is wrong with how a command ended."""
    if status not in (0, 1):
        return [f"ended with {status}: {message[-500:]}"]
    last = (message.strip().splitlines() or [""])[-1]
    if status and not (last.startswith("Error: ") and (str(runs) in last or NAMED_FILE.search(last))):
        return [f"the message names no file: {last!r}"]
    return []
