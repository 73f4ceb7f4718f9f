"""The README's commands for "a year later", as written, after a run that published to the local Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evokd_data import localhub
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
    (tmp_path / "elsewhere").mkdir()
    by_folder = call(tmp_path / "elsewhere", "rounds", REPO, "--endpoint", f"local:{tmp_path / 'hub'}")
    assert by_folder.returncode == 0 and by_folder.stdout == call(tmp_path, "rounds", REPO).stdout
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


@pytest.mark.parametrize("words", [["gc"], ["token", "list"], ["token", "revoke", "3f9c1a2b"]])
def test_looking_after_a_local_hub_that_is_not_there_makes_none(tmp_path: Path, words: list[str]) -> None:
    result = call(tmp_path, "hub", *words)
    assert result.returncode == 1
    assert result.stderr == "Error: hub: there is no local Hub; name its folder with --root\n"
    assert list(tmp_path.iterdir()) == []


def test_a_repository_of_local_that_the_hub_does_not_show_is_answered_with_the_local_hub(tmp_path: Path) -> None:
    advice = "; a repository on the local Hub needs --endpoint local, or local:FOLDER from elsewhere (in a recipe: publish.endpoint: local)"
    unreachable = call(tmp_path, "rounds", REPO)
    assert "http://127.0.0.1:9 does not answer" in unreachable.stderr and unreachable.stderr.rstrip().endswith(advice)
    assert advice not in call(tmp_path, "rounds", "org/colours").stderr
    with localhub.running(tmp_path / "elsewhere") as hub:
        unknown = call(tmp_path, "rounds", REPO, "--endpoint", hub.endpoint)
    assert "there is no such dataset" in unknown.stderr or "has no such dataset" in unknown.stderr, unknown.stderr
    assert unknown.stderr.rstrip().endswith(advice)


@pytest.mark.parametrize("command", ["rounds", "verify", "load", "replay", "reproduce", "diff", "predict"])
def test_reading_from_a_local_hub_that_is_not_there_makes_none(tmp_path: Path, command: str) -> None:
    further = {"diff": ["1", "2"], "predict": ["-"]}.get(command, [])
    result = call(tmp_path, command, REPO, *further, "--endpoint", "local")
    assert result.returncode == 1
    assert f"there is no local Hub under {tmp_path}/hub; call this in the folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


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
