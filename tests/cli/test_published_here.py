"""The README's commands for "a year later", as written, after a run that published to the local Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evokd_data.storage.published_here import endpoint_of
from tests.support.example_task import QUICK

pytestmark = pytest.mark.slow
pytest.importorskip("dulwich")

FAST = [part for override in QUICK for part in ("--set", override)]
REPO = "local/colours"


def call(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process whose default Hub does not answer."""
    variables = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "evokd_data", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)


def test_the_commands_of_the_readme_ask_the_hub_that_the_run_published_to(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe_file(**{"strategy:": f"publish: {{repo: {REPO}, endpoint: local}}\nstrategy:"})
    assert call(tmp_path, "run", path, *FAST).returncode == 0
    mine = recipe_file(**{"name: colours": "name: mine", "count: 2": "count: 3"})
    for words in (
        ["rounds", REPO], ["verify", REPO, "--round", 2], ["replay", REPO, "--round", 2],
        ["reproduce", REPO, "--round", 2], ["diff", REPO, 1, 2], ["load", REPO, "--head", 1],
        ["run", "--from", f"{REPO}@round-002", mine, *FAST],
    ):  # fmt: skip
        result = call(tmp_path, *words)
        assert result.returncode == 0, f"{words}: {result.stderr}"
        if words[0] != "run":
            assert "at the local Hub under ./hub, where runs/colours was published" in result.stderr
    assert len(list((tmp_path / "runs" / "mine").glob("round-*"))) == 4
    named = call(tmp_path, "rounds", REPO, "--endpoint", "local")
    assert named.returncode == 0 and "was published" not in named.stderr
    for command in (
        ["load", REPO, "--round"],
        ["verify", REPO, "--round"],
        ["replay", REPO, "--round"],
        ["diff", REPO, 1],
    ):
        missing = call(tmp_path, *command, 9)
        assert missing.returncode == 1, missing.stdout
        assert (
            f"{REPO}: there is no revision 'round-009' at the local Hub under hub; rounds there: round-000, round-001, round-002; "
            "name one of these, or publish that round from the folder of its run: evokd-data publish RECIPE"
        ) in " ".join(missing.stderr.split())
        assert "127.0.0.1" not in missing.stderr
    nowhere = call(tmp_path, "load", "local/nothing", "--endpoint", "local")
    assert (
        "local/nothing: there is no such dataset at the local Hub under hub; check the id, and the folder"
        in nowhere.stderr
    )


def test_the_newest_publication_counts_and_damaged_files_do_not(tmp_path: Path) -> None:
    for number, (name, endpoint) in enumerate((("a", "https://old.example"), ("b", "https://new.example"))):
        file = tmp_path / name / "round-000" / "revision.json"
        file.parent.mkdir(parents=True)
        file.write_text(f'{{"repo": "org/name", "endpoint": "{endpoint}", "tag": "round-000", "commit": "1"}}')
        os.utime(file, (number, number))
    for name, content in (("c", "not json"), ("d", "[]")):
        file = tmp_path / name / "round-000" / "revision.json"
        file.parent.mkdir(parents=True)
        file.write_text(content)
    assert endpoint_of("org/name", tmp_path) == ("https://new.example", tmp_path / "b")
    assert endpoint_of("org/other", tmp_path) is None
