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
from tests.support.stranger_readings import Reading, acts, allowed, has_strace, play, published_by_stranger, strace
from tests.support.strangers import STRANGERS

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
    with pytest.raises(EvokdError, match=r"refused generate/[0-9/]+: 404"):
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


def test_there_are_forty_strangers_and_more() -> None:
    assert len(STRANGERS) >= 40


@pytest.mark.parametrize("stranger", list(STRANGERS)[::4])
def test_no_strangers_repository_acts_on_this_machine(run: Played, stranger: str, tmp_path: Path) -> None:
    """Every fourth of those that `make faults` reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", run.server.token)
        outcome = play(list(STRANGERS).index(stranger), run, tmp_path)
    assert outcome.violations == []
    assert outcome.acted == []


@pytest.mark.skipif(not has_strace(), reason="needs strace, and the right to trace")
def test_strace_sees_no_process_no_address_and_no_file_that_a_stranger_names(run: Played, tmp_path: Path) -> None:
    names = ("curious template", "file of the strategy", "server", "pickled type")
    repos = [published_by_stranger(run, name, f"traced-{number}") for number, name in enumerate(names)]
    assert strace(run, repos, tmp_path) == []
    log = (tmp_path / "strace.log").read_text(encoding="utf-8", errors="replace")
    assert 'inet_addr("127.0.0.1")' in log, "the tracer saw nothing"


def test_the_tracers_see_what_must_not_be(run: Played, tmp_path: Path) -> None:
    reading = Reading("org/x", run.server.endpoint, "t", str(run.recipe.path), str(tmp_path))
    for act in ("open /etc/shadow", "connect 192.0.2.1", "exec [id]", "subprocess.Popen id", "import evilmodule"):
        assert not allowed(act, reading, run)
    assert allowed(f"open {tmp_path}/cache/x", reading, run) and allowed("connect 127.0.0.1", reading, run)
    done = acts()
    (tmp_path / "x").write_text("x", encoding="utf-8")
    assert f"open {tmp_path / 'x'}" in done
