"""Students on a handful of real labelled texts: which of them is the baseline that a loop has to beat?

    python bench/few_shots.py --data DATASETS [--sets trec6 ...] [--shots 1 3 8] [--draws 5] [--arm "contrastive steps=40" ...] [--json FILE]
                              [--setfit PYTHON]

An arm is a student and its settings, apart from its base model, MiniLM; the arm `setfit` is bench/peers/student_setfit.py, run by PYTHON
of an environment that has setfit, and all arms are then scored by accuracy, which is what it prints. For each data set, number of texts a class and draw of them,
every arm learns the same texts and predicts the same test texts, at most 500: macro-F1, or micro-F1 over spans. DATASETS as for
bench/teachers.py. Nothing is chosen by these scores but the defaults of the students, on sets that are not those of a user.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from teachers import TASKS, is_tagging, kinds_of, rows, student_folder, text_of, write_rows

from evokd_data.digest import derive_random
from evokd_data.generation.seed_student import training_data_of
from evokd_data.recipe import load
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.seeds import load_splits
from evokd_data.stages.evaluate import score
from evokd_data.yaml_files import dump_yaml

ROOT = Path(__file__).parents[1]
TEST_TEXTS = 500
ARMS = ("frozen", "contrastive", "transformer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument(
        "--sets", nargs="+", default=["trec6", "snips_intents", "clinc150_domains"], choices=list(TASKS)
    )
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--arm", dest="arms", action="append", metavar="'KIND [SETTING=VALUE ...]'")
    parser.add_argument("--setfit", type=Path, metavar="PYTHON")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"skipped: {arguments.data} is not there; give the folder with the data sets with --data")
        return
    arms = [*(arguments.arms or ARMS), *(["setfit"] if arguments.setfit else [])]
    cells = []
    for name in arguments.sets:
        for shots in arguments.shots:
            scores: dict[str, list[float]] = {arm: [] for arm in arms}
            seconds: dict[str, list[float]] = {arm: [] for arm in arms}
            for draw in range(arguments.draws):
                for arm in arms[draw % len(arms) :] + arms[: draw % len(arms)]:
                    score, took = learn(arguments.data, name, shots, draw, arm, arguments.setfit)
                    scores[arm].append(round(score, 4))
                    seconds[arm].append(round(took, 1))
                print(json.dumps({"data": name, "shots": shots, "draw": draw} | {arm: scores[arm][-1] for arm in arms}), flush=True)  # fmt: skip
            means = {arm: round(statistics.mean(scores[arm]), 4) for arm in arms}
            median_s = {arm: statistics.median(seconds[arm]) for arm in arms}
            cells.append({"data": name, "shots": shots, "draws": arguments.draws, "scores": scores, "means": means, "seconds": median_s})  # fmt: skip
            print(f"{name}, {shots} a class: {means}", flush=True)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                arguments.json.write_text(json.dumps({"test_texts": TEST_TEXTS, "cells": cells}, indent=1) + "\n")


def learn(data: Path, name: str, shots: int, draw: int, arm: str, setfit: Path | None) -> tuple[float, float]:
    """(score, seconds of the training; with `setfit` accuracy, and seconds of the whole) of one student on one draw."""
    kind, *words = arm.split()
    settings = dict(word.split("=", 1) for word in words)
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        student = {"kind": kind, "model": str(student_folder(None))}
        student |= {key: yaml.safe_load(value) for key, value in settings.items()}
        if kind == "setfit":
            assert setfit is not None
            write_recipe(data, folder, name, shots, draw, {})
            return by_setfit(setfit, folder)
        recipe = load(write_recipe(data, folder, name, shots, draw, student))
        splits = load_splits(recipe)
        began = time.perf_counter()
        checkpoint = folder / "student"
        checkpoint.mkdir()
        recipe.student.fit(training_data_of(recipe, splits.seeds, "few shots"), checkpoint)
        took = time.perf_counter() - began
        metrics = score(recipe.task, recipe.student, checkpoint, splits.test, draw)
        if setfit is not None:
            return metrics["accuracy"], time.perf_counter() - began
    return primary_metric(metrics).value, took


def by_setfit(python: Path, folder: Path) -> tuple[float, float]:
    """(accuracy, seconds) of the peer's script on the seeds and test texts in `folder`."""
    for name, path in (("seeds.csv", "seeds.jsonl"), ("test.csv", "test.jsonl")):
        pd.read_json(folder / path, lines=True, dtype=False).to_csv(folder / name, index=False)
    script = ROOT / "bench" / "peers" / "student_setfit.py"
    began = time.perf_counter()
    command = [str(python.absolute()), str(script), "seeds.csv"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    printed = re.search(r"\{'metric': ([\d.]+)\}", done.stdout)
    if not printed:
        raise SystemExit(f"{script.name} said no accuracy: {done.stderr[-2000:]}")
    return float(printed[1]), time.perf_counter() - began


def write_recipe(data: Path, folder: Path, name: str, shots: int, draw: int, student: dict[str, Any]) -> Path:
    """A recipe with `shots` real texts of each class as its seeds; for tagging, texts that hold each type."""
    train, test = rows(data, name, "train"), rows(data, name, "test")
    kinds = sorted({kind for row in train for kind in kinds_of(row)})
    by_kind = {kind: [row for row in train if kind in kinds_of(row)] for kind in kinds}
    random = derive_random(draw, "few shots", name)
    drawn = [row for kind in kinds for row in random.sample(by_kind[kind], min(shots, len(by_kind[kind])))]
    seeds = list({text_of(row): row for row in drawn}.values())
    shown = {text_of(row) for row in seeds}
    held_out = derive_random(0, "test", name).sample(test, min(TEST_TEXTS, len(test)))
    write_rows(folder / "seeds.jsonl", seeds)
    write_rows(folder / "test.jsonl", [row for row in held_out if text_of(row) not in shown])
    task = {"type": "ner", "types": kinds} if is_tagging(name) else {"type": "classification", "labels": kinds}
    recipe = {
        "name": "few-shots",
        "task": {**task, **TASKS[name]},
        "seeds": {"path": "seeds.jsonl"},
        "test": {"path": "test.jsonl"},
        "teacher": {"engine": "vllm", "model": "none/of-its-kind"},
        "rounds": {"count": 0, "samples": 1},
        "student": student,
        "seed": draw,
    }
    path = folder / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
