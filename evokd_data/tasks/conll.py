"""CoNLL column files: one token a line, its tag in the last column, a blank line after each sentence.

    EU      NNP  B-NP  B-ORG
    rejects VBZ  B-VP  O

Columns are separated by tabs when a line has one, otherwise by blanks. -DOCSTART- lines end a sentence. A line that begins
with "#" is a comment unless its last column is a tag: "# O" is a token, "# sent_id = 4" is not. Where the first column counts
the tokens of every sentence, the second one holds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from evokd_data.errors import DataError
from evokd_data.tasks.iob import is_tag

SUFFIXES = (".conll", ".bio", ".iob", ".txt")
DOCUMENT = "-DOCSTART-"

_BLANKS = re.compile(r"[ \t]+")


def sentences(lines: Iterable[str], path: str) -> Iterator[tuple[list[str], list[str]]]:
    """Tokens and tags of each sentence, unchanged: tags may be of any dialect, and a token may be blank.

    Raises DataError naming file and line when a line has no tag in its last column.
    """
    tables = list(_tables(lines, path))
    token_at = 1 if _is_numbered(tables) else 0
    for table in tables:
        yield [columns[token_at] for columns in table], [columns[-1] for columns in table]


def _tables(lines: Iterable[str], path: str) -> Iterator[list[list[str]]]:
    """The columns of each token, sentence by sentence."""
    table: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        columns = _columns(line)
        if not columns or columns[0] == DOCUMENT:
            if table:
                yield table
                table = []
            continue
        tagged = len(columns) > 1 and is_tag(columns[-1])
        if columns[0].startswith("#") and not tagged:
            continue
        if not tagged:
            raise DataError(
                f"{path}:{number}: {line.strip()[:80]!r} does not end in a tag (O, B-type or I-type); "
                "lines are: token, other columns if any, tag"
            )
        table.append(columns)
    if table:
        yield table


def _is_numbered(tables: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Whether the first column of every sentence counts its tokens, from 1, as in GermEval 2014."""
    numbered = all(
        len(columns) > 2 and columns[0] == str(place) for table in tables for place, columns in enumerate(table, 1)
    )
    return numbered and any(len(table) > 1 for table in tables)


def _columns(line: str) -> list[str]:
    """The columns of a line. Only tabs and blanks separate columns, because a token may hold a no-break space or be one."""
    line = line.rstrip(" \t\r\n")
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    return _BLANKS.split(line.lstrip(" ")) if line else []
