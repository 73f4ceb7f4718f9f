"""What reading a stranger's repository does to this machine: files opened, addresses asked, processes started, modules loaded.

Two tracers watch. An audit hook of this process sees what Python does, reading by reading. Where strace is installed, it sees what
the whole process asks of the system, whichever library asks.

    python -m tests.support.stranger_readings CONFIG      reads as CONFIG (JSON of `Reading`) says; a program to be traced
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from evokd_data.cli import cli
from evokd_data.errors import EvokdError
from evokd_data.loop.rounds import open_run
from evokd_data.recipe import load
from evokd_data.revisions.diff import diff
from evokd_data.revisions.load import list_rounds, load_round
from evokd_data.revisions.replay import replay
from evokd_data.revisions.reproduce import reproduce
from evokd_data.revisions.verify import verify
from tests.support import ROOT
from tests.support.example_task import QUICK
from tests.support.published_runs import Played, republish
from tests.support.strangers import LURE, STRANGERS

CANARY = "hf_canaryCanaryCanaryCanaryCanary"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
CPU_S = 30.0
"""Seconds of processor time of one reading."""
READABLE = (
    "/usr", "/lib", "/proc", "/sys", "/dev", "/etc/ssl", "/etc/localtime", "/etc/mime.types", "/etc/apache2", "/etc/httpd",
    "/etc/ld.so", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/hosts", "/etc/resolv.conf", "/etc/gai.conf", "/etc/passwd",
    "/etc/pki", "/etc/debian_version", "/etc/os-release", "/etc/lsb-release", "/etc/crypto-policies",
)  # fmt: skip
"""Where a process may read whatever a repository says: its program, its libraries and their settings, the system's name lookup."""


@dataclass(frozen=True)
class Reading:
    """A repository to read, and where the user's own recipe, Hub and cache are."""

    repo: str
    endpoint: str
    token: str
    recipe: str
    folder: str


@dataclass
class Outcome:
    """`acted`: what reading a stranger's repository did to this machine."""

    seed: int
    stranger: str
    repo: str = ""
    acted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def readings(reading: Reading) -> dict[str, Callable[[], Any]]:
    """Every way to read a repository, by its command."""
    repo, folder = reading.repo, Path(reading.folder)
    at: dict[str, Any] = {"endpoint": reading.endpoint, "cache_dir": folder / "cache"}

    def run_from() -> None:
        own = (*QUICK, "publish.repo=org/mine", f"publish.endpoint={reading.endpoint}")
        with open_run(load(Path(reading.recipe), own), folder / "runs", f"{repo}@round-001"):
            pass

    def printed(*arguments: object) -> None:
        """The command as it prints on a terminal."""
        result = CliRunner().invoke(cli, [*map(str, arguments), "--endpoint", reading.endpoint], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if CONTROL.search(result.output):
            raise AssertionError(f"a control character on the terminal: {result.output[:200]!r}")
        if result.exit_code:
            raise EvokdError(result.output)

    return {
        "rounds, printed": lambda: printed("rounds", repo),
        "diff, printed": lambda: printed("diff", repo, 0, 1),
        "rounds": lambda: list_rounds(repo, **at),
        "load": lambda: load_round(repo, 1, **at),
        "verify": lambda: verify(repo, 1, **at),
        "diff": lambda: diff(repo, 0, 1, **at),
        "replay": lambda: replay(repo, 1, **at),
        "reproduce": lambda: reproduce(repo, 1, out=folder / "out", limit=2, **at),
        "run --from": run_from,
    }


_acts: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _acts is None:
        return
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        _acts.append(f"{event} {arguments[0] if arguments else ''}")
    elif event == "socket.getaddrinfo" and str(arguments[0]) not in ("127.0.0.1", "::1", "localhost"):
        _acts.append(f"look up {arguments[0]}")
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        _acts.append(f"connect {arguments[1][0]}")
    elif event == "open" and isinstance(arguments[0], str) and arguments[0].startswith("/"):
        _acts.append(f"open {arguments[0]}")
    elif event == "import" and str(arguments[0]).startswith("evil"):
        _acts.append(f"import {arguments[0]}")


_hooked = False


def acts() -> list[str]:
    """Begins a list of what this process does from now on, and returns it."""
    global _acts, _hooked
    if not _hooked:  # a hook cannot be taken away again
        sys.addaudithook(_note)
        _hooked = True
    _acts = []
    return _acts


def published_by_stranger(run: Played, name: str, into: str = "") -> str:
    """A repository that the stranger of this name published."""
    return republish(run, into or re.sub(r"\W+", "-", name), 1, STRANGERS[name])


def play(seed: int, run: Played, folder: Path) -> Outcome:
    """Read one stranger's repository in every way."""
    global _acts
    name = list(STRANGERS)[seed]
    outcome = Outcome(seed, name)
    repo = outcome.repo = published_by_stranger(run, name)
    # The user is logged in and has secrets in the environment: what a stranger would like to be sent.
    os.environ.update(HF_TOKEN=run.server.token, EVOKD_CANARY=CANARY)
    reading = Reading(
        repo, run.server.endpoint, run.server.token, str(run.recipe.path), str(folder / f"stranger-{seed}")
    )
    try:
        for command, read in readings(reading).items():
            done, began = acts(), time.process_time()
            try:
                read()
            except EvokdError as error:
                outcome.refused.append(command)
                if CANARY in str(error) or run.server.token in str(error):
                    outcome.violations.append(f"{command}: a secret in its message")
            except Exception as error:
                outcome.violations.append(f"{command}: {type(error).__name__}: {str(error)[:300]}")
            if (seconds := time.process_time() - began) > CPU_S:
                outcome.violations.append(f"{command}: {seconds:.0f} s of processor time")
            outcome.acted += [f"{command}: {act}" for act in done if not allowed(act, reading, run)]
    finally:
        _acts = None
        del os.environ["EVOKD_CANARY"]
    outcome.violations += outcome.acted
    return outcome


def allowed(act: str, reading: Reading, run: Played) -> bool:
    """Whether reading may do this: open the program's files, the user's own run and the cache, and ask the Hub."""
    verb, _, what = act.partition(" ")
    if verb == "connect":
        return what in ("127.0.0.1", "::1")
    ours = (
        reading.folder, str(run.workspace.root), str(Path(reading.recipe).parent), tempfile.gettempdir(),
        str(Path.home() / ".cache" / "huggingface"), os.environ["HF_HOME"], os.environ.get("HF_HUB_CACHE", "\0"),
        str(ROOT), sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1]),
        *filter(None, sys.path),
    )  # fmt: skip
    return verb == "open" and what != LURE and what.startswith((*ours, *READABLE))


SYSTEM_CALLS = "execve,execveat,connect,open,openat,openat2,creat"
_CALL = re.compile(r"^(?:\d+ +)?(?P<call>\w+)\((?P<arguments>.*)")


def has_strace() -> bool:
    """Whether strace is installed and may trace here."""
    command = shutil.which("strace")
    return command is not None and subprocess.run([command, "-f", "true"], capture_output=True).returncode == 0


def strace(run: Played, repos: Sequence[str], folder: Path) -> list[str]:
    """What the system was asked for by a process that reads all these repositories, and should not be."""
    config, log = folder / "readings.json", folder / "strace.log"
    entries = [
        asdict(Reading(repo, run.server.endpoint, run.server.token, str(run.recipe.path), str(folder / str(number))))
        for number, repo in enumerate(repos)
    ]
    config.write_text(json.dumps(entries), encoding="utf-8")
    traced = ["strace", "-f", "-qq", "-s", "400", "-e", f"trace={SYSTEM_CALLS}", "-e", "signal=none", "-o", str(log)]
    environment = {**os.environ, "HF_TOKEN": run.server.token, "EVOKD_CANARY": CANARY}
    done = subprocess.run(
        [*traced, sys.executable, "-m", "tests.support.stranger_readings", str(config)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    problems = [f"the traced process ended with {done.returncode}: {done.stderr[-500:]}"] if done.returncode else []
    if CANARY in done.stdout + done.stderr:
        problems.append("a secret was printed")
    reading = Reading(**entries[0])
    reading = Reading(reading.repo, reading.endpoint, reading.token, reading.recipe, str(folder))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    acts_seen = [act for line in lines[1:] if (act := _system_act(line)) and not allowed(act, reading, run)]
    return [*problems, *sorted(set(acts_seen))]


def _system_act(line: str) -> str:
    """A traced call in the words of the audit hook; "" for one that concerns nobody, such as a file that is not there."""
    match = _CALL.match(line)
    if match is None:
        return ""
    call, arguments = match["call"], match["arguments"]
    if call.startswith("exec"):
        return f"exec {arguments[:200]}"
    if call == "connect":
        address = re.search(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', arguments)
        return f"connect {address[1]}" if address else ""
    path = re.search(r'"([^"]*)"', arguments)
    return f"open {path[1]}" if path and path[1].startswith("/") else ""


def main() -> None:
    """The traced program: read every repository in every way; what is refused is refused."""
    for entry in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        for read in readings(Reading(**entry)).values():
            try:
                read()
            except EvokdError:
                continue


if __name__ == "__main__":
    main()
