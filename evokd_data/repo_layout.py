"""Where things lie in a published repository: the names that publishers write and readers look for.

README.md  recipe.yaml  prompts/*.j2  card/learning-curve.svg        the newest round's, replaced by each
data/round-003/train-00000-of-00001.parquet                          appended by each round, never changed
rejections/round-003/*.parquet  journal/round-003/*.parquet  probe/round-003/*.parquet
rounds/round-003/manifest.json  plan.json  metrics.json
"""

from __future__ import annotations

import re

CARD = "README.md"
RECIPE = "recipe.yaml"
PROMPTS = "prompts"
CURVE = "card/learning-curve.svg"
DATA = "data"
REJECTIONS = "rejections"
JOURNAL = "journal"
PROBE = "probe"
ROUNDS = "rounds"
ROUND_FOLDERS = (DATA, REJECTIONS, JOURNAL, PROBE, ROUNDS)
"""Folders that only a published round may add to. What people change elsewhere (a card mended by hand) is theirs."""

SPLIT = "train"
TAG = re.compile(r"round-(\d{3,})")


def round_tag(index: int) -> str:
    """The name of a round everywhere: its folder, its tag, its config in the card."""
    return f"round-{index:03d}"


def manifest(tag: str) -> str:
    return f"{ROUNDS}/{tag}/manifest.json"


def plan(tag: str) -> str:
    return f"{ROUNDS}/{tag}/plan.json"


def metrics(tag: str) -> str:
    return f"{ROUNDS}/{tag}/metrics.json"


def told_round(path: str) -> int | None:
    """The round whose manifest lies at a path; None for other files."""
    folder, _, name = path.rpartition("/")
    top, _, tag = folder.partition("/")
    return round_index(tag) if (top, name) == (ROUNDS, "manifest.json") else None


def part(kind: str, tag: str, stem: str, number: int, of: int) -> str:
    """One Parquet file of a round, named as `datasets` names its own."""
    return f"{kind}/{tag}/{stem}-{number:05d}-of-{of:05d}.parquet"


def round_index(tag: str) -> int | None:
    """The round a tag names; None for tags of other kinds."""
    found = TAG.fullmatch(tag)
    return int(found[1]) if found else None


def is_rounds_own(path: str) -> bool:
    """Whether the path lies in a folder that only rounds add to."""
    return path.split("/", 1)[0] in ROUND_FOLDERS
