"""Foreign text reaches the terminal and the report without a character that could act on them."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evokd_data.atomic_files import write_json
from evokd_data.cli import cli
from evokd_data.cli.echo import PrintableFormatter
from evokd_data.cli.live import Lines
from evokd_data.printable import _CONTROL, printable, printable_line
from evokd_data.reporting.html_report import report
from evokd_data.storage.workspace import read_json
from tests.support import ROOT
from tests.support.finished_runs import make_run

pytestmark = pytest.mark.slow

ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ereversed\r\u200b\U000e0041end"


@given(st.text())
def test_text_is_printable_and_json_keeps_its_meaning(text: str) -> None:
    encoded = printable(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(encoded) == {"text": text}
    assert not _CONTROL.search(printable(text)) and "\n" not in printable_line(text)


def test_words_of_any_language_stay() -> None:
    for text in ("naïve 東京 हिन्दी עברית", "a\u200cb \U0001f469\u200d\U0001f52c", "line\n\tindented", "\u0301"):
        assert printable(text) == text


def test_nothing_prints_but_by_the_function_that_cleans() -> None:
    for path in (ROOT / "evokd_data").rglob("*.py"):
        if "localhub" in path.parts or path.name == "echo.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("click.echo", "click.secho", "click.ClickException"), f"{path}:{node.lineno}"
                assert called != "print" or any(keyword.arg == "file" for keyword in node.keywords), (
                    f"{path}:{node.lineno}"
                )


def test_a_plan_and_a_report_of_hostile_texts_act_on_nothing(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)
    folder = workspace.round(1)
    plan = read_json(folder.plan)
    plan["weaknesses"][0]["name"] = plan["cells"][0]["weakness"] = ATTACK
    plan["cells"][0]["target"] = f"{ATTACK}\nround 1: a line that nobody wrote"
    write_json(folder.plan, plan)
    shown = CliRunner().invoke(cli, ["show", str(workspace.root), "--plan", "1"])
    assert shown.exit_code == 0, shown.output
    assert "owned" in shown.output and not _CONTROL.search(shown.output)
    assert not any(line.startswith("round 1: a line") for line in shown.output.splitlines())
    page = report([workspace], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "owned" in page and not _CONTROL.search(page)


def test_an_error_that_quotes_foreign_text_acts_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / f"{ATTACK}.yaml"
    path.write_text(f'name: "{json.dumps(ATTACK)[1:-1]}"\n', encoding="utf-8")
    checked = CliRunner().invoke(cli, ["check", str(path)])
    ran = CliRunner().invoke(cli, ["run", str(path)])
    for result in (checked, ran):
        assert result.exit_code == 1 and "owned" in result.output
        assert not _CONTROL.search(result.output)


def test_progress_and_logs_are_clean_and_hold_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Console(stderr=True, highlight=False))
    lines.note(f"{ATTACK} at https://bob:password@host")
    written = capsys.readouterr().err
    entry = logging.LogRecord("x", logging.WARNING, "", 0, f"{ATTACK} https://bob:password@host", (), None)
    for text in (written, PrintableFormatter().format(entry)):
        assert "owned" in text and "password" not in text and not _CONTROL.search(text)
