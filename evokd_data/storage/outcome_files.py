"""test-outcomes.json: what the students of a round made of each text of the test set, in its order. It holds no text.

    {"classes": [label], "expected": [[position in classes], ...], "student": {"predicted": [[...], ...], "right": [[...], ...]},
     "seeds_only": the same of the seeds-only student in round 0, else null}

Two students are compared text by text with it. It stays in the run's folder: texts that are listed in a known order, such as that of
patients in a file, are recognised by their place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evokd_data.errors import WorkspaceError
from evokd_data.records import Outcome
from evokd_data.storage.workspace import RESTORE, read_json, write_checked_text

STUDENT, SEEDS_ONLY = "student", "seeds_only"


def write_outcomes(
    path: Path, classes: Sequence[str], student: Sequence[Outcome], seeds_only: Sequence[Outcome] | None
) -> None:
    """Write the outcomes of a round, with a checksum beside the file. Both students have read the same texts."""
    content = {
        "classes": list(classes),
        "expected": [outcome.expected for outcome in student],
        STUDENT: _columns(student),
        SEEDS_ONLY: None if seeds_only is None else _columns(seeds_only),
    }
    write_checked_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_outcomes(path: Path, name: str = STUDENT) -> list[Outcome] | None:
    """The outcomes of one student; None when the round has none, as a round that was restored from the Hub.

    Raises WorkspaceError when the file is damaged or was altered.
    """
    if not path.exists():
        return None
    content = read_json(path)
    if content[name] is None:
        return None
    try:
        columns = (content["expected"], content[name]["predicted"], content[name]["right"])
        return [Outcome(*map(tuple, row)) for row in zip(*columns, strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise WorkspaceError(f"{path}: holds no outcomes ({type(error).__name__}: {error}); {RESTORE}") from None


def _columns(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "predicted": [outcome.predicted for outcome in outcomes],
        "right": [outcome.right for outcome in outcomes],
    }
