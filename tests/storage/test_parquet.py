"""Shards, rejections and journal as Parquet files, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evokd_data.digest import file_digest
from evokd_data.errors import VerificationError, WorkspaceError
from evokd_data.records import Completion, Message, Origin, Prompt, Rejection, Sample, Sampling, Span
from evokd_data.storage import journal, parquet, shards
from evokd_data.storage.journal_lines import decode_line, encode_line
from evokd_data.tasks import sample_id
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.ner import NER
from tests.support.finished_runs import HOSTILE, LABELS, write_journal

TASK = Classification(labels=LABELS)


def sample(i: int) -> Sample:
    text, label = f"text {i} {HOSTILE}", LABELS[i % 3]
    soft = (0.5, 0.25, 0.25) if i % 2 else None
    return Sample(
        sample_id(TASK, text, label),
        text,
        label,
        Origin(1, i // 5, i % 5, "evokd", "hard"),
        soft,
        1.0 + i % 4 / 4,
    )


def write_shards(folder: Path, rows: int, size: int) -> list[Path]:
    paths = []
    for start in range(0, rows, size):
        paths.append(folder / f"{start:06d}.arrow")
        shards.write_shard(
            paths[-1], TASK, [sample(i) for i in range(start, min(rows, start + size))], start, start + size
        )
    return paths


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    written = write_shards(tmp_path / "shards", 23, 5)
    files = parquet.write_samples(TASK, written, tmp_path / "parquet")
    assert list(parquet.read_samples(TASK, files)) == [sample(i) for i in range(23)]
    assert sum(map(parquet.count_rows, files)) == 23


def test_spans_come_back_as_they_were(tmp_path: Path) -> None:
    task = NER(types=("person",))
    spans = (Span(0, 3, "person", "Ann"), Span(8, 11, "person", "Bob"))
    samples = [
        Sample(sample_id(task, "Ann and Bob", target), "Ann and Bob", target, Origin(1, i, 0, "evokd"))
        for i, target in enumerate([spans, (), spans[1:]])
    ]
    shards.write_shard(tmp_path / "0.arrow", task, samples, 0, 3)
    files = parquet.write_samples(task, [tmp_path / "0.arrow"], tmp_path / "parquet")
    assert list(parquet.read_samples(task, files)) == samples
    assert shards.content_digest(task, parquet.read_samples(task, files)) == shards.content_digest(task, samples)


def test_bytes_do_not_depend_on_where_shards_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 16)
    digests = set()
    for size in (1, 7, 50):
        written = write_shards(tmp_path / f"shards-{size}", 50, size)
        (file,) = parquet.write_samples(TASK, written, tmp_path / f"parquet-{size}")
        digests.add(file_digest(file))
        metadata = pq.read_metadata(file)
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [16, 16, 16, 2]
    assert len(digests) == 1


def test_files_are_written_as_datasets_writes_them(tmp_path: Path) -> None:
    (file,) = parquet.write_samples(TASK, write_shards(tmp_path / "shards", 4, 4), tmp_path / "parquet")
    metadata = pq.read_metadata(file)
    column = metadata.row_group(0).column(1)
    assert column.compression == "ZSTD"
    assert column.has_offset_index and column.has_column_index
    assert json.loads(metadata.metadata[b"content_defined_chunking"]) == parquet.CHUNKING
    features = json.loads(metadata.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"dtype": "string", "_type": "Value"}
    assert metadata.metadata[b"evokd.schema"] == b"1"


def test_large_rounds_become_several_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 8)
    monkeypatch.setattr(parquet, "FILE_BYTES", 3000)
    files = parquet.write_samples(TASK, write_shards(tmp_path / "shards", 60, 60), tmp_path / "parquet")
    assert len(files) > 2
    assert [s.text for s in parquet.read_samples(TASK, files)] == [sample(i).text for i in range(60)]


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    shards.write_rejections(tmp_path / "0.arrow", [])
    assert parquet.write_rejections([tmp_path / "0.arrow"], tmp_path / "parquet") == []
    assert parquet.write_journal(tmp_path / "no-journal", tmp_path / "parquet") == []


def test_rejections_keep_their_reasons(tmp_path: Path) -> None:
    rejections = [Rejection("duplicate", HOSTILE, Origin(1, 0, i, "evokd"), "abc (1.00)") for i in range(3)]
    shards.write_rejections(tmp_path / "0.arrow", rejections)
    (file,) = parquet.write_rejections([tmp_path / "0.arrow"], tmp_path / "parquet")
    assert [shards.row_rejection(row) for row in parquet.read_rows(file)] == rejections


def test_the_journal_is_sorted_by_key_and_reads_as_it_was_written(tmp_path: Path) -> None:
    write_journal(tmp_path / "journal", 1, 7)  # answers arrive in reverse
    (file,) = parquet.write_journal(tmp_path / "journal", tmp_path / "parquet")
    rows = list(parquet.read_journal([file]))
    assert [row["key"] for row in rows] == [f"generate/{i:06d}" for i in range(7)]
    assert rows == sorted(journal.read_answers(tmp_path / "journal"), key=lambda row: row["key"])


def test_of_two_answers_to_one_prompt_the_last_is_published(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    write_journal(folder, 1, 1)
    line = decode_line((folder / "00000.jsonl").read_bytes())
    assert line is not None
    (folder / "00001.jsonl").write_bytes(encode_line({**line, "text": "later"}) + b"{torn")
    (row,) = parquet.read_journal(parquet.write_journal(folder, tmp_path / "parquet"))
    assert row["text"] == "later"


def test_a_journal_longer_than_a_batch_is_sorted_whole_with_the_messages_its_prompts_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH", 4)
    shared = Message("system", "beginning " * 100)
    for order in (range(20), range(10, 30)):  # two processes, of which the second was answered otherwise
        with journal.Journal(tmp_path / "journal") as opened:
            for n in reversed(order):
                asked = Prompt(f"label/{n:06d}", "label", (shared, Message("user", str(n))), n, Sampling(0.0, 8))
                opened.add(asked, Completion(f"{n} of {order.start}", "stop", 1, 1))
    (file,) = parquet.write_journal(tmp_path / "journal", tmp_path / "parquet")
    rows = list(parquet.read_journal([file]))
    assert [row["text"] for row in rows] == [f"{n} of {10 if n >= 10 else 0}" for n in range(30)]
    assert all(row["messages"][0] == {"role": "system", "content": shared.content} for row in rows)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    write_journal(tmp_path / "journal", 1, 2)
    path = tmp_path / "journal" / "00000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"key"', b'"key', 1))
    with pytest.raises(WorkspaceError, match=r"00000\.jsonl: damaged at byte 0"):
        parquet.write_journal(tmp_path / "journal", tmp_path / "parquet")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (file,) = parquet.write_samples(TASK, write_shards(tmp_path / "shards", 4, 4), tmp_path / "parquet")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(VerificationError, match=r"00000\.parquet: no whole Parquet file"):
        list(parquet.read_samples(TASK, [file]))
    with pytest.raises(VerificationError, match="no whole Parquet file"):
        parquet.count_rows(file)


def test_a_file_with_other_columns_is_no_file_of_samples(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(VerificationError, match="a row that is not a sample"):
        list(parquet.read_samples(TASK, [tmp_path / "a.parquet"]))
