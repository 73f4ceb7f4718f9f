"""A stranger's repository acts on nothing: what its recipe asks for is listed, and no address is asked and no file opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from evokd_data import localhub
from evokd_data.cli import cli
from evokd_data.errors import EvokdError, RecipeError
from evokd_data.localhub.child import RunningHub
from evokd_data.revisions import resume
from evokd_data.revisions.replay import replay
from evokd_data.revisions.reproduce import reproduce
from evokd_data.seeds import load_splits
from evokd_data.stages import manifest
from evokd_data.storage.workspace import Workspace
from tests.support.published_runs import Played, alter_recipe, published

pytestmark = pytest.mark.slow

CANARY = "hf_canaryCanaryCanaryCanaryCanary"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return published(server, tmp_path_factory.mktemp("run"), "org/colours", 2)


@pytest.fixture
def attacker() -> Iterator[tuple[str, list[str]]]:
    """An address, and the Authorization headers that came there."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers.get("Authorization", "no key"))
            self.send_response(404)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/v1", received
        listening.shutdown()


def test_a_strangers_server_gets_no_key_and_no_request(
    run: Played, attacker: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = attacker
    monkeypatch.setenv("HF_TOKEN", CANARY)
    teacher = {"engine": "server", "model": "m", "urls": [url], "api_key_env": "HF_TOKEN", "retries": 0}
    repo = alter_recipe(run, "stealing", 1, lambda table: table.update(teacher=teacher))
    with pytest.raises(RecipeError, match=r"api_key_env=\"HF_TOKEN\""):
        reproduce(repo, 1, out=tmp_path, cache_dir=tmp_path / "cache", **run.at)
    assert received == []
    with pytest.raises(EvokdError, match=r"refused generate/\d+: 404"):
        reproduce(
            repo, 1, out=tmp_path, cache_dir=tmp_path / "cache", **run.at,
            overrides=(f"teacher.urls=[{url}]", "teacher.api_key_env=null"),
        )  # fmt: skip
    assert set(received) == {"no key"}  # the user named this address, and no key for it


_opened: list[str] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


@pytest.fixture(scope="module")
def opened() -> Callable[[], list[str]]:
    """Begins a list of the files that this process opens from now on, and returns it."""
    sys.addaudithook(_note_opened)

    def begin() -> list[str]:
        global _opened
        _opened = []
        return _opened

    return begin


def test_replay_opens_no_file_that_a_stranger_names(
    run: Played, opened: Callable[[], list[str]], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("red crimson\n", encoding="utf-8")
    repo = alter_recipe(
        run, "curious", 1, lambda table: table.update(strategy={"name": "eda", "synonyms": str(secret)})
    )
    files = opened()
    with pytest.raises(RecipeError, match=r"strategy\.synonyms"):
        replay(repo, 1, cache_dir=tmp_path / "cache", **run.at)
    assert files and str(secret) not in files


def test_a_run_begun_from_a_strangers_round_opens_no_file_that_it_names(
    run: Played, opened: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("red crimson\n", encoding="utf-8")
    monkeypatch.setenv("HF_TOKEN", run.server.token)
    repo = alter_recipe(run, "luring", 1, lambda table: table.update(strategy={"name": "eda", "synonyms": str(secret)}))
    inputs = manifest.inputs(run.recipe, load_splits(run.recipe).digests())
    files = opened()
    start = resume.begin(run.recipe, Workspace(tmp_path / "runs"), f"{repo}@round-001", inputs)
    assert start is not None and start.branch
    assert files and str(secret) not in files


def test_the_command_lists_what_is_asked_for(run: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", run.server.token)
    repo = alter_recipe(
        run, "asking", 1, lambda table: table.update(strategy={"name": "eda", "synonyms": "/etc/shadow"})
    )
    result = CliRunner().invoke(cli, ["replay", repo, "--round", "1", "--endpoint", run.server.endpoint])
    assert result.exit_code == 1
    assert '--set strategy.synonyms="/etc/shadow"' in result.output
