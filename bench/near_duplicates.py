"""What it costs to compare every new text with all texts kept before: time and memory by the number of texts.

    python bench/near_duplicates.py [--sizes 10000 100000] [--full] [--alike] [--json FILE]

Each size runs in its own process. Texts have 15 to 30 words; about 1.5 % of them are another text with one word changed. As
in a round, each is looked up in `near_duplicates.MinHashIndex` and added when no earlier text is like it. With `--alike` the
texts are those of a teacher with few ideas: one of six sentences about a table in a restaurant, with four or five words
filled in. Each then shares a band with more and more others and must be compared with them.

The columns: microseconds of CPU a text (user + system), over all texts and over the last tenth, where the index is full; the
growth of the process's largest resident memory, and its bytes for each text more than in the line above; bytes of the scratch
file a text. `--full` adds 1,000,000 texts. The line after the largest size is extrapolated, not measured: time grows by as
much as over the last decade, memory by as many bytes a text. There is no such line with `--alike`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overhead import NEAR_DUPLICATES, rss_mb, sentence, vocabulary
from report import record

from evokd_data.generation.near_duplicates import MinHashIndex

THRESHOLD = 0.85


FRAMES = [
    "book a table for {n} at a {kind} {food} restaurant in {city}",
    "can you reserve a spot for {n} people at a {kind} {food} place in {city} {time}",
    "i need a reservation for {n} {time} in a {kind} {food} restaurant near {city}",
    "find me a {kind} {food} restaurant in {city} with a table for {n} {time}",
    "please book {n} seats at the best {food} {kind} diner in {city} for {time}",
    "we want to eat {food} food in {city} {time}, {n} of us, somewhere {kind}",
]
BLANKS = {
    "n": ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "kind": [
        "cozy",
        "cheap",
        "fancy",
        "popular",
        "quiet",
        "romantic",
        "small",
        "rooftop",
        "outdoor",
        "downtown",
        "new",
        "trendy",
        "casual",
        "famous",
    ],
    "food": [
        "italian",
        "french",
        "thai",
        "mexican",
        "indian",
        "japanese",
        "greek",
        "korean",
        "turkish",
        "vegan",
        "seafood",
        "cuban",
    ],
    "time": ["tonight", "tomorrow", "next friday", "at noon", "at 7 pm", "this weekend", "in two hours", "lunch"],
}


def alike(chance: random.Random, words: Sequence[str]) -> str:
    """One of the six sentences. The city is any of `words`, of which there are thousands."""
    filled = {blank: chance.choice(choices) for blank, choices in BLANKS.items()}
    return chance.choice(FRAMES).format(**filled, city=chance.choice(words))


def compare(size: int, from_frames: bool) -> dict[str, Any]:
    chance, words = random.Random(1), vocabulary()
    first = [sentence(chance, words) for _ in range(200)]
    warm = MinHashIndex(THRESHOLD)
    warm.add("a text", "")
    warm.find("a text of another kind")
    index = MinHashIndex(THRESHOLD)
    importlib.import_module("numpy")
    counts: Counter[str] = Counter()
    before, cpu, last_cpu = rss_mb(), 0.0, 0.0
    for start in range(0, size, 1000):
        texts = [" ".join(sentence(chance, words)) for _ in range(min(1000, size - start))]
        for i in range(len(texts)):
            if chance.random() < NEAR_DUPLICATES:
                changed = list(chance.choice(first))
                changed[chance.randrange(len(changed))] = chance.choice(words)
                texts[i] = " ".join(changed)
        if from_frames:
            texts = [alike(chance, words) for _ in texts]
        started = time.process_time()
        for number, text in enumerate(texts, start):
            match = index.find(text)
            if match is None:
                index.add(text, f"{number:032d}")
            counts[match[0] if match else "kept"] += 1
        used = time.process_time() - started
        cpu += used
        last_cpu += used if start >= size * 9 // 10 else 0.0
    handle = index._records._file
    return {
        "us": 1e6 * cpu / size,
        "last_us": 1e6 * last_cpu / (size - size * 9 // 10),
        "memory_mb": rss_mb() - before,
        "disk": os.fstat(handle).st_size / counts["kept"] if handle >= 0 else 0.0,
        **counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--full", action="store_true", help="1,000,000 texts as well")
    parser.add_argument("--alike", action="store_true", help="texts of six sentences with blanks filled in")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(compare(arguments.one, arguments.alike)))
        return
    figures: dict[str, Any] = {}
    prefix = "near_duplicates_alike" if arguments.alike else "near_duplicates"
    print(f"{'texts':>10}{'us a text':>11}{'last tenth':>12}{'MB':>8}{'B a text':>10}{'disk B':>8}{'near':>8}")
    measurements: list[tuple[int, dict[str, Any]]] = []
    for size in [*arguments.sizes, *([1_000_000] if arguments.full else [])]:
        command = [sys.executable, __file__, "--one", str(size), *(["--alike"] if arguments.alike else [])]
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        smaller, smaller_measured = measurements[-1] if measurements else (0, {"memory_mb": 0.0})
        measured["memory_b"] = (measured["memory_mb"] - smaller_measured["memory_mb"]) * 2**20 / (size - smaller)
        measurements.append((size, measured))
        print(line(size, measured), flush=True)
        for name in ("us", "last_us", "memory_mb", "memory_b", "disk"):
            figures[f"{prefix}_{size}_{name}"] = round(measured[name], 1)
    if len(measurements) > 1 and not arguments.alike:  # the time of those does not grow by the same amount each decade
        (size, measured), (_, second_largest) = measurements[-1], measurements[-2]
        growth = max(0.0, measured["last_us"] - second_largest["last_us"])
        extrapolated = {**measured, "us": measured["last_us"] + growth, "last_us": measured["last_us"] + growth}
        extrapolated["memory_mb"] = measured["memory_mb"] + 9 * size * measured["memory_b"] / 2**20
        print(f"{line(10 * size, extrapolated)}  extrapolated")
        figures[f"{prefix}_extrapolated_texts"] = 10 * size
        figures[f"{prefix}_extrapolated_us"] = round(extrapolated["us"], 1)
        figures[f"{prefix}_extrapolated_memory_mb"] = round(extrapolated["memory_mb"])
    if arguments.json:
        record(arguments.json, figures)


def line(size: int, measured: dict[str, Any]) -> str:
    near = measured.get("near_duplicate", 0)
    return (
        f"{size:10}{measured['us']:11.1f}{measured['last_us']:12.1f}{measured['memory_mb']:8.1f}{measured['memory_b']:10.0f}"
        f"{measured['disk']:8.0f}{near:8}"
    )


if __name__ == "__main__":
    main()
