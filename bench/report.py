"""One file for the figures of all benchmarks: a flat JSON object of names and values. Each bench adds or renews its own.

Other programs read the file by these names, so names stay the same. They begin with the bench's name, except those of
`bench/feeding.py`; the name of a ratio ends in `_ratio`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def record(path: Path, figures: Mapping[str, Any]) -> None:
    """Add `figures` to the object in `path`; figures of other benches stay. Raises ValueError when the file holds no object."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(before, dict):
        raise ValueError(f"{path}: holds no object of figures; remove it, or name another file with --json")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({**before, **figures}, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
