"""Predicting files and streams: rows in order, a block at a time, in every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.deployment.opening import open_model
from evokd_data.deployment.predicting import (
    BLOCK,
    blocks_of_lines,
    blocks_of_source,
    predict_file,
    predicted_rows,
    source_of,
)
from evokd_data.errors import DataError
from evokd_data.stages.adopt import best_student
from evokd_data.storage.workspace import read_json
from tests.support.example_tagging_task import places
from tests.support.example_task import RECIPE, SEEDS, TEST, play, quick, write_rows

TEXTS = ["a red rose", 'she said "green", then left', "the sea,\nthe sky", "größer 😀 blau"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_rows(folder / "seeds.jsonl", SEEDS)
    write_rows(folder / "test.jsonl", TEST)
    (folder / "recipe.yaml").write_text(RECIPE)
    return play(quick(folder / "recipe.yaml"), folder / "runs", 1)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    recipe = places(folder, "teacher_trust=off", "student={kind: linear, buckets: 4096, min_steps: 200}")
    return play(recipe, folder / "runs", 1)


def call(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)


def write_texts(path: Path, labelled: bool) -> Path:
    rows = [{"id": index, "text": text, **({"label": "red"} if labelled else {})} for index, text in enumerate(TEXTS)]
    match path.name.partition(".")[2]:
        case "csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case "jsonl.gz":
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", ["texts.jsonl", "texts.csv", "texts.parquet", "texts.jsonl.gz"])
def test_every_kind_of_file_gives_a_row_for_each_text_in_order(run, tmp_path, name, labelled):
    result = call("predict", run.root, write_texts(tmp_path / name, labelled))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [list(row) for row in rows] == [["text", "label", "probability"]] * len(TEXTS)
    opened = open_model(str(run.root))
    assert rows == predicted_rows(opened.task, opened.student.predictor(opened.checkpoint), TEXTS)
    assert result.stderr == "colours, round 0: 4 texts\n"


def test_the_label_is_the_most_probable_class_and_the_probability_its_own(run):
    opened = open_model(str(run.root))
    texts = [text for texts in SEEDS.values() for text in texts]
    rows = predicted_rows(opened.task, opened.student.predictor(opened.checkpoint), texts)
    from evokd_data.tasks import unlabelled

    probabilities = opened.student.predict([unlabelled(opened.task, text) for text in texts], opened.checkpoint)
    assert [row["label"] for row in rows] == [opened.task.labels[int(row.argmax())] for row in probabilities]
    assert [row["probability"] for row in rows] == pytest.approx([float(row.max()) for row in probabilities], abs=1e-6)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("texts", [TEXTS, []])
def test_every_format_of_output_holds_the_same_rows(run, tmp_path, suffix, texts):
    source, out = tmp_path / "texts.jsonl", tmp_path / f"rows{suffix}"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    expected = [json.loads(line) for line in call("predict", run.root, source).stdout.splitlines() if line]
    assert call("predict", run.root, source, "--out", out).stdout == f"{out}\n"
    match suffix:
        case ".csv":
            with out.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = [{**row, "probability": float(row["probability"])} for row in reader]
                assert reader.fieldnames == ["text", "label", "probability"]
        case ".parquet":
            rows = pq.read_table(out).to_pylist()
        case _:
            rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == expected
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_spans_have_offsets_in_the_text_as_it_is_written(tagger, tmp_path):
    text = "Ada  went by train to\u00a0 Oslo"
    (tmp_path / "texts.txt.jsonl").write_text(json.dumps({"text": text}) + "\n")
    (row,) = map(json.loads, call("predict", tagger.root, tmp_path / "texts.txt.jsonl").stdout.splitlines())
    assert {span["type"] for span in row["spans"]} == {"person", "place"}
    assert [text[span["start"] : span["end"]] for span in row["spans"]] == [span["surface"] for span in row["spans"]]
    out = tmp_path / "rows.parquet"
    call("predict", tagger.root, tmp_path / "texts.txt.jsonl", "--out", out)
    assert pq.read_table(out).to_pylist() == [row]


def test_lines_on_stdin_are_texts_and_blank_ones_are_none(run):
    result = call("predict", run.root, "-", stdin=b"a red rose\r\n\n  \nthe sea")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["a red rose", "the sea"]
    result = call("predict", run.root, "-", stdin=b"fine\n\xff\n")
    assert result.exit_code == 1 and "stdin, line 2: not UTF-8" in result.stderr


@pytest.mark.slow
def test_a_line_is_answered_before_the_next_is_written(run):
    command = [sys.executable, "-m", "evokd_data", "predict", str(run.root), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            for text in ("a red rose", "the sea"):
                process.stdin.write(f"{text}\n".encode())
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["text"] == text
            process.stdin.close()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_texts_are_read_predicted_and_written_a_block_at_a_time(run, tmp_path):
    count = 2 * BLOCK + 7
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {number}"}) + "\n" for number in range(count)))
    opened, read, ahead, numbers = open_model(str(run.root)), [0], [], []

    def counted():
        for block in blocks_of_source(opened, source_of(path, None, None)):
            read[0] += len(block)
            yield block

    class Writer:
        def write(self, rows):
            ahead.append(read[0] - len(numbers))
            numbers.extend(int(row["text"].split()[1]) for row in rows)

    assert predict_file(opened, counted(), Writer()) == count
    assert numbers == list(range(count)) and max(ahead) == BLOCK


def test_what_arrives_in_pieces_is_cut_at_line_ends_alone():
    class Pieces(io.BytesIO):
        def read1(self, size=-1):
            return self.read(3)

    stream = Pieces("größe eins\nzwei\n\ndrei 😀".encode())
    assert [text for block in blocks_of_lines(stream) for text in block] == ["größe eins", "zwei", "drei 😀"]


@pytest.mark.parametrize(
    ("row", "message"), [('{"label": "red"}', "row 2"), ('{"text": ""}', "row 2"), ('{"text": "\\ud800"}', "half a surrogate")]
)  # fmt: skip
def test_a_row_without_a_text_is_named_and_no_file_is_left(run, tmp_path, row, message):
    (tmp_path / "texts.jsonl").write_text('{"text": "fine"}\n' + row + "\n")
    result = call("predict", run.root, tmp_path / "texts.jsonl", "--out", tmp_path / "rows.csv")
    assert result.exit_code == 1 and message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


def test_another_column_and_an_unknown_format_of_output(run, tmp_path):
    (tmp_path / "texts.csv").write_text("utterance,n\na red rose,1\n")
    result = call("predict", run.root, tmp_path / "texts.csv", "--text", "utterance")
    assert json.loads(result.stdout)["text"] == "a red rose"
    result = call("predict", run.root, tmp_path / "texts.csv", "--text", "utterance", "--out", tmp_path / "rows.xlsx")
    assert result.exit_code == 1 and "unknown format '.xlsx'; use .jsonl, .csv, .parquet" in result.stderr


def test_evaluate_gives_the_metrics_of_the_rounds_test(run):
    result = call("evaluate", run.root, run.recipe_folder / "test.jsonl", "--json")
    assert json.loads(result.stdout) == read_json(best_student(run).metrics)["test"]


def test_evaluate_shows_scores_with_intervals_and_every_class(run, tagger):
    shown = call("evaluate", run.root, run.recipe_folder / "test.jsonl").stdout
    test = read_json(best_student(run).metrics)["test"]
    assert f"macro-F1  {test['macro_f1']:.3f}" in shown and "95 % interval" in shown
    assert all(label in shown for label in ("red", "green", "blue"))
    assert "micro-F1" in call("evaluate", tagger.root, tagger.recipe_folder / "held.jsonl").stdout


def test_labels_that_the_task_does_not_have_are_an_error(run, tmp_path):
    write_rows(tmp_path / "other.jsonl", {"purple": ["a plum"]})
    with pytest.raises(DataError, match=r"other.jsonl, row 1.*'purple'"):
        open_model(str(run.root)).test_samples(source_of(tmp_path / "other.jsonl", None, None))
