"""One file for the figures of all benchmarks: a flat object of names and values, each bench adding or renewing its own.

Names are the contract with whoever reads the file, so they stay as they are. They begin with the bench's name, but for
those of `bench/feeding.py`, and a ratio's ends in `_ratio`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def record(path: Path, figures: Mapping[str, Any]) -> None:
    """Adds `figures` to the object in `path`; what other benches wrote stays. A file that holds none is an error."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(before, dict):
        raise ValueError(f"{path}: holds no object of figures; remove it, or name another file with --json")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({**before, **figures}, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
