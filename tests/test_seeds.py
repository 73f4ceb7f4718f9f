from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import DataError
from evokd_data.recipe import Recipe, load
from evokd_data.records import Span
from evokd_data.seeds import draw, left_out, load_splits, notes
from tests.support.example_task import SEEDS, TASK, TEST, sample, write_rows

ROWS = [{"text": text, "label": label} for label, texts in SEEDS.items() for text in texts]


def error_of(recipe: Recipe) -> str:
    with pytest.raises(DataError) as caught:
        load_splits(recipe)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_arrow(path: Path, writer: Callable[..., pa.ipc.RecordBatchWriter]) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as file:
        file.write_table(table)


WRITERS = {
    "seeds.jsonl": lambda path: write_rows(path, SEEDS),
    "bom.jsonl": lambda path: path.write_text("\ufeff" + "\n\n".join(map(json.dumps, ROWS)), encoding="utf-8"),
    "seeds.csv": lambda path: path.write_text("text,label\n" + "".join(f'"{r["text"]}",{r["label"]}\n' for r in ROWS)),
    "seeds.TSV": lambda path: path.write_text("label\ttext\n" + "".join(f"{r['label']}\t{r['text']}\n" for r in ROWS)),
    "seeds.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "seeds.arrow": lambda path: write_arrow(path, pa.ipc.new_file),
    "stream.arrow": lambda path: write_arrow(path, pa.ipc.new_stream),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_seeds(recipe_file, tmp_path, name):
    WRITERS[name](tmp_path / name)
    recipe = load(recipe_file(), [f"seeds.path={name}", "seeds.per_class=null"])
    assert [(s.text, s.target) for s in load_splits(recipe).seeds] == [(r["text"], r["label"]) for r in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"text": "a", "label": "rde"}', "row 1: column 'label' holds 'rde'; did you mean 'red'?"),
        ("x.jsonl", '{"text": "a", "label": 3}', "row 1: column 'label' holds 3; labels are names: say which each number is with label_map, e.g. {3: red}, where the file is named"),
        ("x.jsonl", '{"text": " ", "label": "red"}', "row 1: column 'text' holds ' '; every row needs a text"),
        ("x.jsonl", '{"txt": "a", "label": "red"}', "row 1: no column 'text'; did you mean 'txt'?"),
        ("x.jsonl", '{"text": "a"', "x.jsonl:1: not JSON"),
        ("x.jsonl", "\n[1]", "x.jsonl:2: '[1]' is not an object; one object a line"),
        ("x.jsonl", '{"text": "\\ud800 a", "label": "red"}', "row 1: '\\ud800 a' holds half a surrogate pair"),
        ("x.jsonl", "", "has no example of red, green, blue; add at least one of each"),
        ("x.csv", "text,label\nhello, you,red\n", "x.csv:2: has 3 fields, the header 2; ',' separates fields: put texts that hold one in quotes"),
        ("x.csv", "text,label\nhello\n", "row 1: column 'label' holds None"),
        ("x.tsv", "text\tlabel\na\tb\tred\n", "x.tsv:2: has 3 fields, the header 2; '\\t' separates fields: a text cannot hold one"),
        ("x.parquet", "PAR1", "cannot be read"),
        ("x.arrow", "ARROW1", "cannot be read"),
        ("x.txt", "a red", "unknown format '.txt'; use one of .jsonl, .ndjson, .json, .csv, .tsv, .xlsx, .parquet, .arrow, .feather, or one of these with .gz, .bz2, .xz, .zst behind it"),
    ],
)  # fmt: skip
def test_a_row_nobody_can_use_is_told_with_its_file_and_place(recipe_file, tmp_path, name, content, message):
    path = recipe_file()
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert message in error_of(load(path, [f"seeds.path={name}", "seeds.per_class=null"]))


def test_a_file_that_is_not_utf8_is_told(recipe_file, tmp_path):
    path = recipe_file()
    (tmp_path / "seeds.jsonl").write_bytes(b'{"text": "caf\xe9", "label": "red"}\n')
    assert "seeds.jsonl: not UTF-8" in error_of(load(path))


def test_a_file_that_went_away_after_the_check_is_told(recipe, tmp_path):
    checked_recipe = recipe()
    (tmp_path / "test.jsonl").unlink()
    assert "test.jsonl: no such file" in error_of(checked_recipe)


def test_a_class_without_seeds_is_told_with_its_name(recipe, tmp_path):
    checked_recipe = recipe()
    write_rows(tmp_path / "seeds.jsonl", {"red": SEEDS["red"], "green": SEEDS["green"][:1]})
    assert (
        error_of(checked_recipe)
        == "seeds: 0 examples of 'blue', per_class asks for 1; add some or lower seeds.per_class"
    )


def test_an_empty_test_set_is_told(recipe, tmp_path):
    checked_recipe = recipe()
    (tmp_path / "test.jsonl").write_text("\n")
    assert error_of(checked_recipe).endswith(
        "test.jsonl is empty; without a test set no round can be compared with another"
    )


CONTRADICTED = (
    "2 of 15 rows left out, with a text that another row labels otherwise; the first is row 4, 'grass grows in the meadow', "
    "is 'green' there and 'blue' in row 12"
)


def all_seeds(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, seeds=dataclasses.replace(recipe.seeds, per_class=None))


def test_seeds_of_test_and_dev_and_those_that_repeat_or_contradict_each_other_are_left_out_counted_and_named(
    recipe_file, tmp_path
):
    (tmp_path / "dev.jsonl").touch()
    recipe = all_seeds(load(recipe_file(), ["dev={path: dev.jsonl}"]))
    once = SEEDS["red"][0]
    rows = [*ROWS, {"text": once, "label": "red"}, {"text": once, "label": "red"},
            {"text": SEEDS["green"][0], "label": "blue"},
            {"text": TEST["red"][0], "label": "red"}, {"text": TEST["red"][1], "label": "blue"},
            {"text": "dusk over the bay", "label": "red"}]  # fmt: skip
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "dev.jsonl").write_text(
        "\n".join(
            json.dumps({"text": text, "label": "red"}) for text in ["dusk over the bay", TEST["red"][2], "a cherry"]
        )
    )
    splits = load_splits(recipe)
    assert [s.text for s in splits.seeds] == [row["text"] for row in ROWS if row["text"] != SEEDS["green"][0]]
    assert len(splits.test) == 9
    assert [s.text for s in splits.dev] == ["dusk over the bay", "a cherry"]
    report = splits.reports["seeds"]
    assert report.rows == 15
    assert dict(report.left_out) == {"in_test": 2, "in_dev": 1, "repeated": 2, "contradicted": 2}
    assert notes(report) == [
        f"2 of 15 rows left out, in the test set, too; the first is row 13, {TEST['red'][0]!r}",
        "1 of 15 rows left out, in the dev set, too; the first is row 15, 'dusk over the bay'",
        f"2 of 15 rows left out, like an earlier row, text and label; the first is row 10, {once!r}",
        CONTRADICTED,
    ]
    assert dict(splits.reports["dev"].left_out) == {"in_test": 1}


def test_a_seed_that_is_a_test_text_but_for_case_punctuation_or_a_blank_is_left_out(recipe_file, tmp_path):
    recipe = all_seeds(load(recipe_file()))
    alike = [f" {TEST['red'][0].upper()} !", f"{TEST['blue'][1]}."]
    repeated = f"{SEEDS['red'][0]}?"
    rows = [*ROWS, {"text": alike[0], "label": "red"}, {"text": alike[1], "label": "blue"}, {"text": repeated, "label": "red"},
            {"text": "?!", "label": "red"}, {"text": "...", "label": "blue"}]  # fmt: skip
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load_splits(recipe)
    assert [s.text for s in splits.seeds] == [*(row["text"] for row in ROWS), "?!", "..."]
    assert dict(splits.reports["seeds"].left_out) == {"in_test": 2, "repeated": 1}


def test_texts_that_contradict_each_other_in_another_spelling_are_both_named(recipe_file, tmp_path):
    recipe = all_seeds(load(recipe_file()))
    rows = [*ROWS, {"text": "Is it on?", "label": "red"}, {"text": "is it on", "label": "blue"}]
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = load_splits(recipe).reports["seeds"]
    assert dict(report.left_out) == {"contradicted": 2}
    assert report.examples["contradicted"] == "row 10, 'Is it on?', is 'red' there and 'blue' in row 11"


def test_tagged_seeds_repeat_each_other_only_when_they_are_equal():
    """Case can be what makes a name."""
    spans = (Span(5, 8, "date", "May"),)
    tagged = {"come May": spans, "come may": (), "Come May!": spans}
    samples = [dataclasses.replace(sample(text, "red"), target=target) for text, target in tagged.items()]
    assert left_out(samples, {"come may"}, ()) == {0: "in_test", 1: "in_test", 2: "in_test"}
    assert left_out(samples, (), ()) == {}


def test_a_class_with_too_few_seeds_besides_those_left_out_says_so(recipe_file, tmp_path):
    recipe = load(recipe_file(), ["seeds.per_class=3"])
    write_rows(tmp_path / "test.jsonl", TEST | {"blue": [*TEST["blue"], SEEDS["blue"][0]]})
    assert error_of(recipe) == (
        "seeds: 2 examples of 'blue' besides 1 that are left out (they stand in test or dev, or repeat or contradict another), "
        "per_class asks for 3; add some or lower seeds.per_class"
    )
    write_rows(tmp_path / "test.jsonl", TEST | {"blue": SEEDS["blue"]})
    assert error_of(all_seeds(recipe)).endswith(
        "seeds.jsonl has no example of blue; 3 of 9 rows left out, in the test set, too; the first is row 7, 'the sky was clear "
        "today'; add at least one of each"
    )


def test_what_is_left_out_changes_no_draw_that_did_not_draw_it(recipe_file, tmp_path):
    recipe = load(recipe_file())
    drawn = load_splits(recipe).seeds
    undrawn = next(text for text in SEEDS["red"] if text not in {sample.text for sample in drawn})
    write_rows(tmp_path / "test.jsonl", TEST | {"red": [*TEST["red"], undrawn]})
    assert load_splits(recipe).seeds == drawn


def test_a_dev_set_that_is_the_test_set_is_refused(recipe_file):
    message = error_of(load(recipe_file(), ["dev={path: test.jsonl}"]))
    assert message.startswith("dev: every text of ") and message.endswith(
        "test.jsonl stands in the test set, too; name other texts, or drop dev"
    )


def test_the_digests_of_splits_tell_texts_labels_and_order_apart(recipe, tmp_path):
    checked_recipe = recipe()
    before = load_splits(checked_recipe).digests()
    write_rows(tmp_path / "test.jsonl", TEST | {"blue": [*TEST["blue"][:2], "cold ice on the pond"]})
    after = load_splits(checked_recipe).digests()
    assert before["seeds"] == after["seeds"] and before["test"] != after["test"]


@given(st.integers(1, 3), st.integers(0, 10))
def test_a_draw_holds_k_of_each_class_in_the_order_of_the_file(k, seed):
    samples = [sample(text, label) for label, texts in SEEDS.items() for text in texts]
    drawn = draw(TASK, samples, k, seed)
    assert [sum(s.target == label for s in drawn) for label in TASK.labels] == [k, k, k]
    assert drawn == sorted(drawn, key=samples.index) == draw(TASK, samples, k, seed)


def test_different_seeds_draw_different_examples():
    samples = [sample(text, label) for label, texts in SEEDS.items() for text in texts]
    assert len({tuple(s.id for s in draw(TASK, samples, 1, seed)) for seed in range(20)}) > 5
