"""Files that hold what is expected, in tests/golden. `make golden` writes them anew; read the difference before you commit it."""

from __future__ import annotations

import os

from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden"
UPDATE = "UPDATE_GOLDEN"


def golden(name: str, rendered: str) -> str:
    """The text of a golden file. With UPDATE_GOLDEN in the environment, `rendered` is written there first."""
    path = GOLDEN / name
    if os.environ.get(UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered, encoding="utf-8")
    assert path.exists(), f"{path} is missing; if {name} is new: make golden"
    return path.read_text(encoding="utf-8")
