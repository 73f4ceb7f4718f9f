"""Two secrets of a user, a token of the Hub and a key of the teacher's server, go to these two, and nowhere else.

The commands of a run's life are called with both in their environment, as talkative as they can be, some against a Hub and a server
that refuse the secret and say it. Then all that they printed, the arguments of every process meanwhile, and every byte of every file
that they left are searched; what zlib or gzip packed is unpacked.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.example_task import QUICK
from tests.support.fake_chat_server import FakeServer, Reply, failing
from tests.support.fake_writer import is_label, write_or_label
from tests.support.server_talk import serving_in_thread

pytestmark = pytest.mark.slow
pytest.importorskip("dulwich")

KEY = "c4n4ryC4N4RYq7Zp93xLmW2vTb8K"
FAST = [part for override in QUICK for part in ("--set", override)]
REPO = "alice/colours"
CSV = "text,label\n" + "".join(
    f"{thing} number {number} is {colour},{colour}\n"
    for colour in ("red", "green", "blue")
    for thing in ("car", "hat", "door", "ball")
    for number in range(5)
)


class Life:
    """Commands in one folder, and what could be seen of them from outside."""

    def __init__(self, folder: Path, token: str, endpoint: str) -> None:
        self.folder = folder
        self.said = ""
        self._environment = {
            **os.environ, "HF_TOKEN": token, "TEACHER_KEY": KEY, "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(folder / "cache"),
            "EVOKD_CACHE": str(folder / "own-cache"), "TMPDIR": str(folder / "tmp"), "PYTHONFAULTHANDLER": "1",
        }  # fmt: skip
        (folder / "tmp").mkdir()

    def call(self, *words: object, code: int = 0) -> None:
        command = [sys.executable, "-m", "evokd_data", "--verbose", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=300, check=False
        )
        self.said += f"{words}\n{done.stdout}{done.stderr}"
        assert done.returncode == code, f"{words}: {done.stderr}"

    def fails(self, *words: object) -> None:
        self.call(*words, code=1)


@contextmanager
def arguments_of_processes() -> Iterator[set[bytes]]:
    """The command lines of all processes on this machine, looked at many times a second, as any user of it could."""
    lines: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    lines.add(path.read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join()


def unpacked(content: bytes) -> bytes:
    """A file's bytes, and what they hold when gzip or zlib packed them, as in git's objects."""
    with suppress(zlib.error):
        return content + zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content)
    return content


def spellings(secret: str) -> dict[str, bytes]:
    """A secret as it is, in UTF-16, and in base64 at each of its three alignments, as a header of basic authentication holds it."""
    result = {"as it is": secret.encode(), "utf-16": secret.encode("utf-16-le")}
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + secret.encode())
        result[f"base64, {shift}"] = coded[4 if shift else 0 : -4]
    return result


def refuse_and_quote(body: dict[str, Any]) -> Reply:
    """A server that says the key that it was given, for a text as if it were the text's fault."""
    return failing(400 if is_label(body) else 500, f"the key 'Bearer {KEY}' is not valid here")


def test_no_secret_is_in_any_file_output_or_command_line(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    from evokd_data.localhub import running

    with running(tmp_path / "hub") as hub, serving_in_thread(FakeServer(rules=[write_or_label])) as server:
        life = Life(tmp_path, hub.token, hub.endpoint)
        path = recipe_file(**{
            "{engine: scripted}": f"{{engine: server, model: org/teacher, urls: ['{server.url}'], api_key_env: TEACHER_KEY, retries: 1}}",
            "strategy:": f"publish: {{repo: {REPO}, endpoint: '{hub.endpoint}', private: true, student: alice/student}}\nstrategy:",
            "samples: 24": "samples: 12",
        })  # fmt: skip
        (tmp_path / "own.csv").write_text(CSV)
        with arguments_of_processes() as lines:
            life.call("init", "own.csv", "--yes")
            life.call("check", path, "--online")
            life.call("doctor", path, "--json")
            life.call("preview", path, *FAST, "--samples", 3)
            life.call("run", path, *FAST)
            for words in (["--json"], ["--plan", 1], ["--samples"], ["--rejections"]):
                life.call("show", "colours", *words)
            life.call("report", "colours")
            life.call("push-student", path, *FAST)
            for words in (
                ["rounds"], ["verify", "--round", 2], ["load", "--out", "rows.jsonl"], ["replay", "--round", 2],
                ["reproduce", "--round", 1, "--recipe", path, *FAST],
            ):  # fmt: skip
                life.call(words[0], REPO, *words[1:])
            life.call("diff", REPO, 1, 2)
            life.call("predict", "runs/colours", "own.csv", "--text", "text")
            life.call("evaluate", "runs/colours", "own.csv")
            mine = tmp_path / "mine.yaml"
            mine.write_text(path.read_text().replace("name: colours", "name: mine").replace("count: 2", "count: 3"))
            server.rules.insert(0, refuse_and_quote)
            life.fails("run", mine, *FAST, "--set", "publish.repo=bob/mine", "--set", "publish.student=bob/student")
        assert f"Bearer {KEY}".lower() in {key.lower() for key in server.keys}, (
            "the teacher's server was never given its key"
        )
    assert "is not valid here" in life.said, "what the server said of its key was not shown, so nothing was blanked out"
    searched = 0
    shapes = {f"{name}, {how}": shape for name, secret in (("token", hub.token), ("key", KEY))
              for how, shape in spellings(secret).items()}  # fmt: skip
    places = {str(file.relative_to(tmp_path)): file for file in tmp_path.rglob("*") if file.is_file()}
    contents = {"printed": life.said.encode(), "ps": b"\n".join(lines)}
    for place in [*contents, *places]:
        content = contents[place] if place in contents else unpacked(places[place].read_bytes())
        searched += len(content)
        for shape in shapes:
            assert shapes[shape] not in content, f"{shape} is in {place}"
    assert len(places) > 100 and searched > 500_000 and any(b"evokd_data" in line for line in lines)
    assert json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["text"]


def test_the_search_would_see_a_secret(tmp_path: Path) -> None:
    for content in (KEY, f"user:{KEY}", f"us:{KEY}", f"use:{KEY}"):
        coded = base64.b64encode(content.encode())
        assert any(shape in coded for shape in spellings(KEY).values())
    assert KEY.encode() in unpacked(zlib.compress(KEY.encode()))
    assert KEY.encode() in unpacked(b"plain " + KEY.encode())
