"""A run of a tagging task whose round 1 is written by hand, and trained and scored as any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from evokd_data.loop.rounds import complete_round, open_run, teacher_of
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.records import Origin, Sample, Span
from evokd_data.runner import Runner
from evokd_data.stages.generate import generate
from evokd_data.storage.shards import shard_name, write_rejections, write_shard
from evokd_data.storage.workspace import Workspace, write_checked_json
from evokd_data.tasks import sample_id

RECIPE = {
    "name": "places",
    "task": {"type": "ner", "types": ["ORG", "LOC"]},
    "seeds": {"path": "seeds.jsonl", "per_class": 2},
    "test": {"path": "test.jsonl"},
    "teacher": {"engine": "scripted"},
    "student": {"kind": "linear", "buckets": 1024, "min_steps": 10, "epochs": 1},
    "rounds": {"count": 1, "samples": 4},
    "teacher_trust": "off",
}
TEXTS = {
    "😀 EU rejects German call": (Span(2, 4, "ORG", "EU"),),
    "Peter came to Berlin": (Span(14, 20, "LOC", "Berlin"),),
}


def make_tagging_run(folder: Path, texts: Mapping[str, tuple[Span, ...]] = TEXTS) -> Workspace:
    """Rounds 0 and 1, complete. Round 1 holds `texts`."""
    for name in ("seeds", "test"):
        rows = [
            {
                "text": f"{name} NATO met in Paris {i}",
                "spans": [{"text": "NATO", "type": "ORG"}, {"text": "Paris", "type": "LOC"}],
            }
            for i in range(3)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    recipe = load(folder / "recipe.yaml")
    with open_run(recipe, folder / "runs") as run, Runner() as loop:
        loop.run(generate(recipe, run.workspace, 0, run.splits, teacher_of(run, Progress())))
        complete_round(run, 0, Progress())
        round_folder = run.workspace.round(1)
        samples = [
            Sample(sample_id(recipe.task, text, spans), text, spans, Origin(1, i, 0, "evokd"))
            for i, (text, spans) in enumerate(texts.items())
        ]
        write_shard(round_folder.shards / shard_name(0), recipe.task, samples, 0, len(samples))
        write_rejections(round_folder.rejections / shard_name(0), [])
        write_checked_json(
            round_folder.plan, {"round": 1, "budget": len(samples), "weaknesses": [], "cells": [], "refills": []}
        )
        totals = {
            "asked": len(samples),
            "kept": len(samples),
            "rejected": {},
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "requests": len(samples),
            "seconds": 0.0,
        }
        write_checked_json(round_folder.generated, totals)
        complete_round(run, 1, Progress())
        return run.workspace
