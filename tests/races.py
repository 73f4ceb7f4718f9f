"""Two processes that publish to one repository at the same moment: one wins whole, the other is told who did.

Race.of(17)                 the same two runs, rounds and faults each time; who wins is the machine's affair
run_race(Race.of(17), place)
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

from faulty import digests, hurried, publish
from huggingface_hub import close_session
from scenarios import CALLS, Ended, Place, attempt
from witness import Held, half_published, not_exactly_once

from evokd_data.errors import EvokdError
from evokd_data.revisions.verify import verify

KINDS = ("first round", "a later round", "the same run", "several rounds", "with faults")
OTHER_LABELS = ("music", "weather", "news")


@dataclass(frozen=True)
class Race:
    seed: int
    kind: str
    runs: tuple[str, str]
    before: int
    rounds: int
    delay_s: float
    """What the second waits after the start."""
    rules: tuple[dict[str, Any], ...] = ()

    @staticmethod
    def of(seed: int) -> Race:
        chance = random.Random(seed)
        kind = KINDS[seed % len(KINDS)]
        delay_s = chance.choice((0.0, 0.0, 0.02, 0.05, 0.1))
        if kind == "first round":
            return Race(seed, kind, ("a", "other labels"), 0, chance.choice((1, 2)), delay_s)
        if kind == "a later round":
            return Race(seed, kind, ("a", "other texts"), 1, 2, delay_s)
        if kind == "the same run":
            return Race(seed, kind, ("a", "a again"), chance.choice((0, 1)), 2, delay_s)
        if kind == "several rounds":
            return Race(seed, kind, ("a", "other texts"), 1, 3, delay_s)
        fault = chance.choice(({"drop": "after"}, {"status": 503, "when": "after"}, {"status": 409}, {"status": 412}))
        rule = {"match": CALLS[chance.choice(("commit", "tag"))], **fault, "times": chance.choice((1, 2))}
        return Race(seed, kind, ("a", "other texts"), 1, 2, delay_s, (rule,))


@dataclass
class Raced:
    seed: int
    kind: str
    ended: list[Ended]
    violations: list[str] = field(default_factory=list)

    @property
    def winners(self) -> int:
        return sum(not one.error for one in self.ended)


def make_runs(place: Place) -> None:
    place.runs.get("a", rounds=3)
    place.runs.get("a again", rounds=3)
    place.runs.get("other texts", rounds=3, variant=" of another")
    place.runs.get("other labels", rounds=2, labels=OTHER_LABELS)


def run_race(race: Race, place: Place) -> Raced:
    hub, repo = place.hub, f"org/race-{race.seed}"
    if "a again" not in place.runs.made:
        make_runs(place)
    runs = [place.runs.get(name) for name in race.runs]
    with hurried():
        if race.before:
            for run in runs:  # the second finds its round there: it has the same seeds
                publish(hub, run, repo, race.before)
    hub.put(*race.rules)
    close_session()  # a connection must not have two owners
    start, go = os.pipe()
    told = [place.folder / f"racer-{number}.json" for number in range(2)]
    children = []
    for number in range(2):
        child = os.fork()
        if not child:
            try:
                os.close(go)
                os.read(start, 1)  # ends when nobody holds the other end any more
                time.sleep(race.delay_s * number)
                with hurried(0.02):
                    ended = attempt(partial(publish, hub, runs[number], repo, race.rounds))
                told[number].write_text(json.dumps(asdict(ended)), encoding="utf-8")
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(0)
        children.append(child)
    os.close(start)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
    hub.put()
    raced = Raced(race.seed, race.kind, [Ended(**json.loads(path.read_text(encoding="utf-8"))) for path in told])
    raced.violations = [each for each in _judge(race, raced, place, repo) if each]
    return raced


def _judge(race: Race, raced: Raced, place: Place, repo: str) -> list[str]:
    held = Held(place.hub.root, repo)
    expected = [digests(place.runs.made[name], race.rounds) for name in race.runs]
    won = [number for number in range(2) if not list(half_published(held, expected[number]))]
    found = [one.unclear(repo) for one in raced.ended]
    if not won:
        return [*found, "rounds of neither", *half_published(held, expected[0]), *half_published(held, expected[1])]
    winner = won[0]
    found += not_exactly_once(held, expected[winner])
    if raced.ended[winner].error:
        found.append(f"the winner was told {raced.ended[winner]}")
    if race.kind == "the same run":
        return found + [f"one of the same run was told {one}" for one in raced.ended if one.error]
    loser = raced.ended[1 - winner]
    names = [commit[:7] for commit in held.commits[race.before + 1 :]]
    names += [digest[:12] for digest in expected[winner][race.before :]]
    if len(won) == 2 or loser.error != "RevisionConflict":
        found.append(f"the loser ended with {loser}")
    elif not any(name in loser.text for name in names):
        found.append(f"the loser was not told who won: {loser.text}")
    try:
        verify(repo, endpoint=place.hub.endpoint, token=place.hub.server.token)
    except EvokdError as error:
        found.append(f"verify: {error}")
    return found
