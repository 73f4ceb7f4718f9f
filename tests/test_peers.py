"""docs/peers.md counts the lines of the scripts in bench/peers as they are."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

from tests.support import ROOT

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(file: Path) -> int:
    """Lines without blank ones, comments and the docstring at the head."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".yaml":
        return sum(not line.lstrip().startswith("#") for line in text.splitlines() if line.strip())
    docstring = ast.parse(text).body[0]
    assert ast.get_docstring(ast.parse(text)) is not None
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in LAYOUT]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - set(range(1, (docstring.end_lineno or 1) + 1)))


def test_the_page_counts_the_lines_of_each_script() -> None:
    page = (ROOT / "docs/peers.md").read_text(encoding="utf-8")
    counted = {name: int(lines) for name, lines in re.findall(r"^\| `bench/peers/(\S+)` \| (\d+) \|", page, re.M)}
    scripts = {path.name for path in (ROOT / "bench/peers").iterdir() if path.is_file()} - {"teacher.py"}
    assert counted == {name: lines_of_code(ROOT / "bench/peers" / name) for name in scripts}
