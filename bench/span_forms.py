"""How a teacher is asked for spans: which form of the question and of the answer is right most often on real test texts?

    python bench/span_forms.py --data DATASETS --teachers FOLDER... [--sets snips_slots conll04] [--shots 3] [--texts 60] [--json FILE]

Every form that the exam tries is asked for the same test texts, with the seeds of one draw as demonstrations. On each line, of one form:
its micro-F1, and the tokens of prompts and answers, a text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from teachers import TASKS, Printed, is_tagging, write_recipe
from wordings import brief_of, measure_all, parser_of

from evokd_data.digest import derive_random
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.recipe import load
from evokd_data.seeds import load_splits
from evokd_data.stages.exam import ask_in_form, result_of
from evokd_data.stages.exam_forms import forms_to_try


def main() -> None:
    tagging = [name for name in TASKS if is_tagging(name)]
    parser = parser_of(__doc__, tagging)
    parser.set_defaults(sets=tagging, shots=3, texts=60)
    measure_all(parser.parse_args(), measure)


async def measure(arguments: argparse.Namespace, teacher: Path) -> list[dict[str, Any]]:
    """The figures of every set and form with one teacher."""
    figures: list[dict[str, Any]] = []
    recipes = {
        name: load(write_recipe(arguments, teacher, name, arguments.shots, arguments.seed)) for name in arguments.sets
    }
    first = next(iter(recipes.values()))
    async with TeacherOnDemand(first.teacher, arguments.out / f"{teacher.name}.log", Printed()) as engine:
        for name, recipe in recipes.items():
            splits, brief = load_splits(recipe), brief_of(recipe)
            asked = derive_random(1, "asked", name).sample(splits.test, arguments.texts)
            for form in forms_to_try(recipe, len(splits.seeds)):
                answered = await ask_in_form(recipe, brief, form, [asked], splits.seeds, engine.complete)
                tokens = sum(answer.prompt_tokens + answer.completion_tokens for _, answer in answered)
                figures.append(
                    {
                        "data": name,
                        "teacher": teacher.name,
                        "form": form.name,
                        "micro_f1": round(result_of(recipe, brief, form, answered).score, 3),
                        "tokens": round(tokens / arguments.texts),
                    }
                )
                print(json.dumps(figures[-1]), flush=True)
    return figures


if __name__ == "__main__":
    main()
