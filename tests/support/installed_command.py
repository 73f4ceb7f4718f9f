"""The installed command, as a user would call it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("evokd-data")
NEEDS_VLLM = [pytest.mark.vllm, pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")]


def run(folder: Path, *words: str) -> str:
    """What it prints. It must succeed."""
    done = subprocess.run([str(COMMAND), *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def small(rounds: int, samples: int) -> list[str]:
    """Overrides for a recipe: shards of 8, and a student that learns in no time."""
    changes = [f"rounds.count={rounds}", f"rounds.samples={samples}", "rounds.shard_size=8", "student={kind: linear}"]
    return [word for change in changes for word in ("--set", change)]
