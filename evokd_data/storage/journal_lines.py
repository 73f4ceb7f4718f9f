"""The lines of a journal's files, each with its checksum.

A line is one JSON object. It ends with its checksum, "xxh": the XXH3 (64 bits) of all before it, so that a letter that changes on
the disk is seen. Lines of earlier versions have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from xxhash import xxh3_64_hexdigest

from evokd_data.errors import WorkspaceError


def encode_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of the journal, with its checksum."""
    body = orjson.dumps(row)[:-1]
    return b"".join((body, MARK, xxh3_64_hexdigest(body).encode(), b'"}\n'))


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None for a torn or damaged line."""
    is_checked = line[MARK_START:MARK_STOP] == MARK and line.endswith(b'"}\n')
    if is_checked and line[MARK_STOP:-3] != xxh3_64_hexdigest(line[:MARK_START]).encode():
        return None
    try:
        row = orjson.loads(line) if line.endswith(b"\n") else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict) or not (is_checked or row.keys() in UNCHECKED_KEYS):
        return None
    row.pop("xxh", None)
    return row


MARK = b',"xxh":"'
MARK_STOP = -len(b'0123456789abcdef"}\n')
MARK_START = MARK_STOP - len(MARK)
UNCHECKED_KEYS = (
    {"message", "role", "content"},
    {
        "key", "prompt", "stage", "messages", "seed", "text", "finish_reason", "prompt_tokens", "completion_tokens",
        "choice_logprobs",
    },
)  # fmt: skip
"""The keys of a line without a checksum, as earlier versions wrote it: of a shared message, and of an answer."""


def damaged(path: Path, offset: int) -> WorkspaceError:
    """The error for a line that is no longer what was written."""
    return WorkspaceError(
        f"{path}: damaged at byte {offset}; restore the file, or remove the round's folder to ask again; a complete round "
        "can be published without its journal: publish.journal=false"
    )


OnDamage = Callable[[WorkspaceError], None]


def read_lines(path: Path, on_damage: OnDamage | None = None) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Offset, length and row of each line of a segment. A torn last line is left out.

    Raises WorkspaceError when a line was altered; with `on_damage` that is called instead, and the other lines are read.
    """
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if (row := decode_line(line)) is not None:
                yield offset, len(line), row
            elif line.endswith(b"\n"):
                if on_damage is None:
                    raise damaged(path, offset)
                on_damage(damaged(path, offset))
            offset += len(line)
