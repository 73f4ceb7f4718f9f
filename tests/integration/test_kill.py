"""A whole run, published, killed with -9 at random moments: rerun to its end it is the run nobody touched."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from evokd_data import localhub
from tests.support.example_task import RECIPE, SEEDS, TEST, write_rows
from tests.support.installed_command import COMMAND

pytestmark = pytest.mark.slow

PUBLISHED = "teacher: {engine: scripted, latency_s: 0.03}\npublish: {repo: local/colours, endpoint: local}"


def start(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [str(COMMAND), "run", str(recipe)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def digests(folder: Path) -> list[str]:
    shown = subprocess.run(
        [str(COMMAND), "show", "colours", "--json"], cwd=folder, capture_output=True, text=True, check=True
    )
    return [entry["digest"] for entry in json.loads(shown.stdout)["rounds"]]


@dataclass(frozen=True)
class Whole:
    """A recipe, the digests of its rounds when nobody touches the run, and how long it lasts."""

    recipe: Path
    digests: list[str]
    lasts_s: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    write_rows(folder / "seeds.jsonl", SEEDS)
    write_rows(folder / "test.jsonl", TEST)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("teacher: {engine: scripted}", PUBLISHED), encoding="utf-8")
    began = time.monotonic()
    process = start(recipe, folder)
    assert process.wait() == 0, process.stderr and process.stderr.read()
    lasts_s = time.monotonic() - began
    return Whole(recipe, digests(folder), lasts_s)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_published_run_killed_at_random_moments_has_the_same_rows_and_one_commit_and_tag_a_round(
    seed: int, whole: Whole, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    killed = tmp_path / "killed"
    first = start(whole.recipe, killed)
    while not (killed / "runs" / "colours" / "round-001").exists() and first.poll() is None:
        time.sleep(0.02)  # at least one kill comes before the end, however fast the machine has become
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    for _ in range(5):
        process = start(whole.recipe, killed)
        try:
            process.wait(timeout=chance.uniform(0.1, 0.8) * whole.lasts_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    last = start(whole.recipe, killed)
    assert last.wait() == 0, last.stderr and last.stderr.read()

    assert digests(killed) == whole.digests and len(whole.digests) == 3
    with localhub.running(killed / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        titles = [commit.title for commit in api.list_repo_commits("local/colours", repo_type="dataset")]
        tags = [tag.name for tag in api.list_repo_refs("local/colours", repo_type="dataset").tags]
    for name in ("round-000", "round-001", "round-002"):
        assert sum(title.startswith(name) for title in titles) == 1
    assert sorted(tags) == ["round-000", "round-001", "round-002"]
