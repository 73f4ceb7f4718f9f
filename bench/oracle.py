"""Runs with a teacher that is right by construction: does a choice that evokd-data takes by measuring hurt it?

    python bench/oracle.py --data DATASETS [--sets trec6 ...] [--teachers perfect ...] [--shots 1] [--seeds 3] [--out build/oracle]

The oracle is no model. It answers with real texts of the training set, and with their real labels. A choice that helps weak teachers must
not hurt it. Two weaker ones err at random:

    perfect     each text is of the class that was asked for, each label is right
    off target  four texts of ten are of another class, each label is right
    fallible    two texts of ten are of another class, two labels of ten are wrong, in every prompt in the same way

The probability of a label is the share of labels that are right, at most 0.99. So nothing tells a fallible teacher's wrong labels from its
right ones, and no order of demonstrations changes them: a real teacher's errors can be seen better than these.

A cell is a data set, a teacher, a number of seeds for each class and a random draw of them; the runs are those of bench/teachers.py with
another teacher. `--set` changes a choice, say `--set filters.label_disagreement=relabel`, and needs an --out of its own. It writes texts for
strategies with the template `generate` alone, and each run takes the exam (no `teacher_trust: off`). It prints a line for each run and writes OUT/results.json. A run that is complete is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from teachers import ROOT, TASKS, Printed, is_tagging, parser_of_runs, rows, share, write_recipe

from evokd_data.digest import derive_random
from evokd_data.errors import TeacherError
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.loop.rounds import open_run, run_rounds
from evokd_data.recipe import Recipe, load
from evokd_data.records import Completion, Prompt
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.reporting.run_summary import summary
from evokd_data.reporting.stopped_run import stopped_by_exam
from evokd_data.runner import Runner
from evokd_data.settings import from_user
from evokd_data.stages.adopt import best_round
from evokd_data.storage.shards import read_rejections, read_table
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.teachers import TEACHERS, Engine
from evokd_data.teachers.scripted import Scripted, ScriptedEngine
from evokd_data.yaml_files import dump_yaml, load_yaml, read_yaml_text

SURE = 0.99  # what the best label gets, at most: a probability of 1 would outweigh every other opinion
ORACLES: Mapping[str, Mapping[str, float]] = {
    "perfect": {"on_target": 1.0, "right": 1.0},
    "off target": {"on_target": 0.6, "right": 1.0},
    "fallible": {"on_target": 0.8, "right": 0.8},
}


@from_user("data", "set", "on_target", "right")
@dataclass(frozen=True)
class Oracle(Scripted):
    """Writes texts of a real training set, with real labels."""

    name: ClassVar[str] = "oracle"

    data: str = ""
    """The folder of the data sets."""
    set: str = ""
    """The data set's name."""
    on_target: float = 1.0
    """The share of texts that are of the class that was asked for."""
    right: float = 1.0
    """The share of texts that get their real label."""

    def identity(self) -> Mapping[str, Any]:
        return {
            **super().identity(),
            "model": f"oracle of {self.set}",
            "on_target": self.on_target,
            "right": self.right,
        }

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        yield OracleEngine(self)


@dataclass(frozen=True)
class OracleEngine(ScriptedEngine):
    """Answers prompts that ask for texts, or for the label of a text; others as the scripted teacher does."""

    settings: Oracle

    async def complete(self, prompt: Prompt) -> Completion:
        if prompt.template in ("compose", "contexts"):
            raise TeacherError(f"the oracle cannot answer the template {prompt.template}; take another strategy")
        if prompt.template != "generate":
            return await super().complete(prompt)
        variables = prompt.variables
        rng = derive_random(prompt.seed, "oracle")
        texts = [self._text(variables["target"], variables["task"]["labels"], rng) for _ in range(variables["count"])]
        answer = texts[0] if prompt.constraint is None else json.dumps({"texts": texts}, ensure_ascii=False)
        return Completion(answer, "stop", 1, 1)

    def _text(self, target: str, labels: Sequence[str], rng: random.Random) -> str:
        if rng.random() >= self.settings.on_target:
            target = rng.choice([label for label in labels if label != target])
        return rng.choice(texts_by_label(Path(self.settings.data), self.settings.set)[target])

    def _label(self, prompt: Prompt, rng: random.Random) -> tuple[str, dict[str, float] | None]:
        variables = prompt.variables
        labels: Sequence[str] = variables["task"]["labels"]
        given = self.label_of(variables["text"], labels)
        answers = variables.get("answers") or variables.get("codes") or {label: label for label in labels}
        if prompt.constraint is None or not prompt.constraint.score:
            return answers[given], None
        sure = min(self.settings.right, SURE)
        other = math.log((1 - sure) / (len(labels) - 1))
        return answers[given], {answers[label]: math.log(sure) if label == given else other for label in labels}

    def label_of(self, text: str, labels: Sequence[str]) -> str:
        """The text's real label, or the wrong one that this teacher gives it in every prompt."""
        real = label_by_text(Path(self.settings.data), self.settings.set)[text]
        draw = derive_random(0, "oracle", text)
        return (
            real if draw.random() < self.settings.right else draw.choice([label for label in labels if label != real])
        )


@lru_cache(maxsize=8)
def label_by_text(data: Path, name: str) -> dict[str, str]:
    """The real label of each text of the training and test set."""
    return {row["text"]: row["label"] for split in ("test", "train") for row in rows(data, name, split)}


@lru_cache(maxsize=8)
def texts_by_label(data: Path, name: str) -> dict[str, list[str]]:
    """The texts of the training set, by label."""
    texts: dict[str, list[str]] = {}
    for row in rows(data, name, "train"):
        texts.setdefault(row["label"], []).append(row["text"])
    return texts


def main() -> None:
    parser = parser_of_runs(__doc__, [name for name in TASKS if not is_tagging(name)])
    parser.add_argument("--teachers", nargs="+", default=list(ORACLES), choices=list(ORACLES))
    parser.set_defaults(shots=[1], samples=60, out=ROOT / "build" / "oracle")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"skipped: {arguments.data} is not there; give the folder with the data sets with --data")
        return
    TEACHERS[Oracle.name] = f"{__name__}:Oracle"
    arguments.teacher_test = 0
    cells: list[dict[str, Any]] = []
    with Runner() as loop:
        for name, teacher, shots in product(arguments.sets, arguments.teachers, arguments.shots):
            runs = []
            for seed in range(arguments.seeds):
                recipe = load(oracle_recipe(arguments, teacher, name, shots, seed), arguments.overrides)
                runs.append(run_once(loop, recipe, arguments.out, label_by_text(arguments.data, name)))
                print(json.dumps(runs[-1]), flush=True)
            gain = statistics.mean(run["final"] - run["seeds_only"] for run in runs)
            cell = {"data": name, "teacher": teacher, "shots": shots, "set": arguments.overrides}
            cells.append({**cell, "mean_gain": round(gain, 4), "runs": runs})
            content = {"rounds": arguments.rounds, "samples": arguments.samples, "cells": cells}
            (arguments.out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def run_once(loop: Runner, recipe: Recipe, out: Path, real: Mapping[str, str]) -> dict[str, Any]:
    """The figures of one run, complete or stopped. `real`: the label of each text."""
    engine = TeacherOnDemand(recipe.teacher, out / "teacher.log", Printed())
    with open_run(recipe, out / "runs") as run:
        try:
            run_rounds(loop, run, engine, Printed())
        except TeacherError as error:
            Printed().note(str(error))
        finally:
            loop.run(engine.__aexit__(None, None, None))
        return describe(recipe, run.workspace, real)


def oracle_recipe(arguments: argparse.Namespace, teacher: str, name: str, shots: int, seed: int) -> Path:
    """The recipe of bench/teachers.py with this oracle as its teacher."""
    path = write_recipe(arguments, Path(teacher.replace(" ", "-")), name, shots, seed)
    table = load_yaml(read_yaml_text(path))
    data = str(arguments.data.resolve())
    table["teacher"] = {"engine": Oracle.name, "data": data, "set": name, **ORACLES[teacher]}
    path.write_text(dump_yaml(table), encoding="utf-8")
    return path


def describe(recipe: Recipe, workspace: Workspace, real: Mapping[str, str]) -> dict[str, Any]:
    """The figures of one run, with what was chosen in it."""
    run = summary(workspace)
    scored = [entry for entry in run["rounds"] if entry["metrics"]]
    best = best_round(workspace, scored[-1]["round"]) or 0
    exam = read_json(workspace.round(1).exam)
    generated = [entry for entry in run["rounds"][1:] if entry["kept"] is not None]
    labellings = [read_json(workspace.round(entry["round"]).plan)["labelling"] for entry in generated]
    rounds = [workspace.round(entry["round"]) for entry in scored[1:]]
    samples = [row for files in rounds for path in files.shard_files() for row in read_table(path).to_pylist()]
    rejected = [rejection for files in rounds for rejection in read_rejections(files.rejection_files())]
    return {
        "run": recipe.name,
        "seeds_only": primary_metric(scored[0]["metrics"]["seeds_only"]).value,
        "rounds": [round(primary_metric(entry["metrics"]["test"]).value, 4) for entry in scored],
        "final": primary_metric(run["rounds"][best]["metrics"]["test"]).value,
        "adopted": best,
        "stopped": stopped_by_exam(workspace),
        "verdict": exam["verdict"],
        "form": exam["chosen"]["form"],
        "accuracy": exam["chosen"]["accuracy"],
        "first_texts": exam.get("first_texts"),
        **{key: [labelling[key] for labelling in labellings] for key in ("rule", "student_weight", "temperature")},
        "doubted": [read_json(files.metrics)["adoption"]["doubted"] for files in rounds],
        "kept": len(samples),
        "kept_right": share([real[row["text"]] == row["label"] for row in samples]),
        "rejected": {
            reason: [r.reason for r in rejected].count(reason) for reason in sorted({r.reason for r in rejected})
        },
    }


if __name__ == "__main__":
    main()
