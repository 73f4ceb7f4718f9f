"""Two processes publish to one repository at the same moment: one publishes everything, the other gets a conflict error.

ConcurrentPublish.of(17)   the same two runs, rounds and faults each time; which process wins is left to chance
publish_concurrently(ConcurrentPublish.of(17), sandbox)
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from huggingface_hub import close_session

from evokd_data.errors import EvokdError
from evokd_data.revisions.verify import verify
from tests.support.fault_scenarios import CALLS, Ended, Sandbox, attempt
from tests.support.faulty_hub import digests, hurried, publish
from tests.support.repository_observer import RepoState, half_published, not_exactly_once

KINDS = ("first round", "a later round", "the same run", "several rounds", "with faults")
OTHER_LABELS = ("music", "weather", "news")


@dataclass(frozen=True)
class ConcurrentPublish:
    seed: int
    kind: str
    runs: tuple[str, str]
    before: int
    rounds: int
    delay_s: float
    """How long the second process waits after the start."""
    rules: tuple[dict[str, Any], ...] = ()

    @staticmethod
    def of(seed: int) -> ConcurrentPublish:
        chance = random.Random(seed)
        kind = KINDS[seed % len(KINDS)]
        delay_s = chance.choice((0.0, 0.0, 0.02, 0.05, 0.1))
        if kind == "first round":
            return ConcurrentPublish(seed, kind, ("a", "other labels"), 0, chance.choice((1, 2)), delay_s)
        if kind == "a later round":
            return ConcurrentPublish(seed, kind, ("a", "other texts"), 1, 2, delay_s)
        if kind == "the same run":
            return ConcurrentPublish(seed, kind, ("a", "a again"), chance.choice((0, 1)), 2, delay_s)
        if kind == "several rounds":
            return ConcurrentPublish(seed, kind, ("a", "other texts"), 1, 3, delay_s)
        fault = chance.choice(({"drop": "after"}, {"status": 503, "when": "after"}, {"status": 409}, {"status": 412}))
        rule = {"match": CALLS[chance.choice(("commit", "tag"))], **fault, "times": chance.choice((1, 2))}
        return ConcurrentPublish(seed, kind, ("a", "other texts"), 1, 2, delay_s, (rule,))


@dataclass
class ConcurrentOutcome:
    seed: int
    kind: str
    ended: list[Ended]
    violations: list[str] = field(default_factory=list)

    @property
    def winners(self) -> int:
        return sum(not ended.error for ended in self.ended)


def make_runs(sandbox: Sandbox) -> None:
    sandbox.runs.get("a", rounds=3)
    sandbox.runs.get("a again", rounds=3)
    sandbox.runs.get("other texts", rounds=3, variant=" of another")
    sandbox.runs.get("other labels", rounds=2, labels=OTHER_LABELS)


def publish_concurrently(scenario: ConcurrentPublish, sandbox: Sandbox) -> ConcurrentOutcome:
    hub, repo = sandbox.hub, f"org/concurrent-{scenario.seed}"
    if "a again" not in sandbox.runs.made:
        make_runs(sandbox)
    runs = [sandbox.runs.get(name) for name in scenario.runs]
    with hurried():
        if scenario.before:
            for run in runs:  # the second run has the same seeds, so its round is published already
                publish(hub, run, repo, scenario.before)
    hub.put(*scenario.rules)
    close_session()  # a connection must not have two owners
    start, go = os.pipe()
    results = [sandbox.folder / f"publisher-{number}.json" for number in range(2)]
    children = []
    for number in range(2):
        child = os.fork()
        if not child:
            try:
                os.close(go)
                os.read(start, 1)  # returns when all other ends of the pipe are closed
                time.sleep(scenario.delay_s * number)
                with hurried(0.02):
                    ended = attempt(partial(publish, hub, runs[number], repo, scenario.rounds))
                results[number].write_text(json.dumps(asdict(ended)), encoding="utf-8")
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(0)
        children.append(child)
    os.close(start)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
    hub.put()
    outcome = ConcurrentOutcome(
        scenario.seed, scenario.kind, [Ended(**json.loads(path.read_text(encoding="utf-8"))) for path in results]
    )
    outcome.violations = [problem for problem in _problems(scenario, outcome, sandbox, repo) if problem]
    return outcome


def _problems(scenario: ConcurrentPublish, outcome: ConcurrentOutcome, sandbox: Sandbox, repo: str) -> list[str]:
    state = RepoState(sandbox.hub.root, repo)
    expected = [digests(sandbox.runs.made[name], scenario.rounds) for name in scenario.runs]
    won = [number for number in range(2) if not list(half_published(state, expected[number]))]
    problems = [ended.unclear(repo) for ended in outcome.ended]
    if not won:
        return [
            *problems,
            "rounds of neither",
            *half_published(state, expected[0]),
            *half_published(state, expected[1]),
        ]
    winner = won[0]
    problems += not_exactly_once(state, expected[winner])
    if outcome.ended[winner].error:
        problems.append(f"the winner got {outcome.ended[winner]}")
    if scenario.kind == "the same run":
        return problems + [f"a process of the same run got {ended}" for ended in outcome.ended if ended.error]
    loser = outcome.ended[1 - winner]
    names = [commit[:7] for commit in state.commits[scenario.before + 1 :]]
    names += [digest[:12] for digest in expected[winner][scenario.before :]]
    if len(won) == 2 or loser.error != "RevisionConflict":
        problems.append(f"the loser ended with {loser}")
    elif not any(name in loser.text for name in names):
        problems.append(f"the loser's error does not name the winner: {loser.text}")
    try:
        verify(repo, endpoint=sandbox.hub.endpoint, token=sandbox.hub.server.token)
    except EvokdError as error:
        problems.append(f"verify: {error}")
    return problems
