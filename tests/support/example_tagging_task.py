"""A small tagging task that tests share: persons and places."""

from __future__ import annotations

import json
from pathlib import Path

from evokd_data.recipe import Recipe, load

RECIPE = """\
# evokd-data run places.yaml
name: places
task: {type: ner, types: [person, place]}
seeds: {path: spans.jsonl}
test: {path: held.jsonl}
teacher: {engine: scripted}
strategy: {name: evokd}
rounds: {count: 2, samples: 24, shard_size: 10}
student: {kind: linear, buckets: 1024, min_steps: 10, epochs: 1}
"""


def row(person: str, middle: str, city: str) -> str:
    text = f"{person} {middle} {city}"
    ends = (0, len(person), "person"), (len(text) - len(city), len(text), "place")
    return json.dumps({"text": text, "spans": [{"start": s, "end": e, "type": t} for s, e, t in ends]}) + "\n"


def places(folder: Path, *overrides: str) -> Recipe:
    """The recipe with its data in a folder."""
    files = {
        "places.yaml": RECIPE,
        "spans.jsonl": row("Ada", "went by train to", "Oslo") + row("Bob", "lives near", "Rome"),
        "held.jsonl": row("Cleo", "dreams of", "Lima") + row("Dan", "flew over", "Quito"),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return load(folder / "places.yaml", overrides)
