"""One letter changed in a run's own files is never taken for what was written: it is refused, or it changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from evokd_data.errors import StudentError, WorkspaceError
from evokd_data.loop.rounds import open_run
from evokd_data.recipe import Recipe
from evokd_data.storage import parquet, shards
from evokd_data.storage.journal import Journal, read_answers, segments
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace
from evokd_data.students.checkpoint import METADATA_FILE, read_metadata, write_metadata
from tests.support.altered_files import KINDS, RunFiles, altered, flip, overwrite, play
from tests.support.finished_runs import make_run

Run = tuple[Recipe, Workspace]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(pristine: Run) -> Iterator[Run]:
    """The run, and its files as they were after the test."""
    workspace = pristine[1]
    copy = workspace.root.with_name("copy")
    shutil.copytree(workspace.root, copy)
    yield pristine
    shutil.rmtree(workspace.root)
    copy.rename(workspace.root)


@pytest.mark.slow
def test_no_altered_byte_of_a_shard_reaches_a_sample(run: Run) -> None:
    recipe, workspace = run
    (path, *_) = workspace.round(1).shard_files()
    rows = list(ShardedSamples(recipe.task, [path]))
    refused = tried = 0
    for offset in altered(path):
        tried += 1
        try:
            assert list(ShardedSamples(recipe.task, [path])) == rows, offset
        except WorkspaceError:
            refused += 1
    assert tried > 500 and refused > 0.99 * tried


def test_a_file_whose_end_was_torn_off_is_not_remembered_as_one_without_a_checksum(run: Run) -> None:
    """Two changes within one tick of the clock: the first leaves no Arrow file, the second one letter in a row."""
    (path, *_) = run[1].round(1).rejection_files()
    original = path.read_bytes()
    overwrite(path, original[:-512] + bytes(512))
    stat = path.stat()
    with pytest.raises(WorkspaceError):
        list(read_rejections([path]))
    reason = original.index(b"duplicate")
    path.write_bytes(original[:reason] + b"D" + original[reason + 1 :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(WorkspaceError, match="was altered since it was written"):
        list(read_rejections([path]))


def test_the_rows_of_a_shard_hold_any_text(run: Run, tmp_path: Path) -> None:
    recipe, _ = run
    from evokd_data.arrow_seal import UNSEALED
    from evokd_data.records import Origin, Sample

    sample = Sample("id", f"{UNSEALED} ARROW1", "music", Origin(1, 0, 0, "evokd"))
    shards.write_shard(tmp_path / "a.arrow", recipe.task, [sample], 0, 1)
    assert list(ShardedSamples(recipe.task, [tmp_path / "a.arrow"])) == [sample]


@pytest.mark.slow
def test_no_altered_byte_of_a_journal_reaches_an_answer(run: Run) -> None:
    _, workspace = run
    folder = workspace.round(1).journal
    (path,) = segments(folder)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    answers = list(read_answers(folder))
    refused = tried = 0
    for offset in altered(path):
        tried += 1
        try:
            assert list(read_answers(folder)) in (answers, answers[:-1]), offset
        except WorkspaceError:
            refused += 1
    assert tried > 500 and refused > 0.95 * tried


def test_a_journal_with_an_altered_answer_is_neither_resumed_nor_published(run: Run, tmp_path: Path) -> None:
    _, workspace = run
    folder = workspace.round(1).journal
    (path,) = segments(folder)
    text = path.read_bytes()
    assert b"round 1 text 4" in text
    path.write_bytes(text.replace(b"round 1 text 4", b"round 1 tent 4", 1))
    with pytest.raises(WorkspaceError, match="damaged at byte"):
        parquet.write_journal(folder, tmp_path / "draft")
    with pytest.raises(WorkspaceError, match="damaged at byte"), Journal(folder):
        pass


def test_a_journal_of_before_is_still_read(run: Run) -> None:
    _, workspace = run
    folder = workspace.round(1).journal
    answers = list(read_answers(folder))
    (path,) = segments(folder)
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for row in rows:
        assert len(row.pop("xxh")) == 16
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert list(read_answers(folder)) == answers
    with Journal(folder) as journal:
        assert journal.prompt_tokens == sum(answer["prompt_tokens"] for answer in answers)


FILES: dict[str, Callable[[Workspace], Path]] = {
    "an earlier round's shard": lambda workspace: workspace.round(1).shard_files()[1],
    "the seeds' shard": lambda workspace: workspace.round(0).shard_files()[0],
    "the last round's shard": lambda workspace: workspace.round(2).shard_files()[-1],
    "a plan": lambda workspace: workspace.round(1).plan,
    "a probe": lambda workspace: workspace.round(2).probe,
    "totals": lambda workspace: workspace.round(1).generated,
    "metrics": lambda workspace: workspace.round(1).metrics,
    "a manifest": lambda workspace: workspace.round(1).manifest,
}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_no_round_is_built_on_an_altered_file(run: Run, file: str) -> None:
    recipe, workspace = run
    with open_run(recipe, workspace.root.parent):
        pass
    path = FILES[file](workspace)
    for share in (0.2, 0.5, 0.8):
        original = path.read_bytes()
        flip(path, int(len(original) * share))
        with pytest.raises(WorkspaceError, match=path.name), open_run(recipe, workspace.root.parent):
            pass
        path.write_bytes(original)


def test_no_round_is_built_on_an_exchanged_shard(run: Run) -> None:
    recipe, workspace = run
    first, second, *_ = workspace.round(1).shard_files()
    shutil.copyfile(first, second)
    with (
        pytest.raises(WorkspaceError, match="rows are not those of manifest"),
        open_run(recipe, workspace.root.parent),
    ):
        pass


def test_a_shard_of_before_is_compared_with_the_manifest(run: Run, tmp_path: Path) -> None:
    recipe, workspace = run
    import pyarrow as pa

    path = workspace.round(1).shard_files()[0]
    table = shards.read_table(path)
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"evokd.seal"}
    draft = tmp_path / "draft"
    with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table)
    draft.replace(path)
    with open_run(recipe, workspace.root.parent):
        pass
    data = path.read_bytes()
    path.write_bytes(data.replace(b"round 1 text 1", b"round 1 tent 1", 1))
    with (
        pytest.raises(WorkspaceError, match="rows are not those of manifest"),
        open_run(recipe, workspace.root.parent),
    ):
        pass


@pytest.mark.slow
def test_changed_bytes_blocks_and_cuts_of_every_kind_of_file_are_refused_or_change_nothing(tmp_path: Path) -> None:
    run_files = RunFiles.at(tmp_path)
    outcomes = [play(seed, run_files) for seed in range(3)]
    assert [outcome.violations for outcome in outcomes] == [[], [], []]
    by_kind = sum((Counter(outcome.by_kind) for outcome in outcomes), Counter[str]())
    assert set(by_kind) == set(KINDS) and min(by_kind.values()) > 20
    assert sum(outcome.refused for outcome in outcomes) > 0.9 * by_kind.total()


@pytest.mark.slow
def test_a_schema_of_types_that_do_not_exist_is_a_damaged_file(tmp_path: Path) -> None:
    """Seed 76 of `make faults`: the checksum's own mark was hit, and then an integer's width."""
    run_files = RunFiles.at(tmp_path)
    path = next(path for kind, path in run_files.files if kind == "rejections")
    original = path.read_bytes()
    for offset in range(len(original)):
        overwrite(
            path,
            original.replace(b"xxh3-of-file:", b"xxh4-of-file:")[:offset] + b"\xff" + original[offset + 1 :],
            offset,
        )
        with contextlib.suppress(WorkspaceError):
            list(read_rejections([path]))


@pytest.mark.slow
def test_a_checkpoint_whose_metadata_were_altered_is_refused_and_an_earlier_one_is_read(tmp_path: Path) -> None:
    write_metadata(tmp_path, "linear", ("a", "b"), buckets=1024)
    path = tmp_path / METADATA_FILE
    text = path.read_text(encoding="utf-8")
    for changed in (
        text.replace("1024", "1025"),
        text.replace("buckets", "buckels"),
        text.replace("checksum", "cheeksum"),
    ):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(StudentError, match=METADATA_FILE):
            read_metadata(tmp_path, "linear")
    metadata = json.loads(text)
    del metadata["checksum"]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    assert read_metadata(tmp_path, "linear")["buckets"] == 1024
