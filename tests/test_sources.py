"""Sources beyond single files: settings of the recipe, pools, and what `check` finds besides the rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from evokd_data.cli import cli
from evokd_data.errors import DataError, RecipeError
from evokd_data.recipe import load
from evokd_data.recipe_sections import Pool, Source
from evokd_data.seeds import load_splits, read_pool, read_samples
from evokd_data.sources.features import decoder
from evokd_data.tasks import Layout, UnknownClass
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.ner import NER
from tests.support.example_task import SEEDS

INPUTS = Path(__file__).parent / "inputs"
LABELS, TYPES = Classification(("outage", "card")), NER(("ORG", "PER", "LOC"))


def check(*arguments: object):
    return CliRunner().invoke(cli, ["check", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "task", "texts"),
    [
        ("arrow/class-label-hidden.parquet", LABELS, ["my card is gone", "no signal here"]),
        ("arrow/class-label-null.parquet", LABELS, ["a"]),
        ("arrow/class-label-beyond.parquet", LABELS, ["a"]),
        ("arrow/tags-hidden.parquet", TYPES, ["EU rejects"]),
        ("arrow/tags-as-numbers.parquet", TYPES, ["EU rejects"]),
        ("jsonl/unknown-label.jsonl", LABELS, ["a"]),
        ("jsonl/null-label.jsonl", LABELS, ["a"]),
        ("jsonl/no-label.jsonl", LABELS, ["a"]),
        ("csv/label-missing.csv", LABELS, ["my card is gone"]),
        ("conll/unknown-type.conll", TYPES, ["EU"]),
        ("offsets/utf-16-not-said.jsonl", TYPES, ["😀 EU rejects"]),
        ("label-studio/annotators-differ.json", LABELS, ["my card"]),
        ("label-studio/json.json", TYPES, ["EU rejects German call", "nothing here", "not looked at", "skipped"]),
        ("doccano/classes.jsonl", LABELS, ["my card", "not looked at"]),
        ("argilla/labels.json", LABELS, ["my card", "not looked at"]),
        ("prodigy/ner-teach.jsonl", TYPES, ["EU rejects"]),
    ],
)
def test_labels_of_a_pool_are_not_read_whatever_they_are(name, task, texts):
    assert read_pool(Pool(path=INPUTS / name), task)[0] == tuple(texts)


def test_a_decoder_leaves_what_is_no_class_alone_and_marks_numbers_without_a_name():
    classes = {"names": ["a", "b"], "_type": "ClassLabel"}
    decode = decoder(
        {"x": classes, "y": {"feature": {"z": classes}, "_type": "List"}, "v": {"dtype": "int8", "_type": "Value"}}
    )
    unknown = UnknownClass(7, ("a", "b"))
    row = {"x": 7, "y": [{"z": 1, "w": 1}, {"z": None}, None], "v": 1, "other": 0}
    assert decode(row) == {"x": unknown, "y": [{"z": "b", "w": 1}, {"z": None}, None], "v": 1, "other": 0}
    assert decode({"x": "b", "y": None, "v": None}) == {"x": "b", "y": None, "v": None}
    assert decode({"x": True, "y": [], "v": 0})["x"] is True


def test_metadata_that_is_not_datasets_own_is_ignored(tmp_path):
    table = pa.table({"text": ["a"], "label": ["card"]})
    for number, value in enumerate((b"{", b"[]", b'{"info": {"features": []}}', b"\xff", b'{"info": null}')):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table.replace_schema_metadata({"huggingface": value}), path)
        assert [s.target for s in read_samples(Source(path=path), LABELS, "seeds").samples] == ["card"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("{path: test.jsonl, format: docano}", ":5: test.format: \"docano\": input should be 'doccano', 'label-studio', 'argilla', 'prodigy', 'conll' or 'spans'"),
        ("{path: test.jsonl, offsets: utf8}", ":5: test.offsets: \"utf8\": input should be 'characters', 'utf-16', 'bytes' or 'graphemes'"),
        ("{path: test.jsonl, format: conll}", ":5: test.format: 'conll' holds tags of words, which a classification task has not; name a file of rows"),
        ("{path: test.jsonl, label_map: {0: rde}}", ":5: test.label_map.0: 'rde' is no label of the task; did you mean 'red'?"),
        ("{path: test.jsonl, label_map: {0: 1}}", ":5: test.label_map.0: 1: input should be a valid string"),
        ("{path: test.jsonl, label_map: {1: red, '1': blue}}", ":5: test.label_map.1: is there twice; keep one"),
        ("{path: test.jsonl, text: t, label: t}", ":5: test: text and label are both 't'"),
        ("{path: test.jsonl, text: ''}", ':5: test.text: "": string should have at least 1 character'),
        ("{path: test.jsonl, revision: main}", ":5: test: revision is for data sets of the Hub; drop it for the file 'test.jsonl'"),
        ("{path: test.jsonl, split: test}", ":5: test: split is for data sets of the Hub; drop it for the file 'test.jsonl'"),
        ("{path: test.jsonl, config: en}", ":5: test: config is for data sets of the Hub; drop it for the file 'test.jsonl'"),
        ("{path: .}", ":5: test.path: '.' is a folder; name one file in it: recipe.yaml, seeds.jsonl, test.jsonl"),
    ],
)  # fmt: skip
def test_a_setting_of_a_source_that_cannot_be_is_told_with_its_line(recipe_file, settings, problem):
    path = recipe_file(**{"{path: test.jsonl}": settings})
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert caught.value.problems == (f"{path}{problem}",)


def test_a_pool_takes_no_settings_about_labels(recipe_file):
    with pytest.raises(RecipeError, match="pool: label_map: labels of a pool are not read; drop the setting"):
        load(recipe_file(), ["pool={path: seeds.jsonl, label_map: {0: red}}"])


def test_how_a_source_is_read_is_no_part_of_the_fingerprint_and_its_rows_are_of_the_digests(recipe_file, tmp_path):
    recipe = load(recipe_file())
    rows = [{"words": text, "code": number} for number, texts in enumerate(SEEDS.values()) for text in texts]
    (tmp_path / "codes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    mapped = "{path: codes.jsonl, per_class: 1, text: words, label: code, label_map: {0: red, 1: green, 2: blue}}"
    other = load(recipe_file(), [f"seeds={mapped}"])
    assert other.fingerprint == recipe.fingerprint
    assert load_splits(other).digests() == load_splits(recipe).digests()


def test_each_source_has_columns_of_its_own(recipe_file, tmp_path):
    (tmp_path / "s.csv").write_text(
        "utterance,intent\n" + "".join(f'"{t}",{k}\n' for k, ts in SEEDS.items() for t in ts)
    )
    (tmp_path / "t.jsonl").write_text(json.dumps({"doc": {"body": "tomatoes"}, "label": "red"}))
    recipe = load(
        recipe_file(), ["seeds={path: s.csv, text: utterance, label: intent}", "test={path: t.jsonl, text: doc.body}"]
    )
    splits = load_splits(recipe)
    assert (len(splits.seeds), [(s.text, s.target) for s in splits.test]) == (9, [("tomatoes", "red")])


def test_a_label_map_names_numbers_codes_and_truths():
    layout = Layout(label_map={"0": "a", "true": "b", "X": "c"})
    assert [layout.named(value) for value in (0, 0.0, "0", True, "true", "X", 1, 1.5, None, "y")] == [
        "a", "a", "a", "b", "b", "c", 1, 1.5, None, "y"
    ]  # fmt: skip


def test_a_label_that_looks_like_a_number_is_read_from_one():
    task = Classification(("1", "2"))
    assert task.read_example({"text": "a", "label": 2}, "") == ("a", "2")
    assert task.read_example({"text": "a", "label": 2.0}, "") == ("a", "2")
    with pytest.raises(
        DataError, match=r"holds 3; labels are names: say which each number is with label_map, e\.g\. \{3: 1\}"
    ):
        task.read_example({"text": "a", "label": 3}, "")


def test_what_cannot_be_opened_is_told(recipe_file, tmp_path):
    recipe = load(recipe_file())
    (tmp_path / "test.jsonl").unlink()
    (tmp_path / "test.jsonl").mkdir()
    with pytest.raises(DataError, match=r"test\.jsonl: is a folder; name one file in it$"):
        load_splits(recipe)
    (tmp_path / "test.jsonl").rmdir()
    if os.geteuid() != 0:
        (tmp_path / "test.jsonl").touch(mode=0)
        with pytest.raises(DataError, match=r"test\.jsonl: cannot be read \(Permission denied\)"):
            load_splits(recipe)


SERVER = "teacher={engine: server, model: m, urls: ['http://127.0.0.1:9/v1'], dialect: DIALECT}"


def ner_recipe(recipe_file, tmp_path) -> Path:
    row = {"tokens": ["Ann", "left"], "ner_tags": ["B-PER", "O"]}
    path = recipe_file(**{
        "{type: classification, labels: [red, green, blue], description: which colour a text is about}": "{type: ner, types: [PER]}",
        ", per_class: 1": "",
    })  # fmt: skip
    (tmp_path / "seeds.jsonl").write_text(json.dumps(row))
    (tmp_path / "test.jsonl").write_text(json.dumps({**row, "tokens": ["Bob", "ran"]}))
    return path


def test_a_server_without_grammars_is_refused_where_spans_are_labelled_under_one(recipe_file, tmp_path):
    path = ner_recipe(recipe_file, tmp_path)
    openai = SERVER.replace("DIALECT", "openai")
    with pytest.raises(RecipeError) as caught:
        load(path, [openai, "task.labelling=grammar"])
    assert str(caught.value) == (
        f"{path}:6: teacher.engine: 'server' cannot label this task's texts: dialect 'openai' has no grammars; set "
        "teacher.dialect to vllm or sglang or llamacpp where the server is one, or task.labelling to json"
    )
    load(path, [openai, "task.labelling=json"])
    load(path, [openai])  # the exam chooses among what the server can be held to
    load(path, [openai, "strategy={name: none}"])
    load(path, [SERVER.replace("DIALECT", "vllm")])
    load(recipe_file(), [openai])


def test_check_refuses_what_the_run_would_refuse_after_the_data(recipe_file, tmp_path):
    path = recipe_file()
    (tmp_path / "model").mkdir()
    (tmp_path / "results.json").write_text("{}")
    cases = {
        "student={model: ./model}": f"student.model: '{tmp_path}/model' holds no config.json with *.safetensors or pytorch_model*.bin beside it; name the folder of a model",
        "student={model: 'package:no-such-package'}": "student.model: package 'no-such-package' is not installed; run: pip install no-such-package",
        "student={model: org/a--b}": "student.model: 'org/a--b' is neither a folder nor a model on the Hub; check the spelling: the Hub refuses '--' and '..' in a name; choose another",
        "teacher={engine: vllm, model: ./model}": f"teacher.model: '{tmp_path}/model' holds no config.json; name the folder of a model",
        "card={comparison: results.json}": f"card.comparison: {tmp_path}/results.json is no results.json of evokd-data compare (KeyError: 'budget'); name one, or leave the setting out",
    }  # fmt: skip
    for override, problem in cases.items():
        result = check(path, "--set", override)
        assert (result.exit_code, result.stderr, result.stdout) == (1, problem + "\n", ""), override
    both = check(path, "--set", "student={model: 'package:no-such-package'}", "--set", "seeds.label=colour")
    assert len(both.stderr.splitlines()) == 2


def test_check_notes_what_this_machine_lacks_and_what_is_left_out(recipe_file, tmp_path, monkeypatch):
    path = recipe_file()
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    result = check(path, "--set", SERVER.replace("dialect: DIALECT", "api_key_env: NO_SUCH_KEY"))
    assert result.exit_code == 0
    assert (
        f"{path}: note: teacher: api_key_env: the variable NO_SUCH_KEY is not set here; export it before the run"
        in result.stderr
    )
    (tmp_path / "test.jsonl").write_text(
        (tmp_path / "test.jsonl").read_text() + json.dumps({"text": SEEDS["red"][0], "label": "red"})
    )
    result = check(path)
    assert result.exit_code == 0
    assert (
        f"{path}: note: seeds: 1 of 9 rows left out, in the test set, too; the first is row 1, {SEEDS['red'][0]!r}"
        in result.stderr
    )


@pytest.mark.slow
def test_check_reads_parquet_and_loads_no_more_than_pyarrow_for_it(recipe_file, tmp_path):
    import subprocess
    import sys

    path = recipe_file(**{"test.jsonl": "test.PARQUET"})
    pq.write_table(pa.table({"text": ["tomatoes"], "label": ["red"]}), tmp_path / "test.PARQUET")
    code = (
        "import sys\nfrom evokd_data.cli import cli\n"
        f"cli(['check', {str(path)!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'vllm', 'pandas', 'huggingface_hub', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "1 test texts (1 rows)" in done.stdout
    assert done.stdout.splitlines()[-1] == "['pyarrow']"


def test_check_notes_that_the_local_hub_is_not_installed(recipe_file, monkeypatch):
    path = recipe_file()
    local = ("--set", "publish={repo: o/n, endpoint: local}")
    assert "local Hub" not in check(path, *local).stderr
    monkeypatch.setattr("evokd_data.loop.checks.LOCAL_HUB", ("no_such_package_of_the_hub",))
    assert (
        f"{path}: note: publish.endpoint: the local Hub needs no_such_package_of_the_hub; run: pip install 'evokd-data[hub]'"
        in check(path, *local).stderr
    )
