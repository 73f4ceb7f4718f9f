"""The quickstart's own parts, smaller: real vLLM, the committed teacher, a local Hub over HTTP, ordinary Hub clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evokd_data import localhub
from tests.support import ROOT
from tests.support.installed_command import NEEDS_VLLM, run, small

pytestmark = NEEDS_VLLM

SMALL = small(rounds=2, samples=14)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the small quickstart has run: two rounds from a real engine, published."""
    folder = tmp_path_factory.mktemp("quickstart")
    run(folder, "run", str(ROOT / "recipes" / "quickstart.yaml"), *SMALL)
    return folder


def rounds(folder: Path) -> list[dict]:
    return json.loads(run(folder, "show", "quickstart", "--json"))["rounds"]


def test_a_real_teacher_fills_every_round(folder: Path) -> None:
    entries = rounds(folder)
    assert [entry["round"] for entry in entries] == [0, 1, 2]
    for entry in entries[1:]:
        assert 14 <= entry["asked"] <= 3 * 14
        assert entry["asked"] == entry["kept"] + sum(entry["rejected"].values())
        assert entry["kept"] == 14, "what the filters rejected was not asked for again"
        assert entry["tokens"] > 0
        assert entry["metrics"]["test"]["n"] == 280


def test_every_round_is_one_commit_and_one_tag_that_verify_and_load_bare(folder: Path) -> None:
    entries = rounds(folder)
    assert [entry["revision"]["tag"] for entry in entries] == ["round-000", "round-001", "round-002"]
    assert len({entry["revision"]["commit"] for entry in entries}) == 3
    assert "is as published" in run(folder, "verify", "local/quickstart-intents", "--endpoint", "local")
    expected = sum(entry["kept"] for entry in entries[:2])
    with localhub.running(folder / "hub") as hub:
        bare = (
            "from datasets import load_dataset\n"
            "print(len(load_dataset('local/quickstart-intents', revision='round-001')['train']))"
        )
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", bare], env=environment, capture_output=True, text=True, check=False, cwd=folder
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == expected


def test_a_second_run_asks_nothing_and_changes_nothing(folder: Path) -> None:
    before = rounds(folder)
    log = folder / "runs" / "quickstart" / "teacher.log"
    opened = log.stat().st_mtime_ns
    run(folder, "run", str(ROOT / "recipes" / "quickstart.yaml"), *SMALL)
    assert rounds(folder) == before
    assert log.stat().st_mtime_ns == opened


def test_the_same_recipe_gives_the_same_rows_again_however_many_rounds_follow(folder: Path, tmp_path: Path) -> None:
    run(tmp_path, "run", str(ROOT / "recipes" / "quickstart.yaml"), *small(rounds=1, samples=14))
    assert [entry["digest"] for entry in rounds(tmp_path)] == [entry["digest"] for entry in rounds(folder)[:2]]
