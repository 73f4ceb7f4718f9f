"""How a teacher is asked for a text, and how it draws tokens: how often is the text what was asked for, and what is it worth?

    python bench/wordings.py --data DATASETS --teachers FOLDER... [--sets trec6 ...] [--shots 1] [--texts 120] [--json FILE]

An arm is a wording of `generate.j2` or a sampling. Every arm writes the same requests of a first round (labels, contrasts, difficulty and
demonstrations are the same) for one draw of seeds. On each line, of one arm:

    left        texts that the text filters and the near-duplicate filter leave, as a share of those asked for
    on target   of these, the share that is what was asked for, says a logistic regression on frozen embeddings of 3,000
                texts of the real training set, the judge
    both        left and on target, as a share of those asked for
    detector    how well a classifier tells them from real training texts: area under the ROC curve, 0.5 is not at all
    worth       macro-F1 on test texts of a logistic regression on frozen embeddings of the seeds and of as many texts as every
                arm has, with the judge's labels: what texts are worth, whoever labels them
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from teachers import TASKS, Printed, is_tagging, rows, student_folder, write_recipe

from evokd_data.digest import derive_random
from evokd_data.errors import StudentError
from evokd_data.generation.diversity import detector
from evokd_data.generation.near_duplicates import MinHashIndex
from evokd_data.generation.neighbours import neighbours
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.generation.text_filters import TextFilters
from evokd_data.models import ModelReference, download_model
from evokd_data.recipe import Recipe, load
from evokd_data.records import Sampling
from evokd_data.runner import Runner
from evokd_data.seeds import load_splits
from evokd_data.strategies import NO_PROBLEM, Ask, Brief
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.strategies.writing import origin, write_texts
from evokd_data.students.embeddings import embed_texts
from evokd_data.templates import PACKAGED, Templates

ROOT = Path(__file__).parents[1]
JUDGE_TEXTS = 3000
PACKAGED_WORDING = (PACKAGED / "classification" / "generate.j2").read_text(encoding="utf-8")
ABOUT = "Write {{ task.a_noun }} about {{ task.names[%s] }}"
LISTED = "{%- if task.description %} They are for this task: {{ task.description }}.{% endif %}"
WORDINGS: Mapping[str, Mapping[str, str]] = {
    "packaged": {},
    "kind": {ABOUT: 'Write {{ task.a_noun }} of the kind "{{ task.names[%s] }}"'},
    "labelled": {ABOUT: 'Write {{ task.a_noun }} that belongs to "{{ task.names[%s] }}"'},
    "labels listed": {LISTED: LISTED + " Each belongs to one of: {{ task.names.values() | join(', ') }}."},
    "labelled, listed": {
        ABOUT: 'Write {{ task.a_noun }} that belongs to "{{ task.names[%s] }}"',
        LISTED: LISTED + " Each belongs to one of: {{ task.names.values() | join(', ') }}.",
    },
}  # fmt: skip
"""Wording -> what is said otherwise than in the packaged template; %s stands for the label, of the request or of a demonstration."""
SAMPLINGS = {
    "temperature 0.7": {"temperature": 0.7},
    "top_p 0.9": {"top_p": 0.9},
    "top_p 0.8": {"top_p": 0.8},
}
"""Under the packaged wording, which is asked with the teacher's defaults: temperature 1, top_p 1."""


def main() -> None:
    parser = parser_of(__doc__, [name for name in TASKS if not is_tagging(name)])
    parser.add_argument("--arms", nargs="+", default=[*WORDINGS, *SAMPLINGS], choices=[*WORDINGS, *SAMPLINGS])
    parser.set_defaults(sets=["trec6", "snips_intents", "inshorts"], shots=1, texts=120)
    measure_all(parser.parse_args(), measure)


def parser_of(description: str | None, sets: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a bench that has a teacher write texts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--teachers", type=Path, nargs="+", required=True)
    parser.add_argument("--sets", nargs="+", choices=sets)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--seed", type=int, default=0, help="draw of the seeds")
    parser.add_argument("--texts", type=int)
    parser.add_argument("--json", type=Path)
    return parser


def measure_all(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], Coroutine[Any, Any, list[dict[str, Any]]]],
) -> None:
    """Measure every teacher, and write its figures as they come."""
    if not options.data.is_dir():
        print(f"skipped: {options.data} is not there; give the folder with the data sets with --data")
        return
    figures = []
    with tempfile.TemporaryDirectory() as folder, Runner() as loop:
        # What write_recipe and the judge read.
        for_recipes = {"out": Path(folder), "rounds": 1, "samples": options.texts, "student": None, "teacher_test": 0}
        arguments = argparse.Namespace(**vars(options), **for_recipes)
        for teacher in options.teachers:
            figures += loop.run(measure(arguments, teacher))
            if options.json:
                content = {"shots": options.shots, "texts": options.texts, "arms": figures}
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


async def measure(arguments: argparse.Namespace, teacher: Path) -> list[dict[str, Any]]:
    """The figures of every set and arm with one teacher."""
    found = []
    recipes = {
        name: load(write_recipe(arguments, teacher, name, arguments.shots, arguments.seed)) for name in arguments.sets
    }
    first = next(iter(recipes.values()))
    async with TeacherOnDemand(first.teacher, arguments.out / f"{teacher.name}.log", Printed()) as engine:
        for name, recipe in recipes.items():
            arms = briefs(recipe, arguments.out)
            written = {arm: await write(recipe, arms[arm], engine.complete) for arm in arguments.arms}
            for entry in judged(arguments, name, recipe, written):
                found.append({"data": name, "teacher": teacher.name, **entry})
                print(json.dumps(found[-1]), flush=True)
    return found


def brief_of(recipe: Recipe) -> Brief:
    """What the strategy knows of a first round, by the recipe's own templates."""
    seeds = load_splits(recipe).seeds
    by_label = {
        label: [seed for seed in seeds if recipe.task.carries(seed.target, label)] for label in recipe.task.labels
    }
    sampling = Sampling(recipe.teacher.temperature, recipe.teacher.max_tokens, recipe.teacher.top_p)
    return Brief(
        task=recipe.task,
        templates=recipe.templates(),
        sampling=sampling,
        round=1,
        seed=recipe.seed,
        budget=recipe.rounds.samples,
        demonstrations=by_label,
        neighbours=neighbours(recipe, by_label),
        earlier=seeds,
    )


def briefs(recipe: Recipe, folder: Path) -> dict[str, Brief]:
    """Arm -> what the strategy knows in it."""
    packaged = brief_of(recipe)
    worded = {arm: replace(packaged, templates=reworded(changes, folder / arm)) for arm, changes in WORDINGS.items()}
    sampled = {
        arm: replace(packaged, sampling=replace(packaged.sampling, **changes)) for arm, changes in SAMPLINGS.items()
    }
    return {**worded, **sampled}


def reworded(changes: Mapping[str, str], folder: Path) -> Templates:
    """The templates of a wording."""
    text = PACKAGED_WORDING
    for old, new in changes.items():
        for label in ("demonstration.target", "target") if "%s" in old else ("",):
            before, after = (old % label, new % label) if label else (old, new)
            assert before in text, f"{before!r} is not in the packaged generate.j2"
            text = text.replace(before, after)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generate.j2").write_text(text, encoding="utf-8")
    return Templates("classification", folder)


async def write(recipe: Recipe, brief: Brief, ask: Ask) -> list[tuple[str, str]]:
    """(text, label it was written for) of what the filters leave."""
    plan = RequestPlan([recipe.strategy.allot(brief)], recipe.strategy.per_request, brief.seed, brief.round)
    answers = await asyncio.gather(*(write_texts(brief, request, ask, demonstration_count=3) for request in plan))
    filters = TextFilters(recipe.filters, earlier=brief.earlier)
    accepted = MinHashIndex(recipe.filters.near_duplicates)
    left = []
    for request, (texts, _) in zip(plan, answers, strict=True):
        origins = [origin(brief, request, position, recipe.strategy.name) for position in range(len(texts))]
        for text, problem in zip(texts, filters.problems(texts, origins), strict=True):
            if problem == NO_PROBLEM and accepted.find(text) is None:
                accepted.add(text, str(len(left)))
                left.append((text, request.quota.target))
    return left


def judged(
    arguments: argparse.Namespace, name: str, recipe: Recipe, written: Mapping[str, Sequence[tuple[str, str]]]
) -> list[dict[str, Any]]:
    """The figures of each arm."""
    splits = load_splits(recipe)
    train = derive_random(0, "judge", name).sample(rows(arguments.data, name, "train"), JUDGE_TEXTS)
    judge = regression([(row["text"], row["label"]) for row in train])
    real = [row["text"] for row in derive_random(1, "real", name).sample(rows(arguments.data, name, "train"), 600)]
    least = min(map(len, written.values()))
    found = []
    for arm, texts in written.items():
        labels = list(judge.predict(embed([text for text, _ in texts])))
        right = sum(label == target for label, (_, target) in zip(labels, texts, strict=True))
        chosen = derive_random(0, "worth").sample(range(len(texts)), least)
        training = [(seed.text, seed.target) for seed in splits.seeds]
        training += [(texts[index][0], labels[index]) for index in chosen]
        found.append(
            {
                "arm": arm,
                "left": round(len(texts) / arguments.texts, 3),
                "on_target": round(right / max(1, len(texts)), 3),
                "both": round(right / arguments.texts, 3),
                "detector": detector([text for text, _ in texts], real, 0)["auc"],
                "worth": round(worth(training, [(sample.text, sample.target) for sample in splits.test]), 3),
                "texts_of_worth": least,
                "examples": [list(text) for text in texts[:: max(1, len(texts) // 6)]][:6],
            }
        )
    return found


def worth(training: Sequence[tuple[str, Any]], test: Sequence[tuple[str, Any]]) -> float:
    """Macro-F1 on `test` of a logistic regression on frozen embeddings."""
    from sklearn.metrics import f1_score

    predicted = regression(training).predict(embed([text for text, _ in test]))
    return float(f1_score([str(label) for _, label in test], predicted, average="macro"))


def regression(labelled: Sequence[tuple[str, Any]]) -> Any:
    """A logistic regression on frozen embeddings of texts, fitted to their labels."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10, max_iter=500)
    return model.fit(embed([text for text, _ in labelled]), [str(label) for _, label in labelled])


def embed(texts: Sequence[str]) -> Any:
    """Embeddings of MiniLM."""
    base = download_model(ModelReference(str(student_folder(None)), None), "student", StudentError)
    return embed_texts(base, texts, 256)


if __name__ == "__main__":
    main()
