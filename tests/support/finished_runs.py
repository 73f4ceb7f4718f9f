"""A complete run folder made by hand: rounds of samples, rejections, journal, metrics, as the stages leave them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from evokd_data import recipe
from evokd_data.atomic_files import write_json
from evokd_data.digest import derive_seed
from evokd_data.loop.rounds import resolved
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Message, Origin, Prompt, Quota, Rejection, Sample, Sampling
from evokd_data.reporting import dataset_card
from evokd_data.seeds import load_splits
from evokd_data.stages import manifest
from evokd_data.stages.publish import make_bundle
from evokd_data.storage import shards
from evokd_data.storage.journal import Journal
from evokd_data.storage.shards import target_text
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.tasks import sample_id
from evokd_data.tasks.measures import classification

LABELS = ("music", "weather", "books")
HOSTILE = '| `a` <b onload=x> ---\n# "no" \\| [x](y) \u202e {{ 123456 * 2 }} &amp; --- yaml: {a: [1'


def write_recipe(
    folder: Path, repo: str = "org/intents", endpoint: str = "local", labels: tuple[str, ...] = LABELS
) -> Path:
    """A recipe with its seeds and test set, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in (("seeds", 2), ("test", 4)):
        rows = [{"text": f"{name} text {i} on {label}", "label": label} for label in labels for i in range(each)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table: dict[str, Any] = {
        "name": "intents",
        "seed": 7,
        "task": {"type": "classification", "labels": list(labels), "description": "what a person wants"},
        "seeds": {"path": "seeds.jsonl", "per_class": 2},
        "test": {"path": "test.jsonl"},
        "teacher": {"engine": "scripted"},
        "student": {"kind": "linear"},
        "rounds": {"count": 3, "samples": 12, "shard_size": 5},
        "publish": {"repo": repo, "endpoint": endpoint, "hub_root": str(folder / "hub")},
        "card": {"license": "cc0-1.0", "title": "Intents", "limits": "A fixture, not a data set."},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(table, indent=1), encoding="utf-8")  # JSON is YAML
    return path


def make_run(
    folder: Path, rounds: int = 3, *, variant: str = "", rows: int = 12, words: int = 0, shard: int = 5, **written: Any
) -> tuple[Recipe, Workspace]:
    """A recipe and a workspace with `rounds` complete rounds. `variant` gives other texts: another run; `words` more of
    them make texts that are as hard to pack as real ones."""
    loaded = recipe.load(write_recipe(folder, **written))
    splits = load_splits(loaded)
    workspace = Workspace(folder / "runs" / loaded.name)
    workspace.root.mkdir(parents=True)
    workspace.freeze(resolved(loaded), manifest.inputs(loaded, splits.digests()))
    for index in range(rounds):
        samples = list(splits.seeds) if index == 0 else make_samples(loaded, index, rows, variant, words)
        make_round(loaded, workspace, index, samples, shard)
    return loaded, workspace


def make_samples(loaded: Recipe, index: int, rows: int, variant: str = "", words: int = 0) -> list[Sample]:
    labels = loaded.task.labels
    draw = random.Random(index)
    vocabulary = ["".join(draw.choices(ascii_lowercase, k=draw.randint(2, 11))) for _ in range(2000)]
    samples = []
    for i in range(rows):
        label = labels[i % len(labels)]
        text = f"round {index} text {i} on {label}{variant}" if i else f"{HOSTILE} {index}{variant}"
        text = " ".join([text, *draw.choices(vocabulary, k=words)])
        origin = Origin(index, i // 5, i % 5, "evokd", "hard" if i % 2 else "easy", "confused:music>books", label)
        sure = (1.0, 0.9, 0.5)[
            i % 3
        ]  # with three labels: those of the first have no probabilities, those of the last are in doubt
        soft = tuple(sure if other == label else (1 - sure) / 2 for other in labels) if i % 3 else None
        samples.append(Sample(sample_id(loaded.task, text, label), text, label, origin, soft))
    return samples


def make_round(loaded: Recipe, workspace: Workspace, index: int, samples: list[Sample], shard: int = 5) -> None:
    """What the stages before publish write."""
    folder, task = workspace.round(index), loaded.task
    rejected = [Rejection("duplicate", HOSTILE, Origin(index, 0, i, "evokd"), "abc (1.00)") for i in range(index)]
    for number, start in enumerate(range(0, len(samples), shard)):
        part = samples[start : start + shard]
        shards.write_shard(folder.shards / f"{number:05d}.arrow", task, part, number, number + 1)
        shards.write_rejections(folder.rejections / f"{number:05d}.arrow", rejected if number == 0 else [])
    weaknesses, quotas = [], []
    if index:
        write_probe(folder.probe, loaded, samples)
        write_journal(folder.journal, index, len(samples), [sample.text for sample in samples])
        quotas = [
            asdict(Quota(label, 4, "hard", "", "confused:music>books" if label == "music" else ""))
            for label in task.labels
        ]
        weaknesses = [
            {"name": "confused:music>books", "kind": "confused", "expected": task.labels[0], "got": task.labels[2],
             "missed": 3, "seen": 9, "wrong": [], "right": []}
        ]  # fmt: skip
    write_json(folder.plan, {"round": index, "budget": 12 * bool(index), "weaknesses": weaknesses, "cells": quotas})
    totals = {"asked": len(samples) + index if index else 0, "kept": len(samples)}
    counts = {"duplicate": index} if index else {}
    write_json(
        folder.generated,
        {**totals, "rejected": counts, "prompt_tokens": 100 * index, "completion_tokens": 50 * index,
         "requests": -(-len(samples) // 5) if index else 0, "seconds": 1.0,
         "engine": {"engine": "scripted", "model": "/home/somebody/models/teacher"}},
    )  # fmt: skip
    write_json(
        folder.metrics,
        {"schema": "1", "round": index, "test": make_score(loaded, index), "dev": None, "probe": None, "training": {},
         "seconds": 2.0},
    )  # fmt: skip
    manifest.write_manifest(loaded, workspace, index)


def write_probe(path: Path, loaded: Recipe, samples: list[Sample]) -> None:
    """The probe of a made-up student that always predicts the first label."""
    predicted = target_text(loaded.task, loaded.task.labels[0])
    rows = [
        {
            "id": s.id,
            "expected": target_text(loaded.task, s.target),
            "predicted": predicted,
            "confidence": 0.5 + i / 100,
        }
        for i, s in enumerate(samples)
    ]
    shards.write_rows(path, shards.probe_schema(), rows)


def make_score(loaded: Recipe, index: int) -> dict[str, Any]:
    """Real metrics of a made-up student that gets better."""
    import numpy as np

    size = len(loaded.task.classes)
    expected = np.repeat(np.arange(size), 20)
    right = np.arange(len(expected)) % 20 < 8 + 4 * index
    predicted = np.where(right, expected, (expected + 1) % size)
    return classification(expected, np.eye(size)[predicted] * 0.8 + 0.05, loaded.task.classes, 1)


def write_journal(folder: Path, index: int, answers: int, texts: Sequence[str] = ()) -> None:
    with Journal(folder) as journal:
        for i in reversed(range(answers)):
            prompt = Prompt(
                f"generate/{i:06d}",
                "generate",
                (Message("system", "Answer in JSON."), Message("user", f"write text {i} {HOSTILE}")),
                derive_seed(index, "generate", i),
                Sampling(0.8, 64),
            )
            scores = {"A": -0.1, "B": -2.4} if i % 2 else None
            journal.add(
                prompt, Completion(json.dumps({"texts": [texts[i] if texts else str(i)]}), "stop", 30, 12, scores)
            )


def facts_of_rounds(loaded: Recipe, workspace: Workspace, rounds: int) -> list[dataset_card.RoundFacts]:
    """The rounds of a run as publish would hand them to the card, one after the other."""
    round_facts: list[dataset_card.RoundFacts] = []
    for index in range(rounds):
        folder = workspace.round(index)
        bundle = make_bundle(loaded, workspace, folder, folder.root / "draft")
        published = read_json(bundle.files[f"rounds/{folder.tag}/manifest.json"])
        (folder.root / "published.json").write_bytes(bundle.files[f"rounds/{folder.tag}/manifest.json"].read_bytes())
        round_facts.append(dataset_card.RoundFacts(published, read_json(folder.metrics), read_json(folder.plan)))
    return round_facts
