"""What the probability of a span and a second answer are worth: a teacher labels real texts whose spans are known, as in a round.

    python bench/spans.py --data DATASETS --teacher FOLDER [--sets conll04 snips_slots] [--shots 3] [--texts 40] [--seed 0]

DATASETS holds a folder for each set with train.parquet and test.parquet (columns tokens, ner_tags). Without it the bench says so and exits
with 0. Seeds (`shots` texts for each type that hold it) and texts are drawn from the training part. `--teacher scripted` tries the bench
without a model. For each set it prints a line of JSON:

exam          the form that the exam chose, micro-F1 on the seeds, and the doubt
once, twice   texts kept, prompts asked, precision and recall of their spans against the data set: each text labelled once; and with a
              second answer for texts with a doubtful span
sure, right   mean calibrated probability of the first answers' spans, and the share of these that are right
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from teachers import TASKS, kinds_of, rows, text_of, write_rows

from evokd_data.digest import derive_random, derive_seed
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.loop.rounds import open_run
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe, load
from evokd_data.records import Completion, Draft, GenerationRequest, Labelling, Prompt, Quota, Sample
from evokd_data.runner import Runner
from evokd_data.stages.exam import labelling_of
from evokd_data.stages.exams import examine
from evokd_data.stages.generate import generate
from evokd_data.stages.plan import make_brief
from evokd_data.storage.journal import prompt_digest
from evokd_data.strategies import Brief
from evokd_data.strategies.labelling import label_texts
from evokd_data.yaml_files import dump_yaml

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--sets", nargs="+", default=["conll04", "snips_slots"], choices=["conll04", "snips_slots"])
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "spans")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"skipped: {arguments.data} is not there; give the folder with the data sets with --data")
        return
    for name in arguments.sets:
        recipe = load(write_recipe(arguments, name))
        with Runner() as loop:
            print(json.dumps({"data": name, **loop.run(measure(recipe, arguments.out))}), flush=True)


def write_recipe(arguments: argparse.Namespace, name: str) -> Path:
    """The recipe with its seeds; the texts to label are its test set, which nothing else reads here."""
    folder = arguments.out / f"{name}-{arguments.shots}-{arguments.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    train = rows(arguments.data, name, "train")
    kinds = sorted({kind for row in train for kind in kinds_of(row)})
    chance = derive_random(arguments.seed, "spans", name)
    drawn = [row for kind in kinds for row in chance.sample([r for r in train if kind in kinds_of(r)], arguments.shots)]
    seeds = {text_of(row): row for row in drawn}
    write_rows(folder / "seeds.jsonl", list(seeds.values()))
    write_rows(folder / "texts.jsonl", chance.sample([r for r in train if text_of(r) not in seeds], arguments.texts))
    teacher: dict[str, Any] = {"engine": "scripted"}
    if arguments.teacher != "scripted":
        model = str(Path(arguments.teacher).resolve())
        teacher = {"engine": "vllm", "model": model, "max_model_len": 8192, "dtype": "bfloat16"}
    recipe = {
        "name": f"spans-{name}-{Path(arguments.teacher).name}",
        "task": {"type": "ner", "types": kinds, **TASKS[name]},
        "seeds": {"path": "seeds.jsonl"},
        "test": {"path": "texts.jsonl"},
        "teacher": teacher,
        "teacher_trust": "force",
        "student": {"kind": "linear"},
        "seed": arguments.seed,
    }
    path = folder / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    return path


async def measure(recipe: Recipe, out: Path) -> dict[str, Any]:
    """What the exam chose, and what one answer and two gave."""
    answers: dict[str, Completion] = {}
    with open_run(recipe, out / "runs") as run:
        async with TeacherOnDemand(recipe.teacher, out / "teacher.log") as teacher:
            await generate(recipe, run.workspace, 0, run.splits, teacher)
            content = await examine(recipe, run.workspace, 1, run.splits, teacher.complete, Progress())
            labelling = replace(labelling_of(recipe, content), rule="relabel")
            asked: set[str] = set()

            async def ask(prompt: Prompt) -> Completion:
                digest = prompt_digest(prompt)
                asked.add(digest)
                if digest not in answers:
                    answers[digest] = await teacher.complete(prompt)
                return answers[digest]

            async def with_labelling(changed: Labelling) -> tuple[dict[str, Any], list[Draft]]:
                asked.clear()
                brief = make_brief(recipe, run.workspace, 1, changed)
                drafts = await asyncio.gather(*(label(brief, i, s, ask) for i, s in enumerate(run.splits.test)))
                return {**scores(run.splits.test, drafts), "prompts": len(asked)}, drafts

            once, drafts = await with_labelling(replace(labelling, doubt=0.0, threshold=0.0))
            twice, _ = await with_labelling(labelling)
    chosen = content["chosen"]
    readings = [
        (value, span in sample.target)
        for sample, draft in zip(run.splits.test, drafts, strict=True)
        for span, value in zip(draft.target or (), draft.soft or (), strict=False)
    ]
    return {
        "exam": {"form": chosen["form"], "micro_f1": round(chosen["accuracy"], 4), "doubt": chosen["doubt"]},
        "once": once,
        "twice": twice,
        "sure": round(sum(value for value, _ in readings) / len(readings), 4) if readings else None,
        "right": round(sum(right for _, right in readings) / len(readings), 4) if readings else None,
    }


async def label(brief: Brief, index: int, sample: Sample, ask: Any) -> Draft:
    """The draft of a text that stands for one the teacher wrote."""
    request = GenerationRequest(index, Quota(brief.task.labels[0], 1), 1, derive_seed(brief.seed, "spans", index))
    (draft,) = await label_texts(brief, request, ask, "spans", [sample.text], "")
    return draft


def scores(samples: Sequence[Sample], drafts: Sequence[Draft]) -> dict[str, Any]:
    """{"kept", "precision", "recall"} of the spans of the texts that have a label."""
    pairs = [(set(s.target), set(d.target or ())) for s, d in zip(samples, drafts, strict=True) if not d.problem]
    hits = sum(len(expected & given) for expected, given in pairs)
    all_expected, all_given = sum(len(expected) for expected, _ in pairs), sum(len(given) for _, given in pairs)
    return {
        "kept": len(pairs),
        "precision": round(hits / all_given, 4) if all_given else None,
        "recall": round(hits / all_expected, 4) if all_expected else None,
    }


if __name__ == "__main__":
    main()
