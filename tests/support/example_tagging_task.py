"""A small tagging task that tests share: persons and places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evokd_data.recipe import Recipe, load
from evokd_data.records import Origin, Sample, Sampling
from evokd_data.seeds import SEED
from evokd_data.strategies import DEFAULT_LABELLING, Brief
from evokd_data.tasks import sample_id
from evokd_data.tasks.ner import NER
from evokd_data.templates import Templates

RECIPE = """\
# evokd-data run places.yaml
name: places
task: {type: ner, types: [person, place]}
seeds: {path: spans.jsonl}
test: {path: held.jsonl}
teacher: {engine: scripted}
strategy: {name: evokd}
rounds: {count: 2, samples: 24, shard_size: 10, ask_at_most: 1}
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


def measured_places(folder: Path, *overrides: str) -> Recipe:
    """The recipe with nine seeds. Each name stands in three of them, so that those of an exam's other folds show it."""
    places(folder)
    seeds = (
        row(person, "went by train to", city) for person in ("Ada", "Bob", "Cleo") for city in ("Oslo", "Rome", "Lima")
    )
    (folder / "spans.jsonl").write_text("".join(seeds), encoding="utf-8")
    (folder / "held.jsonl").write_text(row("Dan", "flew over", "Quito"), encoding="utf-8")
    return load(folder / "places.yaml", overrides)


TAGGING = NER(types=("place", "person"), description="places and people")
TEXTS = [
    ("Anna Berg lives in Oslo.", [("Anna Berg", "person"), ("Oslo", "place")]),
    ("They met Jo in New York, far from home", [("Jo", "person"), ("New York", "place")]),
    ("Rome's mayor greeted Rome and Li Wei", [("Rome", "place"), ("Li Wei", "person")]),
]


def tagged_sample(text: str, entities: Sequence[tuple[str, str]]) -> Sample:
    """A seed of TAGGING. `entities` are (words, type); all occurrences of the words are meant."""
    target = TAGGING.read_example({"text": text, "spans": [{"text": t, "type": k} for t, k in entities]}, "here")[1]
    return Sample(sample_id(TAGGING, text, target), text, target, Origin(0, -1, 0, SEED))


SAMPLES = [tagged_sample(*row) for row in TEXTS]


def tagging_brief(budget: int = 36) -> Brief:
    """What a strategy knows of TAGGING in round 1: the seeds, nothing else. Whatever the teacher labels counts."""
    carried = {label: [s for s in SAMPLES if TAGGING.carries(s.target, label)] for label in TAGGING.labels}
    relabel = replace(DEFAULT_LABELLING, rule="relabel")
    return Brief(
        TAGGING, Templates("ner"), Sampling(1.0, 256), 1, 7, budget=budget, demonstrations=carried, labelling=relabel
    )
