"""Three forms in which a teacher can answer when it tags a text: what they cost, and how many spans are invented.

    python bench/labellers.py --data DATASETS [--texts 1000] [--model FOLDER] [--json FILE]

The teacher of recipes/quickstart-slots.yaml, on vLLM, under its recipe's own prompts, labels the same texts in each form:

    grammar  the text with marks in it, under a grammar made from the text
    json     {"entities": [{"text", "type"}]}, the schema enforced, the strings free
    enum     the same, each string one of the text's runs of words

The texts: those of SNIPS' test set and of the held-out rows of its train set that are about the teacher's two intents, the
recipe's own test set, and texts that the teacher itself wrote, without gold spans. They are labelled in chunks. Each form
labels a chunk in its turn, in rotating order, and the prefix cache is emptied before each turn, so a ratio compares two
turns with the same texts. The measured time includes the compilation of grammars and schemas.

Invented spans are counted in the raw answers by code that shares nothing with the toolkit's readers: a span is invented
when its characters do not occur in the text in this order. DATASETS holds snips_intents and snips_slots; without them the
bench says so and ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")

from evokd_data.digest import derive_seed
from evokd_data.generation.scheduler import in_order
from evokd_data.recipe import Recipe, load
from evokd_data.records import Completion, Constraint, Prompt, Sampling, Span
from evokd_data.seeds import load_splits
from evokd_data.strategies.labelling import MAX_LABEL_TOKENS
from evokd_data.strategies.schemas import texts_schema
from evokd_data.strategies.writing import read_texts
from evokd_data.tasks import Unreadable
from evokd_data.tasks.ner import NER
from evokd_data.teachers.vllm.engine import VLLMEngine
from evokd_data.templates import Templates

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "quickstart-slots.yaml"
FORMS = ("grammar", "json", "enum")
CHUNKS = 5

SOURCES = ("snips_test", "snips_held_out", "own_test", "generated")


@dataclass(frozen=True)
class Row:
    """A text with its gold spans; a generated text has none."""

    text: str
    source: str
    gold: tuple[Span, ...] = ()


@dataclass
class Count:
    """The results of one form. `wall_s` and `tokens` by chunk."""

    wall_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    spans: int = 0
    invented: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    matched: dict[str, list[int]] = field(default_factory=dict)  # source -> right, predicted and gold spans

    def add(self, task: NER, row: Row, answer: Completion) -> None:
        """Count one answer."""
        surfaces = raw_spans(answer.text)
        self.spans += len(surfaces)
        self.invented += sum(surface not in row.text for surface in surfaces)
        got: Any = ()
        try:
            got = task.read_label(answer.text, row.text)
        except Unreadable as error:
            self.unreadable[str(error)] = self.unreadable.get(str(error), 0) + 1
        counts = (len({*got} & {*row.gold}), len(got), len(row.gold))
        if row.source != "generated":
            self.matched[row.source] = [
                a + b for a, b in zip(self.matched.get(row.source, (0, 0, 0)), counts, strict=True)
            ]

    def figures(self) -> dict[str, Any]:
        """The totals, JSON-able."""
        return {
            "spans": self.spans,
            "invented_spans": self.invented,
            "unusable_answers": sum(self.unreadable.values()),
            "unusable_by_reason": dict(sorted(self.unreadable.items())),
            "micro_f1": {source: f1(*counts) for source, counts in self.matched.items()},
            "output_tokens": sum(self.tokens),
            "wall_s": round(sum(self.wall_s), 2),
        }


def f1(right: int, predicted: int, expected: int) -> float:
    """F1 from numbers of spans; 0 when there are none."""
    return round(2 * right / (predicted + expected), 4) if predicted + expected else 0.0


def raw_spans(answer: str) -> list[str]:
    """The surfaces of the spans in a raw answer of any form, complete or truncated."""
    if answer.startswith('{"entities"'):
        return [json.loads(surface) for surface in re.findall(r'"text":("(?:[^"\\]|\\.)*")', answer)]
    marked = re.findall(r"(?<!\\)\[[^\[\]:]+: ((?:\\.|[^\\\]])*)(?:\]|$)", answer)
    return [re.sub(r"\\(.)", r"\1", surface) for surface in marked]


def held_out_rows(folder: Path, recipe: Recipe) -> list[Row]:
    """Texts that the teacher was not trained on, with their spans."""
    sys.path.insert(0, str(RECIPE.with_suffix("")))
    import train_teacher

    snips_rows, _ = train_teacher.split(train_teacher.prepared_rows(folder)[0], seed=0)
    rows = [Row(sample.text, "snips_test", sample.target) for sample in train_teacher.test_samples(folder)]
    rows += [
        Row(sample.text, "snips_held_out", sample.target)
        for sample in map(train_teacher.sample_of, (row.pieces for row in snips_rows))
    ]
    rows += [Row(sample.text, "own_test", sample.target) for sample in load_splits(recipe).test]
    return list({row.text: row for row in reversed(rows)}.values())[::-1]


async def invent(engine: VLLMEngine, task: NER, templates: Templates, count: int, old: set[str]) -> list[str]:
    """`count` new texts from the teacher, evenly over the types. None of them is in `old`."""

    def prompt_for(index: int) -> Prompt:
        target = task.types[index % len(task.types)]
        variables = {"task": task.describe(), "target": target, "contrast": "", "advice": "", "difficulty": "hard",
                "demonstrations": [], "count": 5}  # fmt: skip
        return Prompt(f"generate/{index:06}", "generate", templates.render("generate", variables),
                      derive_seed(0, "labellers", index), Sampling(0.8, 320), Constraint(json_schema=texts_schema(5)))  # fmt: skip

    texts: dict[str, None] = {}
    for start in range(0, 10 * count, 100):
        if len(texts) >= count:
            break
        prompts = [prompt_for(index) for index in range(start, start + 100)]
        async for _, answer in in_order(prompts, engine.complete, lambda: engine.window):
            texts |= dict.fromkeys(t for t in read_texts(answer, 5)[0] if t not in old and re.search(r"\w", t))
    return list(texts)[:count]


def labelling_prompts(task: NER, templates: Templates, texts: Sequence[str]) -> list[Prompt]:
    """The toolkit's labelling prompts without demonstrations, because this teacher was trained to label without them."""
    return [
        Prompt(
            f"label/{task.labelling}/{index:06}",
            "label",
            templates.render("label", {"task": task.describe(), "text": text, "demonstrations": [], "codes": {}}),
            index + 1,
            Sampling(0.0, MAX_LABEL_TOKENS + 2 * len(text.encode())),
            task.label_constraint(text),
        )
        for index, text in enumerate(texts)
    ]


async def measure(arguments: argparse.Namespace, log: Path) -> dict[str, Any]:
    """All figures, JSON-able. The teacher's own log goes to `log`."""
    overrides = [f"teacher.model={arguments.model.resolve()}"] if arguments.model else []
    recipe = load(RECIPE, overrides)
    assert isinstance(recipe.task, NER)
    tasks = {form: replace(recipe.task, labelling=form) for form in FORMS}  # type: ignore[arg-type]  # FORMS are its literals
    templates = Templates("ner", own=RECIPE.with_suffix("") / "prompts")
    counts = {form: Count() for form in FORMS}
    async with recipe.teacher.serve(log) as engine:
        rows = held_out_rows(arguments.data, recipe)[: arguments.texts]
        new = await invent(engine, recipe.task, templates, arguments.texts - len(rows), {row.text for row in rows})
        rows += [Row(text, "generated") for text in new]
        chunks = [rows[start::CHUNKS] for start in range(CHUNKS)]
        for turn, chunk in enumerate(chunks):
            for form in FORMS[turn % 3 :] + FORMS[: turn % 3]:
                prompts = labelling_prompts(tasks[form], templates, [row.text for row in chunk])
                await engine._llm.reset_prefix_cache()
                began, tokens = time.perf_counter(), 0
                answers = [answer async for _, answer in in_order(prompts, engine.complete, lambda: engine.window)]
                counts[form].wall_s.append(time.perf_counter() - began)
                for row, answer in zip(chunk, answers, strict=True):
                    counts[form].add(tasks[form], row, answer)
                    tokens += answer.completion_tokens
                counts[form].tokens.append(tokens)
                print(f"{turn} {form:8} {counts[form].wall_s[-1]:7.2f} s {tokens:7} tokens", file=sys.stderr)
        return {
            "command": "python bench/labellers.py --data DATASETS",
            "texts": len(rows),
            "texts_by_source": {source: sum(row.source == source for row in rows) for source in SOURCES},
            "forms": {form: counts[form].figures() for form in FORMS},
            "ratios_to_grammar": {form: ratios(counts[form], counts["grammar"]) for form in FORMS[1:]},
            "teacher": dict(recipe.teacher.identity()),
            "load_average_1_min": round(os.getloadavg()[0], 2),
        }


def ratios(count: Count, base: Count) -> dict[str, Any]:
    """`count` over `base`: seconds chunk by chunk (median, smallest, largest), and output tokens."""
    walls = [a / b for a, b in zip(count.wall_s, base.wall_s, strict=True)]
    return {
        "wall": round(statistics.median(walls), 3),
        "wall_min": round(min(walls), 3),
        "wall_max": round(max(walls), 3),
        "output_tokens": round(sum(count.tokens) / sum(base.tokens), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--model", type=Path, help="a folder; default: the recipe's")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    missing = [name for name in ("snips_intents", "snips_slots") if not (arguments.data / name).is_dir()]
    if missing:
        print(f"skipped: {arguments.data} holds no {' and no '.join(missing)}; give their folder with --data")
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(arguments, Path(folder) / "teacher.log"))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{number} {source}" for source, number in figures["texts_by_source"].items()))
    print(f"{'':9}{'spans':>7}{'invented':>10}{'unusable':>10}{'tokens':>9}{'wall s':>9}{'wall ratio':>12}  micro-F1")
    for form, totals in figures["forms"].items():
        ratio = figures["ratios_to_grammar"].get(form, {"wall": 1.0})["wall"]
        scores = ", ".join(f"{source} {score:.4f}" for source, score in totals["micro_f1"].items())
        print(
            f"{form:9}{totals['spans']:7}{totals['invented_spans']:10}{totals['unusable_answers']:10}"
            f"{totals['output_tokens']:9}{totals['wall_s']:9.2f}{ratio:12.2f}  {scores}"
        )


if __name__ == "__main__":
    main()
