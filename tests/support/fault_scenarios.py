"""Publishing under faults and kills, derived from a seed, and a check of the result. See bench/faults.py.

    Scenario.of(17)                  the same faults and kills each time
    play(Scenario.of(17), sandbox)   publish, rerun until it ends, read the Hub's own files after every attempt

After each attempt, killed ones too: no tag without its commit, no commit without all of its files. At the end: one
commit and one tag for each round, and `verify` reports no problem. An attempt succeeds, or it raises one of our errors, which says
what to do.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import close_session

from evokd_data.errors import EvokdError
from evokd_data.revisions.verify import verify
from evokd_data.storage.workspace import read_json
from tests.support.faulty_hub import FaultyHub, Run, Runs, digests, hurried, publish
from tests.support.repository_observer import RepoState, half_published, not_exactly_once

CALLS = {
    "refs": "GET /api/datasets/.*/refs",
    "create": "POST /api/repos/create",
    "auth": "GET .*(/auth-check|/api/whoami)",
    "card": "POST /api/validate-yaml",
    "preupload": "POST .*/preupload/",
    "batch": "POST .*/info/lfs/objects/batch",
    "object": "PUT /_lfs/",
    "object check": "POST /_lfs/.*/verify",
    "commit": "POST /api/datasets/.*/commit/",
    "tag": "POST /api/datasets/.*/tag/",
    "paths": "POST .*/paths-info/",
    "tree": "GET .*/tree/",
    "history": "GET .*/commits/",
    "file": ".* /.*/resolve/",
}
XET_CALLS = {"xet token": "GET .*/xet-write-token/", "xorb": "POST /_cas/.*/xorbs/", "shard": "POST /_cas/.*/shards"}
FAULTS: dict[str, dict[str, Any]] = {
    **{f"status {status}": {"status": status} for status in (408, 409, 412, 500, 502, 503, 504)},
    **{f"refused {status}": {"status": status} for status in (400, 401, 403, 404, 413)},
    "429, Retry-After": {"status": 429, "headers": {"Retry-After": "7"}},
    "429, used-up window": {"status": 429, "headers": {"RateLimit": '"api";r=0;t=41'}},
    "429, hours": {"status": 429, "headers": {"Retry-After": "7200"}},
    "done, then 503": {"status": 503, "when": "after"},
    "done, then 409": {"status": 409, "when": "after"},
    "cut before": {"drop": "before"},
    "cut during": {"drop": "during"},
    "cut after": {"drop": "after"},
    "answer halved": {"body": "truncate"},
    "answer altered": {"body": "alter"},
    "time-out": {"delay_s": 0.6},
}
READ_TIMEOUT_S = 0.3  # of a client that meets a time-out
ALWAYS = None
ACTION = re.compile(
    r"\b(rerun|run: |log in|login|load it|publish to another|delete the tag|check|mend|look|wait|use one|start it|unset)\b"
)


@dataclass(frozen=True)
class Scenario:
    seed: int
    kind: str
    call: str
    rounds: int
    before: int
    """The number of rounds that are published before the faults begin."""
    xet: bool
    rules: tuple[dict[str, Any], ...] = ()
    kills: tuple[float, ...] = ()
    """Moments, as fractions of the time that publishing these rounds takes without faults."""

    @staticmethod
    def of(seed: int) -> Scenario:
        chance = random.Random(seed)
        family, number = seed % 10, seed // 10
        before = chance.choice((0, 0, 0, 1))
        xet = chance.random() < 0.25
        shape = {"rounds": before + chance.choice((1, 1, 2)), "before": before, "xet": xet}
        calls = {**CALLS, **XET_CALLS} if xet else CALLS
        if xet:
            calls = {name: calls[name] for name in calls if name not in ("batch", "object", "object check")}
        if family < 5:  # one fault, each kind in turn
            kinds = list(FAULTS)
            kind = kinds[(5 * number + family) % len(kinds)]
            call = "commit" if chance.random() < 0.3 else chance.choice(list(calls))
            if call == "create":
                shape["before"] = 0
            return Scenario(seed, kind, call, **shape, rules=(_rule(chance, calls[call], kind),))
        if family < 7:
            picked = [(chance.choice(list(calls)), chance.choice(list(FAULTS))) for _ in range(chance.randint(2, 4))]
            rules = tuple(_rule(chance, calls[call], kind) for call, kind in picked)
            return Scenario(seed, "combination", "several", **shape, rules=rules)
        if family == 7:
            kinds = chance.sample(list(FAULTS), 3)
            rules = tuple(
                {"match": ".", **FAULTS[kind], "probability": chance.choice((0.05, 0.1, 0.2)), "seed": seed + number}
                for number, kind in enumerate(kinds)
            )
            return Scenario(seed, "storm", "any", **shape, rules=rules)
        kills = tuple(round(chance.uniform(0, 1.1), 3) for _ in range(chance.randint(1, 3)))
        return Scenario(seed, "client killed" if family == 8 else "server killed", "any", **shape, kills=kills)

    @property
    def slow(self) -> bool:
        return any("delay_s" in rule for rule in self.rules)


def _rule(chance: random.Random, match: str, kind: str) -> dict[str, Any]:
    """A fault rule. Some rules never stop, and some let the first calls pass."""
    times = chance.choice((1, 1, 2, 2, 3, ALWAYS)) if "delay_s" not in FAULTS[kind] else chance.choice((1, 2))
    skip = chance.choice((0, 0, 1, 2)) if match in (CALLS["refs"], CALLS["paths"], CALLS["file"]) else 0
    return {"match": match, **FAULTS[kind], "times": times, "skip": skip, "seed": chance.randrange(1000)}


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: without error, with an error (its type; `ours` or another library's), or killed."""

    error: str = ""
    text: str = ""
    ours: bool = True
    killed: bool = False

    def unclear(self, repo: str) -> str:
        if not self.error:
            return ""
        if not self.ours:
            return f"an error that is none of ours: {self.error}: {self.text}"
        clear = repo in self.text and ACTION.search(self.text)
        return "" if clear else f"an error that does not say where, or what to do: {self.text}"


@dataclass
class Outcome:
    seed: int
    kind: str
    call: str
    fired: int = 0
    attempts: list[Ended] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def ended(self) -> str:
        if self.violations:
            return "violated"
        if not any(attempt.error or attempt.killed for attempt in self.attempts):
            return "well"
        return "after a clear error" if any(attempt.error for attempt in self.attempts) else "after a kill"


@dataclass
class Sandbox:
    """What scenarios share: a Hub, and the runs that are published to it."""

    hub: FaultyHub
    runs: Runs
    folder: Path

    @cached_property
    def lasts(self) -> float:
        """Seconds that publishing one round takes without faults."""
        publish(self.hub, self.runs.get("a"), "org/undisturbed-0", 1)
        began = time.monotonic()
        publish(self.hub, self.runs.get("a"), "org/undisturbed", 3)
        return (time.monotonic() - began) / 3


def play(scenario: Scenario, sandbox: Sandbox, attempts: int = 2) -> Outcome:
    """Publish with faults, then without. Without faults it must succeed."""
    hub, repo = sandbox.hub, f"org/s{scenario.seed}"
    outcome = Outcome(scenario.seed, scenario.kind, scenario.call)
    lasts = sandbox.lasts * (scenario.rounds - scenario.before) if scenario.kills else 0
    run = sandbox.runs.get("a")
    expected = digests(run, scenario.rounds)

    def publish_all() -> None:
        publish(hub, run, repo, scenario.rounds, xet=scenario.xet)

    def note(ended: Ended, problems: list[str]) -> None:
        outcome.attempts.append(ended)
        outcome.violations += [problem for problem in (*problems, ended.unclear(repo)) if problem]

    with hurried():
        if scenario.before:
            publish(hub, run, repo, scenario.before)
    hub.put(*scenario.rules)
    if scenario.kind == "client killed":
        for moment in scenario.kills:
            ended = in_a_process(publish_all, sandbox.folder, lambda child, at=moment: _kill(child, at * lasts))
            outcome.fired += ended.killed
            note(ended, list(half_published(RepoState(hub.root, repo), expected)))
    elif scenario.kind == "server killed":

        def kill_server(_: int) -> None:
            for moment in scenario.kills:
                time.sleep(moment * lasts)
                hub.kill()
                outcome.fired += 1

        ended = in_a_process(publish_all, sandbox.folder, kill_server, nap_s=0.3)
        note(ended, list(half_published(RepoState(hub.root, repo), expected)))
    else:
        with hurried(read_timeout_s=READ_TIMEOUT_S if scenario.slow else 120):
            for _ in range(attempts):
                ended = attempt(publish_all)
                note(ended, list(half_published(RepoState(hub.root, repo), expected)))
                if not ended.error:
                    break
        outcome.fired = hub.fired()
    hub.put()
    _finish(outcome, publish_all, sandbox, run, expected, repo)
    return outcome


def _finish(
    outcome: Outcome, publish_all: Callable[[], None], sandbox: Sandbox, run: Run, expected: list[str], repo: str
) -> None:
    """Publish without faults: it must succeed, change nothing that was complete, and leave a repository that verifies."""
    was_complete = not outcome.attempts[-1].error and not outcome.attempts[-1].killed
    before = RepoState(sandbox.hub.root, repo)
    with hurried():
        last = attempt(publish_all)
        if last.error:
            outcome.violations.append(f"without faults: {last.error}: {last.text}")
        state = RepoState(sandbox.hub.root, repo)
        outcome.violations += not_exactly_once(state, expected)
        if was_complete and (before.commits, before.tags) != (state.commits, state.tags):
            outcome.violations.append("published again what was there")
        try:
            verify(repo, endpoint=sandbox.hub.endpoint, token=sandbox.hub.server.token)
        except EvokdError as error:
            outcome.violations.append(f"verify: {error}")
    for folder in run[1].rounds()[: len(expected)]:
        commit = read_json(folder.revision)["commit"] if folder.revision.exists() else None
        if commit != state.tags.get(folder.tag):
            outcome.violations.append(f"{folder.revision.name} of {folder.tag} names {commit}")
    if leftovers := [path.name for path in run[1].root.rglob("*draft*")]:
        outcome.violations.append(f"left behind: {leftovers}")


def attempt(work: Callable[[], None]) -> Ended:
    try:
        work()
    except EvokdError as error:
        foreign = error.__cause__ is not None and not isinstance(error.__cause__, EvokdError)
        return Ended(type(error).__name__, str(error), ours=not foreign)
    except Exception as error:
        return Ended(type(error).__name__, str(error), ours=False)
    return Ended()


def in_a_process(
    work: Callable[[], None], folder: Path, meanwhile: Callable[[int], None], *, nap_s: float = 0.01
) -> Ended:
    """Do `work` in a fork of this process: everything is imported there, so it begins at once."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    close_session()  # a connection must not have two owners
    child = os.fork()
    if not child:
        try:
            with hurried(nap_s):
                result.write_text(json.dumps(asdict(attempt(work))), encoding="utf-8")
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(0)
    meanwhile(child)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ended(killed=True)
    return Ended(**json.loads(result.read_text(encoding="utf-8")))


def _kill(child: int, after_s: float) -> None:
    """Kill the child after some seconds. A child that has ended and was not waited for yet accepts the signal, too."""
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
