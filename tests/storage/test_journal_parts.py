"""Parts of a journal on storage that others reach, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from evokd_data.errors import RecipeError
from evokd_data.storage.journal_parts import JournalParts


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_parts_are_read_by_their_beginning_in_order_and_go_when_told(tmp_path: Path, kind: str):
    parts = JournalParts(str(tmp_path / "a/b") if kind == "folder" else "memory://runs/colours/round-001")
    assert list(parts.read()) == []
    parts.remove("000000-")
    for name, lines in (
        ("000010-000020-cd-0000", b"3"),
        ("000000-000010-ab-0001", b"2"),
        ("000000-000010-ab-0000", b"1"),
    ):
        parts.write(name, lines)
    assert list(parts.read()) == [b"1", b"2", b"3"]
    assert list(parts.read("000000-000010-")) == [b"1", b"2"]
    parts.remove("000000-000010-")
    assert list(parts.read()) == [b"3"]
    parts.clear()
    assert list(parts.read()) == [] and not (tmp_path / "a/b").exists()
    parts.write("000000-000010-ab-0000", b"1")
    assert list(parts.read()) == [b"1"]
    parts.clear()


def test_a_place_that_cannot_be_opened_is_told():
    with pytest.raises(RecipeError, match=r"teacher.parts nowhere://a: cannot be opened .*; give a folder or a URL"):
        JournalParts("nowhere://somebody:secret@a")
