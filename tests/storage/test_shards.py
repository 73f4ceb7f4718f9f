from __future__ import annotations

import dataclasses
import hashlib
import re
import resource
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.digest import digest
from evokd_data.errors import WorkspaceError
from evokd_data.records import Origin, Rejection, Span
from evokd_data.storage import shards
from evokd_data.storage.shards import (
    BATCH,
    SelectedSamples,
    ShardedSamples,
    ShardEntry,
    content_digest,
    read_rejections,
    rejection_schema,
    shard_entry,
    write_rejections,
    write_rows,
    write_shard,
)
from evokd_data.tasks import sample_id
from evokd_data.tasks.ner import NER
from tests.support import ROOT
from tests.support.example_task import TASK, play, sample

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
unit = st.floats(0, 1, width=64)
samples = st.builds(
    lambda text, target, place, soft, weight: dataclasses.replace(
        sample(text, target, *place), soft=soft, weight=weight
    ),
    texts,
    st.sampled_from(TASK.labels),
    st.tuples(st.integers(0, 99), st.integers(0, 2**31 - 1), st.integers(0, 50)),
    st.none() | st.tuples(unit, unit, unit),
    st.floats(0, 1000),
)


@pytest.mark.slow
@given(st.lists(samples, max_size=6))
def test_rows_come_back_as_they_were_written_and_digest_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("shards") / "00000.arrow"
    content = write_shard(path, TASK, rows, 3, 9)
    back = ShardedSamples(TASK, [path])
    assert [dataclasses.replace(s, soft=None, weight=1) for s in back] == [
        dataclasses.replace(s, soft=None, weight=1) for s in rows
    ]
    for stored, original in zip(back, rows, strict=True):
        assert stored.soft == (original.soft and pytest.approx(original.soft, rel=1e-6, abs=1e-6))
        assert stored.weight == pytest.approx(original.weight, rel=1e-6, abs=1e-6)
    assert content_digest(TASK, back) == content == content_digest(TASK, rows)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert shard_entry(path) == ShardEntry("00000.arrow", 3, 9, len(rows), sha256, content)
    assert list(back) == [back[i] for i in range(len(back))] == back[:]


@pytest.mark.slow
@given(st.lists(samples, max_size=8), st.sets(st.integers(0, 8)))
def test_a_content_digest_is_blind_to_where_shards_break(tmp_path_factory, rows, breaks):
    folder = tmp_path_factory.mktemp("shards")
    edges = sorted({0, len(rows), *(edge for edge in breaks if edge < len(rows))})
    paths = [folder / f"{number:05d}.arrow" for number in range(len(edges) - 1)]
    for path, first, last in zip(paths, edges, edges[1:], strict=False):
        write_shard(path, TASK, rows[first:last], first, last)
    assert content_digest(TASK, ShardedSamples(TASK, paths)) == content_digest(TASK, rows)


@given(st.lists(samples, min_size=2, max_size=4, unique_by=lambda s: s.id))
def test_a_content_digest_sees_order_texts_and_soft_labels(rows):
    whole = content_digest(TASK, rows)
    changed = dataclasses.replace(rows[0], soft=(0.25, 0.25, 0.125))
    assert content_digest(TASK, rows[::-1]) != whole != content_digest(TASK, [changed, *rows[1:]])
    assert content_digest(TASK, rows[1:]) != whole


def test_a_sample_id_is_of_what_it_says_not_of_where_it_came_from():
    assert sample("a rose").id == sample("a rose", round=4, request=2).id
    assert sample_id(TASK, "a rose", "red") != sample_id(TASK, "a rose", "blue") != sample_id(TASK, "a nose", "blue")
    assert len(sample("a rose").id) == 32


@given(texts, st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), texts), max_size=3))
def test_a_sample_id_is_the_digest_of_its_text_and_its_row(text, places):
    spans = tuple(Span(start, end, "a", surface) for start, end, surface in places)
    for task, target in ((TASK, "red"), (NER(types=("a",)), spans)):
        assert sample_id(task, text, target) == digest([text, task.to_row(target)])[:32]


def test_samples_over_several_shards_are_one_sequence(tmp_path):
    rows = [sample(f"text {i}", request=i) for i in range(7)]
    for number, (first, last) in enumerate([(0, 3), (3, 3), (3, 7)]):
        write_shard(tmp_path / f"{number}.arrow", TASK, rows[first:last], first, last)
    back = ShardedSamples(TASK, sorted(tmp_path.glob("*.arrow")))
    assert len(back) == 7 and back[-1] == rows[6] and back[2:5] == rows[2:5]
    with pytest.raises(IndexError):
        back[7]
    with pytest.raises(IndexError):
        back[-8]


def test_more_rows_than_a_batch_keep_their_order(tmp_path):
    rows = [sample(f"text {i}", request=i) for i in range(2 * BATCH + 5)]
    write_shard(tmp_path / "0.arrow", TASK, rows, 0, len(rows))
    assert list(ShardedSamples(TASK, [tmp_path / "0.arrow"])) == rows


@pytest.mark.slow
@given(
    st.lists(st.builds(Rejection, texts, texts, st.builds(Origin, *[st.integers(0, 9)] * 3, texts), texts), max_size=4)
)
def test_rejections_come_back_as_they_were_written(tmp_path_factory, rejections):
    path = tmp_path_factory.mktemp("rejections") / "00000.arrow"
    write_rejections(path, rejections)
    assert list(read_rejections([path])) == rejections


def test_every_cut_of_a_shard_is_found_out(tmp_path):
    whole = tmp_path / "whole.arrow"
    write_shard(whole, TASK, [sample("a rose")], 0, 1)
    data = whole.read_bytes()
    for size in range(0, len(data), 97):
        (tmp_path / "cut.arrow").write_bytes(data[:size])
        with pytest.raises(WorkspaceError, match=r"cut\.arrow: not a whole Arrow file"):
            shard_entry(tmp_path / "cut.arrow")


def test_an_arrow_file_that_is_no_shard_is_told(tmp_path):
    write_rows(tmp_path / "a.arrow", pa.schema({"x": pa.int32()}), [{"x": 1}])
    write_rows(tmp_path / "b.arrow", rejection_schema(), [])
    for name in ("a.arrow", "b.arrow"):
        with pytest.raises(WorkspaceError, match="is not a shard of a round"):
            shard_entry(tmp_path / name)
    write_rows(tmp_path / "c.arrow", pa.schema({"x": pa.int32()}, metadata={"evokd.schema": "0"}), [])
    with pytest.raises(WorkspaceError, match="schema version '0', this is '1'"):
        shard_entry(tmp_path / "c.arrow")


@pytest.mark.slow
def test_a_round_may_have_more_shards_than_a_process_may_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN", 16)
    rows = [sample(f"text {number}", TASK.labels[number % 3]) for number in range(120)]
    for number, row in enumerate(rows):
        write_shard(tmp_path / f"{number:05d}.arrow", TASK, [row], number, number + 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
    try:
        back = ShardedSamples(TASK, sorted(tmp_path.glob("*.arrow")))
        assert [back[number] for number in (*range(120), 0)] == [*rows, rows[0]]
        assert list(back) == rows
        assert list(back.targets()) == [row.target for row in rows]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_selected_samples_are_read_when_they_are_accessed():
    accessed = []

    class Rows(list):
        def __getitem__(self, index):
            accessed.append(index)
            return super().__getitem__(index)

    selected = SelectedSamples(Rows(sample(str(number)) for number in range(9)), [1, 4, 7])
    assert len(selected) == 3 and accessed == []
    assert [selected[1].text, selected[-1].text, selected[1].text] == ["4", "7", "4"]
    assert accessed == [4, 7]
    assert [row.text for row in selected[1:]] == ["4", "7"]


@pytest.mark.slow
def test_datasets_opens_a_shard_as_the_page_says(recipe, tmp_path):
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = play(recipe(), tmp_path, 2).round(1).shard_files()[0]
    quoted = "runs/support-intents/round-001/shards/00000.arrow"
    assert quoted in code
    scope: dict[str, Any] = {}
    exec(code.replace(quoted, str(path)), scope)
    samples = list(ShardedSamples(TASK, [path]))
    assert [(row["id"], row["text"], row["label"]) for row in scope["rows"]] == [
        (s.id, s.text, s.target) for s in samples
    ]
