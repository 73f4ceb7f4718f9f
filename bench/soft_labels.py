"""What a probability for each of K classes costs, compared with one label.

    python bench/soft_labels.py [--texts 300] [--repeats 5] [--model FOLDER] [--json FILE]

One engine labels the same texts in three ways, in turn, `--repeats` times, for K = 2 to 94:

    name    one greedy answer, constrained to the K label names: a hard label
    code    one greedy answer, constrained to K codes of one character: a hard label in one token
    soft    the same prompt, the probability of each of the K codes: exact, one token

Prompts are those of the classification task: K label names with their codes, then the text. The model is a Llama of
random weights, so only costs are compared here; tests/vllm/test_engine.py checks that the probabilities are the model's.
Prints medians of the ratios of wall time within one repeat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "0")

from report import record

from evokd_data.generation.scheduler import in_order
from evokd_data.records import Constraint, Prompt, Sampling
from evokd_data.strategies.labelling import LABEL_CODES
from evokd_data.teachers import Engine
from evokd_data.teachers.vllm.plug import VLLM
from evokd_data.templates import Templates

CLASSES = (2, 8, 20, 62, 77, len(LABEL_CODES))
WAYS = ("name", "code", "soft")
TOKENS = Sampling(0.0, 64)


def label_prompts(way: str, classes: int, texts: int) -> list[Prompt]:
    labels = [f"intent_{LABEL_CODES[index % 26]}_{index}" for index in range(classes)]
    codes = dict(zip(labels, LABEL_CODES, strict=False))
    constraint = Constraint(choices=tuple(labels if way == "name" else codes.values()), score=way == "soft")
    prompts = []
    for index in range(texts):
        variables = {
            "task": {"labels": labels, "description": "what a person wants", "label_descriptions": {}},
            "text": f"please set an alarm for {index % 12} o'clock and play song number {index}",
            "demonstrations": [],
            "codes": {} if way == "name" else codes,
        }
        messages = Templates("classification").render("label", variables)
        prompts.append(Prompt(f"label/{index:06}", "label", messages, index + 1, TOKENS, constraint, variables))
    return prompts


async def seconds(engine: Engine, prompts: Sequence[Prompt]) -> float:
    began = time.perf_counter()
    async for _ in in_order(prompts, engine.complete, lambda: engine.window):
        pass
    return time.perf_counter() - began


async def measure(options: argparse.Namespace, model: Path, log: Path) -> dict[str, float]:
    figures = {}
    async with VLLM(model=str(model), dtype="float32", kv_cache_gib=0.5, max_model_len=4096).serve(log) as engine:
        for classes in CLASSES:
            prompts_of = {way: label_prompts(way, classes, options.texts) for way in WAYS}
            for way in WAYS:
                await seconds(engine, prompts_of[way][:8])  # warm
            turns = [{way: await seconds(engine, prompts_of[way]) for way in WAYS} for _ in range(options.repeats)]
            for way in ("name", "code"):
                ratios = sorted(turn["soft"] / turn[way] for turn in turns)
                figures[f"soft_labels_over_{way}_K{classes}_ratio"] = round(statistics.median(ratios), 3)
                print(
                    f"K = {classes:2}: soft / {way:4} {statistics.median(ratios):.2f} "
                    f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} repeats)",
                    flush=True,
                )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", help="a folder; default: a Llama of random weights")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            sys.path.insert(0, str(Path(__file__).parents[1]))
            from tests.support.tiny_model import build

            model = str(build(Path(folder) / "tiny"))
            config = Path(model) / "config.json"  # 94 labels need more room; random weights know no positions anyway
            settings = {**json.loads(config.read_text()), "max_position_embeddings": 4096}
            config.write_text(json.dumps(settings))
        figures = asyncio.run(measure(options, Path(model), Path(folder) / "teacher.log"))
    if options.json:
        record(options.json, figures)


if __name__ == "__main__":
    main()
