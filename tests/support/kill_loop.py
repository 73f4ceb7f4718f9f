"""Kill a run with SIGKILL, again and again. Its results must be those of an undisturbed run. Run as a script:

    python crash.py RECIPE RUNS moments SEED    at random moments, until a process lives to the end
    python crash.py RECIPE RUNS renames         before the n-th file is put in its place, n = 1, 2, ...; each in a run of its
                                                own, which another process then works to its end
    python crash.py RECIPE RUNS changes         the same before every change to the disk: minutes

Prints how many processes were killed. Everything is imported once and each life is a fork: it begins at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path

import pyarrow as pa
import rensa  # noqa: F401 - what a run imports when it needs it, each life would import again

from evokd_data.recipe import Recipe
from evokd_data.seeds import load_splits
from evokd_data.stages.manifest import inputs
from tests.support.disk_points import CHANGES, RENAMES, watch
from tests.support.example_task import play, quick


def live(recipe: Recipe, runs: Path, dies_before: int = 0, events: frozenset[str] = frozenset()) -> int:
    """A process that works the run to its end; its process id."""
    if child := os.fork():
        return child
    try:
        if dies_before:
            kill_before(dies_before, events)
        play(recipe, runs, recipe.rounds.count + 1)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        status = 1
    os._exit(status)


def kill_before(number: int, events: frozenset[str]) -> None:
    watch(lambda current, _: current == number and os.kill(os.getpid(), signal.SIGKILL), events)


def ended(child: int) -> bool:
    """Whether the process lived to the end; an error of its own ends everything."""
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("a process failed by itself")
    return os.WIFEXITED(status)


def at_moments(recipe: Recipe, runs: Path, seed: int) -> int:
    chance, killed = random.Random(seed), 0
    while True:
        child = live(recipe, runs)
        time.sleep(chance.uniform(0.05, 0.3) + 0.01 * killed)
        os.kill(child, signal.SIGKILL)
        if ended(child):
            return killed
        killed += 1


def before_each(events: frozenset[str], recipe: Recipe, runs: Path) -> int:
    for killed in count():
        folder = runs / f"{killed:04d}"
        if ended(live(recipe, folder, killed + 1, events)):
            return killed
        if not ended(live(recipe, folder)):
            sys.exit("killed by somebody else")
    raise AssertionError


if __name__ == "__main__":
    ways = {"moments": at_moments, "renames": partial(before_each, RENAMES), "changes": partial(before_each, CHANGES)}
    loaded = quick(Path(sys.argv[1]))
    inputs(loaded, load_splits(loaded).digests())
    pa.array(["makes pyarrow look for pandas"])
    print(ways[sys.argv[3]](loaded, Path(sys.argv[2]), *map(int, sys.argv[4:])))
