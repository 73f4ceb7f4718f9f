"""How many real texts the filter `seed_form` would drop: it must drop what teachers write wrongly, not what people write.

    python bench/seed_form.py [--data DATASETS] [--draws 20]

DATASETS holds a folder for each set with train.parquet and test.parquet (columns text, label; or tokens, ner_tags). For each set and
number of seeds a class: the share of real test texts with a reason against them, mean over random draws of seeds, and the commonest
reasons.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from evokd_data.digest import derive_random
from evokd_data.generation.seed_form import SeedForm
from evokd_data.records import Origin, Sample, Target
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.ner import NER

ROOT = Path(__file__).parents[1]
TEXTS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--draws", type=int, default=20)
    arguments = parser.parse_args()
    for folder in sorted(arguments.data.glob("*")):
        if folder.is_dir():
            for shots in (1, 3):
                measure(folder, shots, arguments.draws)


def measure(folder: Path, shots: int, draws: int) -> None:
    """Print the line of a set."""
    task = task_of(folder)
    train, test = examples(task, folder / "train.parquet"), examples(task, folder / "test.parquet")
    shares, reasons = [], Counter[str]()
    for draw in range(draws):
        random = derive_random(draw, folder.name, shots)
        form = SeedForm()
        for label in task.labels:
            carrying = [(text, target) for text, target in train if task.carries(target, label)]
            for text, target in random.sample(carrying, min(shots, len(carrying))):
                form.learn(Sample("", text, target, Origin(0, -1, 0, "seed")))
        drawn = random.sample(test, min(TEXTS, len(test)))
        problems = [form.text_problem(text)[0] or form.span_problem(text, target)[0] for text, target in drawn]
        reasons.update(filter(None, problems))
        shares.append(sum(map(bool, problems)) / len(drawn))
    common = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
    print(f"{folder.name:18} {shots} shots: {sum(shares) / len(shares):.4f} dropped; {common}", flush=True)


def task_of(folder: Path) -> Classification | NER:
    """The task of a set, with the labels of its training rows."""
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    if "label" in rows[0]:
        return Classification(labels=tuple(sorted({str(row["label"]) for row in rows})))
    tags = {tag for row in rows for tag in row["ner_tags"]}
    return NER(types=tuple(sorted({tag[2:] for tag in tags if tag != "O"})))


def examples(task: Classification | NER, path: Path) -> list[tuple[str, Target]]:
    """Text and target of every row."""
    rows = pq.read_table(path).to_pylist()
    if isinstance(task, Classification):
        return [(row["text"], str(row["label"])) for row in rows]
    return [task.read_example(row, str(path)) for row in rows]


if __name__ == "__main__":
    main()
