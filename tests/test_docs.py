"""The pages cannot go stale: generated sections, links, files, commands and their options are what the package has."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from evokd_data.cli import COMMANDS, cli
from evokd_data.intake.recipe_text import TEACHERS
from tests.support import ROOT
from tests.support.documentation import (
    PAGES,
    SECTIONS,
    command_lines,
    help_examples,
    leaf_commands,
    links,
    named_files,
    parse,
    with_sections,
)

PACKAGE = ROOT / "evokd_data"
page_names = [str(page.relative_to(ROOT)) for page in PAGES]


def test_the_pages_are_there() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/glossary.md"} <= set(
        page_names
    )


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, sections in SECTIONS.items() for name in sections])
def test_a_generated_section_is_what_the_package_says_now(page: str, name: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert with_sections(text, {name: SECTIONS[page][name]}) == text, "stale; run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=page_names)
def test_every_file_that_a_page_links_to_or_names_is_there(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []
    places = (ROOT, PACKAGE, page.parent)
    assert [name for name in named_files(page) if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_names)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    problems = []
    for words in command_lines(page):
        name, *rest = words or [""]
        if name.startswith("-") or name not in COMMANDS:
            problems.append(" ".join(words))
            continue
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        if isinstance(command, click.Group) and rest:
            command, rest = command.get_command(click.Context(command), rest[0]) or command, rest[1:]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        problems += [f"{' '.join(words)}: {option}" for option in sorted(used - options - {"--help"})]
    assert problems == []


def test_the_pages_show_most_commands() -> None:
    shown = {words[0] for page in PAGES for words in command_lines(page) if words}
    assert len(shown & set(COMMANDS)) >= 15


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_compiles_and_says_what_it_shows(example: Path) -> None:
    assert ast.get_docstring(ast.parse(example.read_text(encoding="utf-8")))
    assert example.name in (ROOT / "examples/README.md").read_text(encoding="utf-8")


def test_every_test_that_holds_a_promise_exists() -> None:
    missing, named = [], 0
    for page in PAGES:
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
            named += 1
            file = ROOT / path
            tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
            if name not in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}:
                missing.append(f"{page.name}: {path}::{name}")
    assert missing == [] and named > 30


def test_every_promise_names_a_test() -> None:
    rows = [
        line for line in (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| promise")
    ]  # fmt: skip
    assert len(rows) > 20
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize(
    ("words", "command"), list(leaf_commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_the_help_of_every_command_has_an_example_that_it_accepts(
    words: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = help_examples(command)
    assert examples
    for example in examples:
        for word in example:
            if word.endswith(".csv"):  # a file that has to be there
                (tmp_path / word).touch()
        assert tuple(example[: len(words)]) == words
        assert parse(example) is command


@pytest.mark.parametrize("example", ["rum recipe.yaml", "run", "run recipe.yaml --limmit 3", "load org/name --round x"])
def test_an_example_that_is_wrong_is_not_accepted(example: str) -> None:
    with pytest.raises(click.UsageError):
        parse(example.split())


MESSAGES = [
    message
    for line in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    for message in re.findall(r"^\| `(.*?)` \|", line)
]


def text_constants() -> list[tuple[str, ...]]:
    """The fixed words of every string in the package, those of one f-string together."""
    strings = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                values = [value.value for value in node.values if isinstance(value, ast.Constant)]
                strings.append(tuple(str(value) for value in values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                strings.append((node.value,))
    return strings


def test_every_message_of_the_troubleshooting_page_is_one_that_the_package_can_print() -> None:
    strings = text_constants()

    def is_printed(message: str) -> bool:
        fixed = [part.strip() for part in message.split("…") if len(part.strip()) > 2]
        return bool(fixed) and any(all(any(part in text for text in string) for part in fixed) for string in strings)

    assert len(MESSAGES) > 50
    assert [message for message in MESSAGES if not is_printed(message)] == []
    assert not is_printed("the teacher … is not amused; give it tea")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("material") is None, reason="mkdocs-material is not installed")
def test_the_site_is_built_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html", "settings.html", "troubleshooting.html"} <= {page.name for page in pages}
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*src=\"https?:|<link[^>]*rel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"https?:"
    )
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []


def test_the_page_about_teachers_names_the_models_of_init_and_quotes_the_results_as_they_are() -> None:
    page = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
    models = re.findall(r"^\| (\S+/\S+) \| (\d+) GiB \|$", page, flags=re.M)
    assert models == [(model.name, str(model.needs_gib)) for model in TEACHERS]
    results = (ROOT / "docs" / "results" / "general-teachers" / "README.md").read_text(encoding="utf-8")
    figures = re.findall(r"\b0\.\d{3}\b", page)
    assert len(figures) >= 4 and [figure for figure in figures if figure not in results] == []
