"""How a teacher is asked for a text with spans: how often does it hold what was asked for, and what is it worth?

    python bench/span_wordings.py --data DATASETS --teachers FOLDER... [--sets snips_slots conll04] [--prompts FOLDER...] [--texts 90] [--json FILE]

An arm is a folder with templates of its own (`prompts` in a recipe), the first the package's. Every arm writes the same requests of a first
round for one draw of seeds. On each line, of one arm:

    left        texts that the text filters and the near-duplicate filter leave, as a share of those asked for
    on target   of these, the share that holds a span of the type asked for, says the judge: a MiniLM tuned on 2,000 real texts
    detector    how well a classifier tells them from real training texts: area under the ROC curve, 0.5 is not at all
    worth       micro-F1 on test texts of the contrastively fine-tuned student, from the seeds and as many texts as every arm has, with
                the judge's spans: what texts are worth, whoever labels them
    tokens      of prompts and answers, a text asked for
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from teachers import TASKS, Printed, is_tagging, rows, student_folder, text_of, write_recipe
from wordings import brief_of, measure_all, parser_of, write

from evokd_data.digest import derive_random
from evokd_data.generation.diversity import detector
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.recipe import Recipe, load
from evokd_data.records import Completion, Origin, Prompt, Sample
from evokd_data.seeds import load_splits
from evokd_data.students import Student, TrainingData
from evokd_data.students.contrastive import Contrastive
from evokd_data.students.transformer import Transformer
from evokd_data.templates import Templates

JUDGE_TEXTS, REAL_TEXTS = 2000, 600


def main() -> None:
    tagging = [name for name in TASKS if is_tagging(name)]
    parser = parser_of(__doc__, tagging)
    parser.add_argument("--prompts", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.set_defaults(sets=tagging, shots=3, texts=90)
    measure_all(parser.parse_args(), measure)


async def measure(arguments: argparse.Namespace, teacher: Path) -> list[dict[str, Any]]:
    """The figures of every set and arm with one teacher."""
    figures = []
    recipes = {
        name: load(write_recipe(arguments, teacher, name, arguments.shots, arguments.seed)) for name in arguments.sets
    }
    first = next(iter(recipes.values()))
    written: dict[str, dict[str, list[tuple[str, str]]]] = {}
    tokens: dict[tuple[str, str], int] = {}
    async with TeacherOnDemand(first.teacher, arguments.out / f"{teacher.name}.log", Printed()) as engine:
        for name, recipe in recipes.items():
            packaged, written[name] = brief_of(recipe), {}
            arms = {"package": packaged} | {
                folder.name: replace(packaged, templates=Templates("ner", folder)) for folder in arguments.prompts
            }
            for arm, brief in arms.items():
                counted = Counted(engine)
                written[name][arm] = await write(recipe, brief, counted.complete)
                tokens[name, arm] = counted.tokens
    for name, recipe in recipes.items():
        for entry in judged(arguments, name, recipe, written[name]):
            per_text = round(tokens[name, entry["arm"]] / arguments.texts)
            figures.append({"data": name, "teacher": teacher.name, **entry, "tokens": per_text})
            print(json.dumps(figures[-1]), flush=True)
    return figures


class Counted:
    """An engine whose tokens are counted."""

    def __init__(self, engine: TeacherOnDemand) -> None:
        self._engine, self.tokens = engine, 0

    async def complete(self, prompt: Prompt) -> Completion:
        answer = await self._engine.complete(prompt)
        self.tokens += answer.prompt_tokens + answer.completion_tokens
        return answer


def judged(
    arguments: argparse.Namespace, name: str, recipe: Recipe, written: Mapping[str, Sequence[tuple[str, str]]]
) -> list[dict[str, Any]]:
    """The figures of each arm."""
    splits, task = load_splits(recipe), recipe.task
    real = [
        text_of(row) for row in derive_random(1, "real", name).sample(rows(arguments.data, name, "train"), REAL_TEXTS)
    ]
    least = min(map(len, written.values()))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        judge = Transformer(model=str(student_folder(None)), epochs=3)
        train(judge, recipe, real_samples(arguments.data, name, recipe), Path(folder) / "judge")
        for arm, texts in written.items():
            unlabelled = [
                Sample(str(index), text, (), Origin(1, 0, index, "bench")) for index, (text, _) in enumerate(texts)
            ]
            marked = [
                replace(sample, target=task.decode(task.supervise(sample), row)[0])
                for sample, row in zip(
                    unlabelled,
                    judge.predict([task.supervise(s) for s in unlabelled], Path(folder) / "judge"),
                    strict=True,
                )
            ]
            right = sum(task.carries(sample.target, label) for sample, (_, label) in zip(marked, texts, strict=True))
            chosen = derive_random(0, "worth").sample(marked, least)
            student, checkpoint = Contrastive(model=str(student_folder(None))), Path(folder) / arm
            train(student, recipe, [*splits.seeds, *chosen], checkpoint)
            test = student.predict([task.supervise(sample) for sample in splits.test], checkpoint)
            figures.append(
                {
                    "arm": arm,
                    "left": round(len(texts) / arguments.texts, 3),
                    "on_target": round(right / max(1, len(texts)), 3),
                    "detector": detector([text for text, _ in texts], real, 0)["auc"],
                    "worth": round(task.score(splits.test, test, 0)["micro_f1"], 3),
                    "texts_of_worth": least,
                    "examples": [list(text) for text in texts[:: max(1, len(texts) // 6)]][:6],
                }
            )
    return figures


def real_samples(data: Path, name: str, recipe: Recipe) -> tuple[Sample, ...]:
    """Texts of the real training set, for the judge alone."""
    labelled = rows(data, name, "train")
    chosen = derive_random(0, "judge", name).sample(labelled, min(JUDGE_TEXTS, len(labelled)))
    read = [recipe.task.read_example(row, name) for row in chosen]
    return tuple(Sample(str(index), *pair, Origin(0, -1, index, "seed")) for index, pair in enumerate(read))


def train(student: Student, recipe: Recipe, samples: Sequence[Sample], folder: Path) -> None:
    folder.mkdir()
    examples = [recipe.task.supervise(sample) for sample in samples]
    student.fit(TrainingData(examples, (), recipe.task.classes, seed=0), folder)


if __name__ == "__main__":
    main()
