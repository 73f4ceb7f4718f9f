"""A checkpoint says who wrote it, for which classes, and what its files were: `evokd.json` beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evokd_data.digest import file_digest
from evokd_data.errors import StudentError

CARD = "evokd.json"


def write_card(folder: Path, student: str, classes: tuple[str, ...], **facts: Any) -> None:
    """Written last: a folder without it is no checkpoint. `facts` are whatever the student needs to predict."""
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
    card = {"student": student, "classes": list(classes), **facts, "files": files}
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(folder: Path, student: str) -> Mapping[str, Any]:
    """What `write_card` wrote. Raises StudentError when there is no checkpoint, another student's, or a damaged one."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        written_by, files = card["student"], dict(card["files"])
    except FileNotFoundError:
        raise StudentError(f"{folder} holds no checkpoint ({CARD} is missing); train the round again") from None
    except (ValueError, KeyError, TypeError):
        raise StudentError(f"{folder / CARD} is damaged; train the round again") from None
    if written_by != student:
        raise StudentError(
            f"{folder} was written by student {written_by!r}, not {student!r}; set student.kind to match"
        )
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or (found := file_digest(path)) != expected:
            differs = f"sha256 {found[:8]}… ≠ {expected[:8]}…" if path.is_file() else "missing"
            raise StudentError(f"{path} differs from {CARD} ({differs}); train the round again")
    return card
