"""The code base keeps its shape: sizes, names, docstrings. The figures are those of bench/codebase.py."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from codebase import atomic_writers, figures, generic_names, is_generic, parse, undocumented

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "evokd_data"
FOLDERS = {"evokd_data": 0.005, "tests": 0.005, "bench": 0.005, "recipes": 0.005}
"""Folder -> the largest share of its local variables that may say nothing of what they hold."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_local_variables_say_what_they_hold(folder: str) -> None:
    generic, count = generic_names(parse(ROOT / folder))
    assert count > 100
    assert len(generic) <= FOLDERS[folder] * count, "\n".join(generic)


def test_public_names_are_documented() -> None:
    missing, count = undocumented(parse(PACKAGE))
    assert count > 500
    assert len(missing) <= 0.05 * count, "\n".join(missing)


def test_files_and_functions_stay_short_and_one_module_writes_files_atomically() -> None:
    measured = figures(PACKAGE)
    assert measured["long files"] == 0
    assert measured["longest function"] <= 80
    assert len(atomic_writers(parse(PACKAGE))) == 1


@pytest.mark.parametrize(
    ("name", "generic"), [("found", True), ("_found", True), ("found_rows", False), ("rows", False)]
)
def test_a_generic_name_is_seen(name: str, generic: bool) -> None:
    assert is_generic(name) is generic


def imported_modules(tree: ast.Module) -> set[str]:
    """The modules that a file names in import statements, at the top and inside functions."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_test_file_imports_another() -> None:
    imports = {path: imported_modules(tree) for path, tree in parse(ROOT / "tests").items()}
    tests = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in imports if is_test(path)}
    assert len(tests) > 70
    assert {str(path): both for path, names in imports.items() if (both := names & tests)} == {}
    assert {str(path) for path in imports if path.parent == ROOT / "tests" / "support" and is_test(path)} == set()


def is_test(path: Path) -> bool:
    return path.name.startswith("test_") or path.name == "conftest.py"


@pytest.mark.parametrize(
    "line", ["import tests.a.test_b", "from tests.a.test_b import c", "from tests.a import test_b"]
)
def test_an_import_of_a_test_file_is_seen(line: str) -> None:
    assert "tests.a.test_b" in imported_modules(ast.parse(f"def function():\n    {line}"))
