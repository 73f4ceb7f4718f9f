"""Help and `check` answer at once: they do so with every heavy library out of reach."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from evokd_data.cli import cli
from tests.support import ROOT

RECIPES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/*.yaml"))
HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "ray",
    "datasets",
    "pandas",
    "pyarrow",
    "huggingface_hub",
    "onnx",
    "onnxruntime",
)

WITHOUT = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ImportError("blocked by the test: " + name)

sys.meta_path.insert(0, Blocked())
"""

MANY = f"""{WITHOUT}
import shlex
from evokd_data.cli import main

for line in sys.stdin.read().splitlines():
    sys.argv = ["evokd-data", *shlex.split(line)]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    print("exit", code or 0, line, flush=True)
"""


def run(code: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, cwd=ROOT, timeout=300
    )


def endings(lines: list[str]) -> dict[str, str]:
    """Command -> exit code, all of them called in one process from which nothing heavy can be imported."""
    done = run(MANY, "\n".join(lines))
    assert "blocked by the test" not in done.stdout + done.stderr, done.stderr
    results = [line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith("exit ")]
    assert [line for _, _, line in results] == lines, done.stderr
    return {line: code for _, code, line in results}


@pytest.mark.parametrize("module", HEAVY)
def test_the_block_blocks(module: str) -> None:
    assert f"blocked by the test: {module}" in run(f"{WITHOUT}\nimport {module}").stderr


def commands(group: click.Group) -> Iterator[str]:
    """Every command of the group, those of the groups within it too: `hub`, `hub serve`, ..."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield name
        if isinstance(inner := group.get_command(context, name), click.Group):
            yield from (f"{name} {rest}" for rest in commands(inner))


@pytest.mark.slow
def test_help_needs_nothing_heavy() -> None:
    names = list(commands(cli))
    assert len(names) >= 14 and "hub serve" in names
    lines = ["--help", "--version", *(f"{name} --help" for name in names)]
    assert endings(lines) == dict.fromkeys(lines, "0")


@pytest.mark.slow
def test_check_and_schema_need_nothing_heavy() -> None:
    assert RECIPES
    lines = ["schema", *(f"check {recipe}" for recipe in RECIPES)]
    assert endings(lines) == dict.fromkeys(lines, "0")


def test_importing_the_package_costs_the_standard_library() -> None:
    done = run(f"{WITHOUT}\nimport evokd_data\nprint(*sys.modules)")
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"evokd_data"}
    plain = run("import sys\nprint(*sys.modules)")  # an editable install and the like have theirs already
    assert loaded - set(plain.stdout.split()) <= set(sys.stdlib_module_names)
