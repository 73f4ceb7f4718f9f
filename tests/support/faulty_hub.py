"""A local Hub whose faults can be set while it runs, and that can be killed and started again; and runs to publish."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from evokd_data.localhub.child import RunningHub
from evokd_data.progress import Progress
from evokd_data.publishers.calls import RetryPolicy
from evokd_data.publishers.hub import Hub
from evokd_data.recipe import Recipe
from evokd_data.stages.publish import Publication, public_recipe
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.fault_injection import fault_counts, hub_with_faults, set_faults
from tests.support.finished_runs import make_run

NAP_S = 0.003  # the longest sleep in tests
ATTEMPTS = 5
Run = tuple[Recipe, Workspace]


class XetHub(Hub):
    """A Hub client that treats every endpoint as huggingface.co, so that files travel by Xet."""

    def is_the_hub(self) -> bool:
        return True


class FaultyHub:
    """A local Hub, running inside its `with` block. Its address and its root stay the same when it is killed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root = folder / "root"
        self._block = ExitStack()
        self._port = 0

    def __enter__(self) -> FaultyHub:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._block.close()

    def _start(self) -> None:
        running = hub_with_faults(self.root, self._port)
        self.server: RunningHub = self._block.enter_context(running)
        self._port = int(self.server.endpoint.rpartition(":")[2])

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    def kill(self) -> None:
        """Kill the server with SIGKILL, and start it again."""
        os.kill(self.server.pid, signal.SIGKILL)
        self._block.close()
        self._start()

    @contextmanager
    def down(self) -> Iterator[None]:
        """The server is stopped during the block."""
        self._block.close()
        try:
            yield
        finally:
            self._start()

    def put(self, *rules: dict[str, Any]) -> None:
        set_faults(self.server, *rules)

    def fired(self) -> int:
        """The number of faults since the rules were set."""
        return sum(fired for _, fired in fault_counts(self.server))

    def received(self) -> int:
        """The bytes of all request bodies since the root was made."""
        lines = (self.root / "requests.log").read_text(encoding="utf-8").splitlines()
        return sum(json.loads(line)["received"] for line in lines)


@dataclass
class Runs:
    """Complete runs to publish, each made once."""

    folder: Path
    made: dict[str, Run] = field(default_factory=dict)

    def get(self, name: str = "a", *, fresh: bool = True, **settings: Any) -> Run:
        """`fresh`: as if nothing of it had ever been published."""
        if name not in self.made:
            self.made[name] = make_run(self.folder / name, **settings)
        run = self.made[name]
        for folder in run[1].rounds() if fresh else ():
            folder.revision.unlink(missing_ok=True)
            (folder.root / "published.json").unlink(missing_ok=True)
        return run


def digests(run: Run, rounds: int) -> list[str]:
    return [read_json(run[1].round(index).manifest)["digest"] for index in range(rounds)]


def publish(hub: FaultyHub, run: Run, repo: str, rounds: int, *, xet: bool = False) -> None:
    """Publish as a command does: check the repository, then publish every round that is missing."""
    recipe, workspace = run
    assert recipe.publish is not None
    recipe = replace(recipe, publish=replace(recipe.publish, repo=repo, endpoint=hub.endpoint))
    kind = XetHub if xet else Hub
    retries = RetryPolicy(ATTEMPTS, sleep=lambda seconds: time.sleep(seconds))
    client = kind(hub.endpoint, hub.server.token, retries=retries, note=lambda _: None)
    with workspace.lock():
        client.check(repo)
        Publication(recipe, client, Progress()).publish(workspace, rounds - 1)


recipe_once = cache(public_recipe)


@contextmanager
def hurried(nap_s: float = NAP_S, read_timeout_s: float = 120) -> Iterator[None]:
    """No sleep is longer than `nap_s`, in our code and in the clients that retry by themselves. Two other slow steps are
    done once or never: reading the recipe, and loading certificates, which no call here needs."""
    sleep = time.sleep
    with (
        patch("time.sleep", lambda seconds: sleep(min(seconds, nap_s))),
        patch("evokd_data.publishers.calls.READ_TIMEOUT_S", read_timeout_s),
        patch("evokd_data.stages.publish.public_recipe", recipe_once),
        patch("ssl.SSLContext.load_verify_locations", lambda *_: None),
    ):
        yield
