"""Canonical bytes of JSON values, digests of values and files, and seeds derived from a seed and a path of names."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no white space, UTF-8. Equal values give the same bytes on every machine.

    Floats are written by `repr`, which is exact for float64: round them first if they must agree between machines.
    Raises ValueError for NaN and infinities.
    """
    return _CANONICAL.encode(value).encode()


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical form, hex. Raises ValueError for NaN and infinities."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of the file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def derive_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one step of a run, e.g. derive_seed(recipe.seed, round, "generate", index).

    Different paths give independent seeds, because the same seed with the same prompt would give the same text twice.
    """
    data = "/".join(map(str, (seed, *path))).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def derive_random(seed: int, *path: str | int) -> random.Random:
    """A random generator for one step of a run, seeded with `derive_seed`."""
    return random.Random(derive_seed(seed, *path))
