"""Whatever a recipe, a manifest, a journal or an answer holds: it is read, or refused by an error of ours, and nothing else is raised.

The same examples each time. With EVOKD_EXAMPLES=100000 hypothesis looks further.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evokd_data.errors import EvokdError, RecipeError, VerificationError, WorkspaceError
from evokd_data.published_recipe import load_published
from evokd_data.recipe import load
from evokd_data.records import Completion
from evokd_data.storage.file_forms import FORMS
from evokd_data.storage.journal_lines import decode_line, encode_line, read_lines
from evokd_data.storage.snapshot import encode_manifest, read_snapshot, with_checksum
from evokd_data.storage.workspace import read_json
from evokd_data.strategies.writing import read_text, read_texts
from evokd_data.tasks import Unreadable
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.example_task import RECIPE
from tests.support.fuzz_targets import MANIFEST, TARGETS
from tests.support.hostile_completions import TASKS

pytestmark = pytest.mark.slow
EXAMPLES = settings(
    max_examples=int(os.environ.get("EVOKD_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([10**400, "/etc/shadow", "../x", "${HOME}", "\x00", "\u202e", "1e999"]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip
TABLE = load_yaml(RECIPE)
paths = st.sampled_from(
    [(key,) for key in TABLE] + [(key, name) for key in TABLE if isinstance(TABLE[key], dict) for name in TABLE[key]]
)
Change = tuple[tuple[str, ...], Any]
changes = st.lists(st.tuples(paths, values), min_size=1, max_size=3)


def changed(table: Any, edits: list[Change]) -> Any:
    table = json.loads(json.dumps(table))
    for path, value in edits:
        node = table
        for key in path[:-1]:
            node = node[key] if isinstance(node.get(key), dict) else node
        node[path[-1]] = value
    return table


@EXAMPLES
@given(edits=changes)
def test_any_recipe_is_read_or_refused(edits: list[Change], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    try:
        path.write_text(dump_yaml(changed(TABLE, edits)), encoding="utf-8")
    except Exception:  # what YAML cannot hold is no recipe
        return
    for read in (lambda: load(path, []), lambda: load_published(path, None)):
        try:
            read()
        except EvokdError as error:
            assert str(error)


@EXAMPLES
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
@example(text="a: &a [*a]")
@example(text="? [a]: b")
@example(text="!!python/object/apply:os.system [id]")
@example(text="%YAML 9.9\n---\nx")
@example(text="- " * 5000)
def test_any_text_is_a_recipe_or_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError):
        load(path, [])


manifest_paths = st.sampled_from(
    [(key,) for key in MANIFEST]
    + [(key, name) for key in MANIFEST if isinstance(MANIFEST[key], dict) for name in MANIFEST[key]]
)


@EXAMPLES
@given(edits=st.lists(st.tuples(manifest_paths, values), min_size=1, max_size=2))
def test_any_manifest_is_read_or_refused(edits: list[Change], tmp_path: Path) -> None:
    path = tmp_path / "rounds" / "round-000" / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(encode_manifest(with_checksum(changed(MANIFEST, edits))))
    except ValueError:  # what JSON cannot hold
        return
    try:
        snapshot, problems = read_snapshot("org/x", "round-000", "0" * 40, tmp_path, 0)
    except VerificationError:
        return
    assert problems or snapshot.rounds[0].broken is False


@EXAMPLES
@given(line=st.binary(max_size=200))
@example(line=b"[" * 5000 + b"\n")
@example(line=b'{"xxh":"0123456789abcdef"}\n')
@example(line=b'{"a":' + b"9" * 5000 + b"}\n")
def test_any_bytes_are_a_line_of_a_journal_or_none(line: bytes, tmp_path: Path) -> None:
    assert decode_line(line) is None or isinstance(decode_line(line), dict)
    (tmp_path / "00000.jsonl").write_bytes(line + b"\n" + encode_line({"a": 1}))
    try:
        assert [row for *_, row in read_lines(tmp_path / "00000.jsonl")]
    except WorkspaceError as error:
        assert "damaged at byte" in str(error)


@EXAMPLES
@given(
    row=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        min_size=1,
        max_size=5,
    ),
    place=st.integers(0, 10**6),
)
def test_a_line_comes_back_and_not_with_one_byte_changed(row: dict[str, str], place: int) -> None:
    row.pop("xxh", None)
    row = row or {"a": "b"}
    line = encode_line(row)
    assert decode_line(line) == row
    altered = bytearray(line)
    altered[place % (len(line) - 1)] ^= 0x10
    assert decode_line(bytes(altered)) is None


@EXAMPLES
@given(
    answer=st.one_of(st.text(max_size=300), values.map(lambda value: json.dumps(value))),
    reason=st.sampled_from(["stop", "length", "error", "too_long"]),
)
def test_any_answer_is_texts_and_a_label_or_a_reason(answer: str, reason: Any) -> None:
    completion = Completion(answer, reason, 1, 1)
    texts, problem = read_texts(completion, 3)
    assert len(texts) == 3 or problem
    assert len(texts) <= 3 and all(isinstance(text, str) for text in texts)
    text, problem = read_text(completion, multiline=True)
    assert bool(text) != bool(problem)
    for task in TASKS:
        try:
            target = task.read_label(answer, "play some jazz by daft punk")
        except Unreadable:
            continue
        assert task.check("play some jazz by daft punk", target) == ""


@EXAMPLES
@given(name=st.sampled_from(sorted(FORMS)), value=values)
def test_any_json_in_a_file_of_a_run_is_read_or_named(name: str, value: Any, tmp_path: Path) -> None:
    try:
        (tmp_path / name).write_bytes(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return
    try:
        assert isinstance(read_json(tmp_path / name), dict)
    except WorkspaceError as error:
        assert name in str(error)


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_fuzzer_begins_from_is_read_or_refused(name: str, tmp_path: Path) -> None:
    target, corpus = TARGETS[name]
    for content in corpus:
        target(content, tmp_path)
