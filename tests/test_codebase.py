"""The code base keeps its shape: sizes, names, docstrings. The figures are those of bench/codebase.py."""

from __future__ import annotations

import sys

import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from codebase import atomic_writers, figures, generic_names, is_generic, parse, undocumented

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
