"""A small task that many tests share: which colour is a text about? Recipe, data, samples, and how to play a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from evokd_data.loop.rounds import generate_next, train_next
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe, load
from evokd_data.records import Labelling, Origin, Sample, Sampling
from evokd_data.seeds import SEED
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import DEFAULT_LABELLING, Brief
from evokd_data.tasks import sample_id
from evokd_data.tasks.classification import Classification
from evokd_data.templates import Templates

RECIPE = """\
# evokd-data run recipe.yaml
name: colours
task: {type: classification, labels: [red, green, blue], description: which colour a text is about}
seeds: {path: seeds.jsonl, per_class: 1}
test: {path: test.jsonl}
teacher: {engine: scripted}
strategy: {name: evokd}
rounds: {count: 2, samples: 24, shard_size: 10, ask_at_most: 1}
student: {kind: linear}
teacher_trust: off
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
TASK = Classification(labels=("red", "green", "blue"), description="which colour a text is about")

QUICK = ("student.buckets=1024", "student.min_steps=10", "student.epochs=1")
"""A student that learns little: enough where a test is about everything else."""

Rows = dict[str, list[str]]


def write_rows(path: Path, rows: Rows) -> None:
    lines = [json.dumps({"text": text, "label": label}) for label, texts in rows.items() for text in texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sample(
    text: str, target: str = "red", round: int = 0, request: int = -1, position: int = 0, **fields: Any
) -> Sample:
    """A sample of TASK with its true id."""
    origin = Origin(round, request, position, SEED if request < 0 else "static", intended=target)
    return Sample(sample_id(TASK, text, target), text, target, origin, **fields)


def brief(**changes: Any) -> Brief:
    """What a strategy knows of TASK in round 1: the seeds, nothing else."""
    samples = [sample(text, label) for label, texts in SEEDS.items() for text in texts]
    first_round = Brief(
        task=TASK,
        templates=Templates("classification"),
        sampling=Sampling(1.0, 256),
        round=1,
        seed=7,
        budget=30,
        demonstrations={label: [s for s in samples if s.target == label] for label in TASK.labels},
    )
    return dataclasses.replace(first_round, **changes)


def labelling(**changes: Any) -> Labelling:
    """How `brief` labels, with some of it changed."""
    return dataclasses.replace(DEFAULT_LABELLING, **changes)


def quick(path: Path, *overrides: str) -> Recipe:
    """The recipe in a file, with a student that learns little."""
    return load(path, [*QUICK, *overrides])


def play(recipe: Recipe, runs: Path, rounds: int) -> Workspace:
    """The first `rounds` rounds of a run, as `generate` and `train-round` in turn make them, round 0 included."""
    for _ in range(rounds):
        generate_next(recipe, runs, Progress())
        train_next(recipe, runs, Progress())
    return Workspace(runs / recipe.name)


def contents(workspace: Workspace) -> list[str]:
    """The content digest of every complete round."""
    manifests = [folder.manifest for folder in workspace.rounds() if folder.manifest.exists()]
    return [json.loads(path.read_text())["identity"]["content"] for path in manifests]


def cut_down(run: Workspace, keep: int) -> None:
    """Round 1 as a process killed after its first `keep` shards left it."""
    folder = run.round(1)
    folder.generated.unlink()
    for path in (*folder.shard_files()[keep:], *folder.rejection_files()[keep:]):
        path.unlink()
