"""Paths in a published repository: the names that publishers write and readers look for.

README.md  recipe.yaml  prompts/*.j2  card/learning-curve.svg        of the newest round, replaced by each round
data/round-003/train-00000-of-00001.parquet                          added by each round, never changed
rejections/round-003/*.parquet  journal/round-003/*.parquet  probe/round-003/*.parquet
live/round-004/round-003/train-00000-of-00001.parquet                added by a corrected round: that file of data/ without
                                                                     the rows that are withdrawn
rounds/round-003/manifest.json  plan.json  metrics.json
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CARD = "README.md"
RECIPE = "recipe.yaml"
PROMPTS = "prompts"
CURVE = "card/learning-curve.svg"
DATA = "data"
REJECTIONS = "rejections"
JOURNAL = "journal"
PROBE = "probe"
LIVE = "live"
ROUNDS = "rounds"
ROUND_FOLDERS = (DATA, REJECTIONS, JOURNAL, PROBE, LIVE, ROUNDS)
"""Folders that only a published round may add to. People may change any other file, such as the card."""

SPLIT = "train"
TAG = re.compile(r"round-(\d{3,})")


def round_tag(index: int) -> str:
    """The name of a round everywhere: its folder, its tag, its config in the card."""
    return f"round-{index:03d}"


def round_index(tag: str) -> int | None:
    """The round that a tag names; None for other tags."""
    match = TAG.fullmatch(tag)
    return int(match[1]) if match else None


def manifest(tag: str) -> str:
    """The path of a round's manifest."""
    return f"{ROUNDS}/{tag}/manifest.json"


def plan(tag: str) -> str:
    """The path of a round's plan."""
    return f"{ROUNDS}/{tag}/plan.json"


def exam(tag: str) -> str:
    """The path of what the teacher's exam before a round showed."""
    return f"{ROUNDS}/{tag}/exam.json"


def metrics(tag: str) -> str:
    """The path of a round's metrics."""
    return f"{ROUNDS}/{tag}/metrics.json"


def manifest_round(path: str) -> int | None:
    """The round whose manifest has this path; None when the path is not a manifest's."""
    folder, _, name = path.rpartition("/")
    top, _, tag = folder.partition("/")
    return round_index(tag) if (top, name) == (ROUNDS, "manifest.json") else None


def parquet_file(kind: str, tag: str, stem: str, number: int, of: int) -> str:
    """The path of one Parquet file of a round, named as `datasets` names its files; `number` counts from 0."""
    return f"{kind}/{tag}/{stem}-{number:05d}-of-{of:05d}.parquet"


def live_file(tag: str, data_file: str) -> str:
    """The path under which round `tag` adds a file of an earlier round's data without the rows that are withdrawn."""
    return f"{LIVE}/{tag}/{data_file.removeprefix(f'{DATA}/')}"


def live_files(files_of_rounds: Sequence[Mapping[str, Mapping[str, Any]]], indices: Iterable[int]) -> list[str]:
    """The data files of some rounds, in row order, as they are valid at the newest round: each in its last version without withdrawn
    rows. A file of which no row is left is not among them. `files_of_rounds` has path -> entry of every round's manifest, from round 0."""
    paths = []
    for index in indices:
        prefix = f"{DATA}/{round_tag(index)}/"
        for path in sorted(path for path in files_of_rounds[index] if path.startswith(prefix)):
            versions = [(path, files_of_rounds[index][path])]
            for later in range(index + 1, len(files_of_rounds)):
                if (version := live_file(round_tag(later), path)) in files_of_rounds[later]:
                    versions.append((version, files_of_rounds[later][version]))
            valid, entry = versions[-1]
            if entry.get("rows") != 0:
                paths.append(valid)
    return paths


def in_round_folder(path: str) -> bool:
    """Whether the path lies in one of `ROUND_FOLDERS`."""
    return path.split("/", 1)[0] in ROUND_FOLDERS
