"""Every small file of tests/inputs: what is read of it, or the one line that is printed; `check` and `run` say the same."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evokd_data.cli import cli
from evokd_data.errors import DataError
from evokd_data.loop.checks import check
from evokd_data.loop.rounds import open_run
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe, load
from evokd_data.recipe_sections import Source
from evokd_data.seeds import load_splits
from evokd_data.yaml_files import dump_yaml

INPUTS = Path(__file__).parent / "inputs"
SUFFIX = ".expected.json"
EXPECTED = {
    path.relative_to(INPUTS).as_posix().removesuffix(SUFFIX): path for path in sorted(INPUTS.rglob(f"*{SUFFIX}"))
}
FILES = {path.relative_to(INPUTS).as_posix() for path in INPUTS.rglob("*.*") if path.parent != INPUTS} - {
    name + SUFFIX for name in EXPECTED
}
TASKS = {
    "classification": {"type": "classification", "labels": ["outage", "card"]},
    "ner": {"type": "ner", "types": ["ORG", "PER", "LOC"]},
}
SEEDS = {
    "classification": [{"text": "the first", "label": "outage"}, {"text": "the second", "label": "card"}],
    "ner": [
        {"text": "Ann of UN in Rome", "spans": [{"text": "Ann", "type": "PER"}, {"text": "UN", "type": "ORG"},
                                                {"text": "Rome", "type": "LOC"}]}
    ],
}  # fmt: skip


def test_there_are_as_many_files_as_promised_each_with_its_expectation():
    assert len(FILES) >= 150
    assert set(EXPECTED) == FILES


def write_recipe(folder: Path, task: str, test: dict[str, Any]) -> Path:
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SEEDS[task]))
    recipe = {
        "name": "inputs",
        "task": TASKS[task],
        "seeds": {"path": "seeds.jsonl"},
        "test": test,
        "teacher": {"engine": "scripted"},
        "strategy": {"name": "none"},
        "rounds": {"count": 0},
        "student": {"kind": "linear"},
    }
    path = folder / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe_of(tmp_path_factory):
    """A recipe whose test set is one file of the corpus."""

    @cache
    def of_task(task: str) -> Recipe:
        return load(write_recipe(tmp_path_factory.mktemp(task), task, {"path": "seeds.jsonl"}))

    def of(name: str, expected: dict[str, Any]) -> Recipe:
        return dataclasses.replace(of_task(expected["task"]), test=Source(path=INPUTS / name, **expected["source"]))

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_read_as_is_right_or_refused_in_one_line_by_check_and_run_alike(name, recipe_of):
    expected = json.loads(EXPECTED[name].read_text(encoding="utf-8"))
    recipe = recipe_of(name, expected)
    findings = check(recipe)
    if "error" in expected:
        message = expected["error"].replace("PATH", str(INPUTS / name))
        assert "\n" not in message
        with pytest.raises(DataError) as caught:
            load_splits(recipe)
        assert str(caught.value) == message
        assert findings.problems == [message]
        return
    splits = load_splits(recipe)
    rows = [
        [s.text, s.target if isinstance(s.target, str) else [[x.start, x.end, x.type] for x in s.target]]
        for s in splits.test
    ]
    report = splits.reports["test"]
    assert rows == expected["rows"]
    assert (report.unannotated, report.format) == (expected.get("unannotated", 0), expected.get("format"))
    assert report.rows == len(rows) + report.unannotated
    assert all(
        x.surface == s.text[x.start : x.end] for s in splits.test if not isinstance(s.target, str) for x in s.target
    )
    assert findings.problems == []
    assert findings.splits == splits
    assert findings.splits.reports == splits.reports


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["csv/crlf.csv", "csv/quote-never-closed.csv", "arrow/tags-hidden.parquet", "doccano/utf-16.jsonl"]
)
def test_the_commands_print_what_the_corpus_expects(name, tmp_path):
    """The whole way from a recipe's file to the terminal, and to the run's folder."""
    expected = json.loads(EXPECTED[name].read_text(encoding="utf-8"))
    path = write_recipe(tmp_path, expected["task"], {"path": str(INPUTS / name), **expected["source"]})
    checked = CliRunner().invoke(cli, ["check", str(path)], catch_exceptions=False)
    if "error" in expected:
        message = expected["error"].replace("PATH", str(INPUTS / name))
        assert (checked.exit_code, checked.stderr, checked.stdout) == (1, message + "\n", "")
        with pytest.raises(DataError) as caught, open_run(load(path), tmp_path / "runs", progress=Progress()):
            pass
        assert str(caught.value) == message
        return
    tool = f", {expected['format']}" if "format" in expected else ""
    rows = len(expected["rows"]) + expected.get("unannotated", 0)
    assert f", {len(expected['rows'])} test texts ({rows} rows{tool})" in checked.stdout
    with open_run(load(path), tmp_path / "runs", progress=Progress()) as run:
        assert len(run.splits.test) == len(expected["rows"])
