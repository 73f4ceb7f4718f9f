"""The metadata of a checkpoint, `evokd.json` beside the weights: who wrote it, for which classes, and its files' digests.

Its last entry, "checksum", is the digest of all others: a letter that changes on the disk is seen. Files of earlier versions have
none and end with "files".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evokd_data.digest import digest, file_digest
from evokd_data.errors import StudentError

METADATA_FILE = "evokd.json"


def write_metadata(folder: Path, student: str, classes: tuple[str, ...], **facts: Any) -> None:
    """Write this last: a folder without it is no checkpoint. `facts` are what the student needs to predict."""
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
    metadata = {"student": student, "classes": list(classes), **facts, "files": files}
    metadata["checksum"] = digest(metadata)
    (folder / METADATA_FILE).write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_metadata(folder: Path, student: str) -> Mapping[str, Any]:
    """What `write_metadata` wrote.

    Raises StudentError when there is no checkpoint, when another kind of student wrote it, or when a file is damaged.
    """
    try:
        metadata: dict[str, Any] = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        written_by, files = metadata["student"], dict(metadata["files"])
        if not all(Path(name).name == name and isinstance(expected, str) for name, expected in files.items()):
            raise ValueError("a checkpoint names files of its own folder")
        checksum = metadata.pop("checksum") if [*metadata][-1] != "files" else None
    except FileNotFoundError:
        raise StudentError(
            f"{folder} holds no checkpoint ({METADATA_FILE} is missing); train the round again"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StudentError(f"{folder / METADATA_FILE} is damaged; train the round again") from None
    if written_by != student:
        raise StudentError(
            f"{folder} was written by student {written_by!r}, not {student!r}; set student.kind to match"
        )
    if checksum is not None and checksum != digest(metadata):
        raise StudentError(f"{folder / METADATA_FILE} was altered since it was written; train the round again")
    for name, expected in files.items():
        path = folder / name
        actual = file_digest(path) if path.is_file() else None
        if actual != expected:
            difference = f"sha256 {actual[:8]}… ≠ {expected[:8]}…" if actual else "missing"
            raise StudentError(f"{path} differs from {METADATA_FILE} ({difference}); train the round again")
    return metadata
