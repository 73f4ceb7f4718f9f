"""Predicting files and streams: rows in order, a block at a time, in every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.deployment.input_files import InputFile, source_of
from evokd_data.deployment.opening import open_model
from evokd_data.deployment.predicting import BLOCK, blocks_of_file, blocks_of_lines, predict_file, predicted_rows
from evokd_data.errors import DataError
from evokd_data.stages.adopt import best_student
from evokd_data.stages.publish import public_recipe
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
    given, label = (["id", "text", "label"], "predicted_label") if labelled else (["id", "text"], "label")
    assert [list(row) for row in rows] == [[*given, label, "probability"]] * len(TEXTS)
    assert [row["text"] for row in rows] == TEXTS and [int(row["id"]) for row in rows] == [0, 1, 2, 3]
    opened = open_model(str(run.root))
    expected = predicted_rows(opened.task, opened.student.predictor(opened.checkpoint), TEXTS)
    assert [(row[label], row["probability"]) for row in rows] == [
        (row["label"], row["probability"]) for row in expected
    ]
    told = f"{tmp_path / name}: has a column 'label', so what the student predicts is in 'predicted_label'\n"
    assert result.stderr == (told if labelled else "") + "colours, round 0: 4 texts\n"


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
    result = call("predict", run.root, "-", stdin="a red rose\nthe sea".encode("utf-8-sig"))
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
    file = InputFile.of(source_of(opened, path, None, None, labelled=False), opened.task)

    def counted():
        for block in blocks_of_file(file):
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
    assert [given.text for block in blocks_of_lines(stream) for given in block] == ["größe eins", "zwei", "drei 😀"]


@pytest.mark.parametrize(
    ("row", "message"), [('{"label": "red"}', "row 2"), ('{"text": ""}', "row 2"), ('{"text": "\\ud800"}', "half a surrogate"),
     ('{"text": "fine", "note": "\\ud800"}', "row 2, column 'note'"), ('{"text": "fine", "tags": ["\\ud800"]}', "half a surrogate")]
)  # fmt: skip
def test_a_row_without_a_text_is_named_and_no_file_is_left(run, tmp_path, row, message):
    (tmp_path / "texts.jsonl").write_text('{"text": "fine"}\n' + row + "\n")
    result = call("predict", run.root, tmp_path / "texts.jsonl", "--out", tmp_path / "rows.csv")
    assert result.exit_code == 1 and message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


def test_another_column_and_an_unknown_format_of_output(run, tmp_path):
    (tmp_path / "texts.csv").write_text("utterance,n\na red rose,1\n")
    result = call("predict", run.root, tmp_path / "texts.csv", "--text", "utterance")
    assert json.loads(result.stdout)["utterance"] == "a red rose"
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
    opened = open_model(str(run.root))
    with pytest.raises(DataError, match=r"other.jsonl, row 1.*'purple'"):
        opened.test_samples(source_of(opened, tmp_path / "other.jsonl", None, None))


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def from_csv(tmp_path_factory):
    """A run whose recipe `init` has made from a table with columns and labels of its own."""
    folder = tmp_path_factory.mktemp("from_csv")
    numbers = {"red": 0, "green": 1, "blue": 2}
    rows = [
        [f"a-{i}", f"{text}, {i}", number]
        for label, number in numbers.items()
        for i, text in enumerate((SEEDS[label] + TEST[label]) * 4)
    ]
    write_csv(folder / "messages.csv", ["path", "message", "topic"], rows)
    names = [word for label, number in numbers.items() for word in ("--label-map", f"{number}={label}")]
    made = call(
        "init",
        folder / "messages.csv",
        "--out",
        folder / "messages.yaml",
        "--text",
        "message",
        "--label",
        "topic",
        *names,
    )
    assert made.exit_code == 0, made.stderr
    recipe = quick(
        folder / "messages.yaml", "teacher={engine: scripted}", "teacher_trust=off", "student={kind: linear, buckets: 1024}",
        "rounds={count: 1, samples: 24}",
    )  # fmt: skip
    return play(recipe, folder / "runs", 1)


def test_the_columns_that_init_found_are_those_of_later_files(from_csv, tmp_path):
    new = write_csv(
        tmp_path / "new.csv", ["path", "message", "n"], [["b-1", "a red rose", "7"], ["b-2", "the sea", "007"]]
    )
    out = tmp_path / "out.csv"
    assert call("predict", from_csv.root, new, "--out", out).exit_code == 0
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["path", "message", "n", "label", "probability"]] * 2
    assert [(row["path"], row["message"], row["n"]) for row in rows] == [
        ("b-1", "a red rose", "7"),
        ("b-2", "the sea", "007"),
    ]
    labelled = write_csv(
        tmp_path / "labelled.csv", ["path", "message", "topic"], [["c", "a red rose", 0], ["d", "the sea", 2]]
    )
    result = call("evaluate", from_csv.root, labelled, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["n"] == 2 and json.loads(result.stdout)["per_class"]["blue"]["support"] == 1
    ours = from_csv.recipe_folder / "messages-test.jsonl"
    assert (
        json.loads(call("evaluate", from_csv.root, ours, "--json").stdout)
        == read_json(best_student(from_csv).metrics)["test"]
    )


def test_flags_override_the_columns_of_the_recipe(from_csv, tmp_path):
    both = write_csv(
        tmp_path / "both.csv", ["message", "body", "topic", "colour"], [["the sea", "a red rose", "blue", "red"]]
    )
    by_flags = call("evaluate", from_csv.root, both, "--text", "body", "--label", "colour", "--json")
    assert json.loads(by_flags.stdout)["per_class"]["red"]["support"] == 1
    by_recipe = call("evaluate", from_csv.root, both, "--json")
    assert json.loads(by_recipe.stdout)["per_class"]["blue"]["support"] == 1
    none = write_csv(tmp_path / "none.csv", ["body"], [["a red rose"]])
    result = call("predict", from_csv.root, none)
    assert (
        result.exit_code == 1 and "no column 'message'" in result.stderr and "name it: --text COLUMN" in result.stderr
    )
    same = call("evaluate", from_csv.root, both, "--text", "body", "--label", "body")
    assert same.exit_code == 1 and "text and label are both 'body'; name two columns" in same.stderr


@pytest.mark.parametrize("header", [("text", "label"), ("message", "label"), ("text", "topic")])
def test_text_and_label_stand_in_for_columns_of_the_recipe_that_a_file_lacks(from_csv, tmp_path, header):
    rows = [["a red rose", "red"], ["the sea", "blue"]]
    heldout = write_csv(tmp_path / "heldout.csv", list(header), rows)
    scored = call("evaluate", from_csv.root, heldout, "--json")
    assert scored.exit_code == 0, scored.stderr
    assert {name: each["support"] for name, each in json.loads(scored.stdout)["per_class"].items()} == {
        "red": 1, "green": 0, "blue": 1,
    }  # fmt: skip
    predicted = call("predict", from_csv.root, heldout)
    assert [json.loads(line)[header[0]] for line in predicted.stdout.splitlines()] == ["a red rose", "the sea"]


def test_a_default_column_stands_in_neither_for_one_that_is_there_nor_for_one_that_was_named(from_csv, tmp_path):
    rows = [["the sea", "a red rose", "bleu", "red"]]
    file = write_csv(tmp_path / "both.csv", ["message", "text", "topic", "label"], rows)
    result = call("evaluate", from_csv.root, file)
    assert result.exit_code == 1 and "column 'topic' holds 'bleu'; did you mean 'blue'?" in result.stderr
    result = call("evaluate", from_csv.root, file, "--text", "body", "--label", "label")
    assert result.exit_code == 1 and "no column 'body'" in result.stderr


def test_export_names_the_options_for_a_column_that_its_test_file_lacks(from_csv, tmp_path):
    file = write_csv(tmp_path / "none.csv", ["body", "colour"], [["a red rose", "red"]])
    result = call("export", from_csv.root, "--test", file, "--out", tmp_path / "onnx")
    assert result.exit_code == 1 and result.stderr.endswith("name it: --text COLUMN, --label COLUMN\n"), result.stderr


def test_a_source_with_columns_of_its_own_is_the_default_and_the_tasks_columns_come_last(tmp_path):
    write_rows(tmp_path / "seeds.jsonl", SEEDS)
    rows = [[text, label] for label, texts in TEST.items() for text in texts]
    write_csv(tmp_path / "test.csv", ["body", "colour"], rows)
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.replace("{path: test.jsonl}", "{path: test.csv, text: body, label: colour}")
    )
    workspace = play(quick(tmp_path / "recipe.yaml"), tmp_path / "runs", 1)
    for file in ("test.csv", "seeds.jsonl"):  # each has other columns
        assert call("evaluate", workspace.root, tmp_path / file).exit_code == 0
    result = call("predict", workspace.root, tmp_path / "test.csv")
    assert list(json.loads(result.stdout.splitlines()[0])) == ["body", "colour", "label", "probability"]


def test_columns_are_kept_with_their_types_and_rows_without_one_have_null(run, tmp_path):
    given = [
        {"text": "a red rose", "n": 1, "share": 0.5, "tags": ["x"], "probability": "high"},
        {"text": "the sea", "n": 2, "share": 1, "new": True},
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    result = call("predict", run.root, tmp_path / "texts.jsonl", "--out", tmp_path / "rows.parquet")
    assert "has a column 'probability', so what the student predicts is in 'predicted_probability'" in result.stderr
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    kept = ("text", "n", "share", "tags", "probability", "new")
    assert list(rows[0]) == [*kept, "label", "predicted_probability"]
    assert [rows[0][name] for name in kept] == ["a red rose", 1, 0.5, '["x"]', "high", None]
    assert [rows[1][name] for name in kept] == ["the sea", 2, 1.0, None, None, True]


def test_a_date_and_a_price_in_a_parquet_file_are_strings_without_quotes(run, tmp_path):
    row = {"text": "a red rose", "at": datetime(2024, 1, 2, 3, 4, tzinfo=UTC), "price": Decimal("1.50"), "tags": ["x"]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "texts.parquet")
    assert call("predict", run.root, tmp_path / "texts.parquet", "--out", tmp_path / "rows.parquet").exit_code == 0
    (written,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert (written["at"], written["price"], written["tags"]) == ("2024-01-02T03:04:00+00:00", "1.50", '["x"]')


def test_predicting_twice_keeps_both_predictions(run, tmp_path):
    (tmp_path / "texts.csv").write_text("text\na red rose\n")
    for name in ("texts", "once", "twice"):
        out = {"texts": "once", "once": "twice", "twice": "thrice"}[name]
        call("predict", run.root, tmp_path / f"{name}.csv", "--out", tmp_path / f"{out}.csv")
    with (tmp_path / "thrice.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [
            "text", "label", "probability", "predicted_label", "predicted_probability", "predicted_predicted_label",
            "predicted_predicted_probability",
        ]  # fmt: skip


def test_tokens_get_a_column_with_the_text_that_spans_count_in(tagger, tmp_path):
    (tmp_path / "tokens.jsonl").write_text(json.dumps({"tokens": ["Ada", "saw", "Oslo"], "id": 3}) + "\n")
    (row,) = map(json.loads, call("predict", tagger.root, tmp_path / "tokens.jsonl").stdout.splitlines())
    assert list(row) == ["tokens", "id", "text", "spans", "probability"] and row["text"] == "Ada saw Oslo"


def test_a_published_student_is_opened_with_the_commit_of_its_base_model_that_it_was_trained_on(tmp_path):
    """The recipe says `main`, which may be another commit by now. There is no Hub here: what is asked for is looked at."""
    (tmp_path / "recipe.yaml").write_text(
        "name: n\ntask: {type: classification, labels: [a, b]}\nseeds: {path: s.jsonl}\ntest: {path: t.jsonl}\nteacher: {engine: scripted}\n"
        "student: {kind: frozen, model: org/encoder, revision: main}\n"
    )
    (tmp_path / "config.json").write_text("{}")
    for model, revision in (("org/encoder", "1" * 40), ("org/other", "main")):
        base = {"model": model, "revision": "1" * 40}
        metadata = {
            "student": "frozen",
            "classes": ["a", "b"],
            "words": False,
            "max_length": 9,
            "base": base,
            "files": {},
        }
        (tmp_path / "evokd.json").write_text(json.dumps(metadata))
        student = open_model(tmp_path).student
        assert (student.model, student.revision) == ("org/encoder", revision)


def test_a_student_that_was_published_brings_the_columns_of_its_recipe(tmp_path):
    write_rows(tmp_path / "seeds.jsonl", SEEDS)
    rows = [[text, number] for number, texts in enumerate(TEST.values()) for text in texts]
    write_csv(tmp_path / "test.csv", ["body", "colour"], rows)
    layout = "{path: test.csv, text: body, label: colour, label_map: {0: red, 1: green, 2: blue}}"
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("{path: test.jsonl}", layout))
    workspace = play(quick(tmp_path / "recipe.yaml"), tmp_path / "runs", 1)
    folder = shutil.copytree(workspace.round(0).student, tmp_path / "student")
    (folder / "recipe.yaml").write_text(public_recipe(workspace.recipe))  # as push-student has it beside the checkpoint
    result = call("evaluate", folder, tmp_path / "test.csv", "--json")
    assert json.loads(result.stdout) == read_json(workspace.round(0).metrics)["test"]
