"""What reads bytes of somebody else, as functions of any bytes: they return, or raise what is a fault of ours.

A fuzzer that is guided by coverage (bench/fuzz.py) calls them millions of times, and tests/test_fuzzing.py with the examples here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from evokd_data.errors import EvokdError, VerificationError, WorkspaceError
from evokd_data.published_recipe import load_published
from evokd_data.recipe import load
from evokd_data.records import Completion
from evokd_data.storage.journal_lines import encode_line, read_lines
from evokd_data.storage.snapshot import encode_manifest, read_snapshot, with_checksum
from evokd_data.strategies.writing import read_text, read_texts
from evokd_data.tasks import Unreadable
from evokd_data.teachers.server.replies import json_object, read_reply, read_scores
from tests.support.example_task import RECIPE
from tests.support.hostile_completions import TASKS

MANIFEST: dict[str, Any] = {
    "schema": "1", "name": "x", "round": 0, "digest": "d", "previous": None, "shards": [{"first": 0, "last": 0, "rows": 1}],
    "identity": {"round": 0, "parent": None, "rows": 1, "content": "c", "rejections": 0, "plan": "p", "prompts": {}},
    "totals": {"asked": 0, "rejected": {}}, "files": {"data/round-000/x.parquet": {"sha256": "s", "size": 1, "rows": 1}},
    "environment": {"finished": "now"},
}  # fmt: skip
LABELLED = "play some jazz by daft punk"


def recipe(content: bytes, folder: Path) -> None:
    """A recipe of one's own, and the same bytes as a published one."""
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    for read in (lambda: load(path, []), lambda: load_published(path, None)):
        try:
            read()
        except EvokdError as error:
            assert str(error)


def manifest(content: bytes, folder: Path) -> None:
    """A manifest as it lies in a repository; when it is an object, also with the checksum that it should have."""
    path = folder / "rounds" / "round-000" / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [content]
    try:
        table = orjson.loads(content)
        contents += [encode_manifest(with_checksum(table))] if isinstance(table, dict) else []
    except ValueError:
        pass
    for written in contents:
        path.write_bytes(written)
        try:
            snapshot, problems = read_snapshot("org/x", "round-000", "0" * 40, folder, 0)
        except VerificationError:
            continue
        assert problems or snapshot.rounds[0].broken is False


def journal(content: bytes, folder: Path) -> None:
    """A journal that holds a whole line after these bytes: the line is read, or the journal is called damaged."""
    path = folder / "00000.jsonl"
    path.write_bytes(content + b"\n" + encode_line({"a": 1}))
    try:
        assert [row for *_, row in read_lines(path)]
    except WorkspaceError as error:
        assert "damaged at byte" in str(error)


def answer(content: bytes, folder: Path) -> None:
    """A teacher's answer as texts, as one text, and as a label of each task."""
    text = content.decode(errors="surrogateescape")
    texts, problem = read_texts(Completion(text, "stop", 1, 1), 3)
    assert len(texts) <= 3 and (len(texts) == 3 or problem)
    one, problem = read_text(Completion(text, "stop", 1, 1), multiline=True)
    assert bool(one) != bool(problem)
    for task in TASKS:
        try:
            target = task.read_label(text, LABELLED)
        except Unreadable:
            continue
        assert task.check(LABELLED, target) == ""


def reply(content: bytes, folder: Path) -> None:
    """The body of a server's answer to a chat request, with the scores of the classes where it holds some."""
    body = json_object(content)
    spoken = read_reply(body, thinking=True)
    assert spoken is None or isinstance(spoken.text, str)
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        scores = read_scores(("red", "green"), (3, 5), choice if isinstance(choice, dict) else {})
        assert scores is None or all(value <= 0 for value in scores[0].values())


TARGETS: dict[str, tuple[Callable[[bytes, Path], None], tuple[bytes, ...]]] = {
    "recipe": (recipe, (RECIPE.encode(), b"a: &a [*a]", b"? [a]: b", b"%YAML 9.9\n---\nx", b"- " * 5000, b"\xff\xfe")),
    "manifest": (manifest, (orjson.dumps(MANIFEST), b"[]", b"{", b'{"schema": 1e999}', b"[" * 5000)),
    "journal": (journal, (encode_line({"key": "generate/000001", "text": "x"}), b"[" * 5000, b'{"xxh":"0123456789abcdef"}\n')),
    "answer": (answer, (b'{"texts": ["a", "b", "c"]}', b"red", b"play [track: some jazz] by [artist: daft punk]", b"\xed\xa0\x80")),
    "reply": (reply, (b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}', b"[",
                       b'{"choices": [{"message": {"content": "r"}, "logprobs": {"content": [{"token": "token_id:3", "logprob": -0.1}]}}]}')),
}  # fmt: skip
"""Name -> (function of bytes and of a folder to write in, bytes to begin from)."""
