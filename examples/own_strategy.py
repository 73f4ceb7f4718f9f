"""A strategy of your own, used without changing the package: short texts for every label, with no feedback from the student.

    python examples/own_strategy.py

It uses the scripted teacher and the linear student, so it runs in seconds. Put your teacher and student into RECIPE instead.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evokd_data import Recipe, Run
from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.strategies import STRATEGIES, Ask, Brief, Write
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.writing import write_texts
from evokd_data.tasks import Task

RECIPE = """
name: own-strategy
task: {type: classification, labels: [red, green, blue], description: which colour a text is about}
seeds: {path: seeds.jsonl}
test: {path: test.jsonl}
teacher: {engine: scripted}
strategy: {name: short-texts}
rounds: {count: 2, samples: 30}
student: {kind: linear}
teacher_trust: force
"""


@dataclass(frozen=True)
class ShortTexts:
    """Every label alike. `per_request` texts in one generate call."""

    name: ClassVar[str] = "short-texts"
    prompt_templates: ClassVar[tuple[str, ...]] = ("generate", "label")

    per_request: int = 5

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        each = brief.budget // len(brief.task.labels)
        return [Quota(label, each) for label in brief.task.labels]

    def writer(self, brief: Brief, ask: Ask) -> Write:
        async def write(request: GenerationRequest) -> list[Draft]:
            texts, problem = await write_texts(brief, request, ask, advice="at most five words")
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write


def main() -> None:
    STRATEGIES["short-texts"] = f"{__name__}:ShortTexts"
    with tempfile.TemporaryDirectory() as folder:
        for split, words in (("seeds", ("rose", "leaf", "sea")), ("test", ("ruby", "moss", "sky"))):
            rows = [
                {"text": f"{word} {label}", "label": label}
                for word, label in zip(words, ("red", "green", "blue"), strict=True)
            ]
            (Path(folder) / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (Path(folder) / "recipe.yaml").write_text(RECIPE)
        with Run.open(Recipe.load(Path(folder) / "recipe.yaml"), Path(folder) / "runs") as run:
            for row in run.finish_sync():
                print(f"round {row['round']}: {row['kept']} texts, macro-F1 {row['score']:.3f}")


if __name__ == "__main__":
    main()
