"""The README stays up to date: its generated sections equal what the package says (`python tests/test_docs.py` writes them)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evokd_data.cli import COMMANDS
from evokd_data.recipe import FAMILIES
from evokd_data.registry import resolve

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def commands() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"    evokd-data {name:<{width}}  {description}" for name, description in COMMANDS.items())


def plugs() -> str:
    lines = ["| section | name | what it is |", "|---|---|---|"]
    for section, family in FAMILIES.items():
        for name in sorted(family.table):
            module = __import__(resolve(family.table, name).__module__, fromlist=["_"])
            description = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
            lines.append(f"| `{section}.{family.key}` | `{name}` | {description} |")
    return "\n".join(lines)


PARTS = {"commands": commands, "plugs": plugs}


def written(text: str) -> str:
    for name, make in PARTS.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda m, make=make: f"{m[1]}\n{make()}\n\n{m[2]}", text, flags=re.S)
        assert count == 1, f"README.md has no part {name!r}"
    return text


@pytest.mark.parametrize("part", PARTS)
def test_the_generated_parts_of_the_readme_are_current(part: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert PARTS[part]() in text, "stale; run: python tests/test_docs.py"


def test_every_file_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
