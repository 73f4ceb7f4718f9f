"""What tests share: a small task, recipes on disk, and no way out of this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

RECIPE = """\
# evokd-data run recipe.yaml
name: colours
task: {type: classification, labels: [red, green, blue], description: which colour a text is about}
seeds: {path: seeds.jsonl, per_class: 1}
test: {path: test.jsonl}
teacher: {engine: scripted}
strategy: {name: evokd}
rounds: {count: 2, samples: 24, shard_size: 10}
student: {kind: linear}
"""

SEEDS = {
    "red": ["the rose on the table is red", "a fire engine came by", "strawberries are ripe now"],
    "green": ["grass grows in the meadow", "the frog sat on a leaf", "unripe apples are sour"],
    "blue": ["the sky was clear today", "we swam in the deep sea", "her jeans were new"],
}
TEST = {
    "red": ["tomatoes and cherries", "the sunset glowed", "stop signs are easy to see"],
    "green": ["moss covered the stones", "a cucumber salad", "the forest in spring"],
    "blue": ["waves on the ocean", "a sapphire ring", "cold ice on the lake"],
}


def write_rows(path: Path, rows: dict[str, list[str]]) -> None:
    lines = [json.dumps({"text": text, "label": label}) for label, texts in rows.items() for text in texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the colours recipe with its data into tmp_path; keyword arguments replace text in it."""

    def write(text: str = RECIPE, **changes: str) -> Path:
        write_rows(tmp_path / "seeds.jsonl", SEEDS)
        write_rows(tmp_path / "test.jsonl", TEST)
        for old, new in changes.items():
            text = text.replace(old, new)
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def hub_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or fills the user's caches, or uses their token."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield
