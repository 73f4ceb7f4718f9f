"""A class without a test text lowers macro-F1 whatever the student does: whoever shows a score, or will, says so."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.tasks.untested import listed, untested
from tests.support.example_task import QUICK, TEST, write_rows

FAST = [part for override in (*QUICK, "rounds.count=1") for part in ("--set", override)]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_sentence_names_the_classes_and_the_most_that_macro_f1_can_be():
    assert untested({"a": 1, "b": 2}) == ""
    assert untested({"a": 1, "b": 0, "c": 0, "d": 2}, "dev") == (
        "The dev set has no example of b, c: macro-F1 counts these classes as 0, so it is 0.500 at most; add texts of each of them to "
        "the dev set."
    )
    assert listed([str(i) for i in range(7)]) == "0, 1, 2, 3, 4 and 2 more"


def test_check_preview_run_show_and_report_say_the_same(recipe_file, tmp_path):
    path = recipe_file(**{"samples: 24": "samples: 6"})
    write_rows(tmp_path / "test.jsonl", {label: TEST[label] for label in ("red", "green")})
    sentence = untested({"red": 3, "green": 3, "blue": 0})
    assert "it is 0.667 at most" in sentence
    runs = tmp_path / "runs"
    shown = {
        "check": call("check", path).stderr,
        "preview": call("preview", path, *FAST, "--runs", runs).stderr,
        "run": call("run", path, *FAST, "--runs", runs).stderr,
        "show": call("show", runs / "colours").stdout,
        "evaluate": call("evaluate", runs / "colours", tmp_path / "test.jsonl").stdout,
    }
    said = [" ".join(text.split()) for text in shown.values()]
    assert [name for name, text in zip(shown, said, strict=True) if sentence not in text] == []
    workspace = Workspace(Path(runs / "colours"))
    assert sentence in read_json(workspace.round(1).metrics)["test"]["notes"]
    page = Path(call("report", workspace.root).stdout.strip()).read_text(encoding="utf-8")
    assert sentence in page


def test_nothing_is_said_where_each_class_has_a_text(recipe_file, tmp_path):
    path = recipe_file(**{"samples: 24": "samples: 6"})
    results = [call("check", path), call("run", path, *FAST, "--runs", tmp_path / "runs")]
    assert all("no example of" not in result.stderr + result.stdout for result in results)
