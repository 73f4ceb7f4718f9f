"""What does it cost to compare every new text with all texts kept before? Time and memory by the number of texts.

    python bench/near_duplicates.py [--sizes 10000 100000] [--full] [--alike] [--json FILE]

Each size in a process of its own: texts of 15 to 30 words, about 1.5 % of them another one with a word changed, looked for
in `likeness.MinHashIndex` and added when they are like nothing before, as a round does with each. With `--alike` they are
what a teacher with few ideas writes: one of six sentences about a table in a restaurant, with four or five words to fill
in, so that each shares a band with more and more others and must be compared with them. Microseconds of CPU a text
(user + system), over the whole and over the last tenth, where the index is full; how much the process's largest resident
memory grew, and by how many bytes for each text more than in the line above; bytes of the scratch file a text. `--full`
adds 1,000,000. The line after the largest size is no measurement (there is none with `--alike`): the time grows by what it grew over
the last decade, memory by as many bytes a text.
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
    """As cities any of `words`, of which there are thousands."""
    filled = {blank: chance.choice(choices) for blank, choices in BLANKS.items()}
    return chance.choice(FRAMES).format(**filled, city=chance.choice(words))


def compare(size: int, like_each_other: bool) -> dict[str, Any]:
    chance, words = random.Random(1), vocabulary()
    first = [sentence(chance, words) for _ in range(200)]
    warm = MinHashIndex(THRESHOLD)
    warm.add("a text", "")
    warm.find("a text of another kind")
    index = MinHashIndex(THRESHOLD)
    importlib.import_module("numpy")
    found: Counter[str] = Counter()
    before, cpu, last = rss_mb(), 0.0, 0.0
    for start in range(0, size, 1000):
        texts = [" ".join(sentence(chance, words)) for _ in range(min(1000, size - start))]
        for place in range(len(texts)):
            if chance.random() < NEAR_DUPLICATES:
                changed = list(chance.choice(first))
                changed[chance.randrange(len(changed))] = chance.choice(words)
                texts[place] = " ".join(changed)
        if like_each_other:
            texts = [alike(chance, words) for _ in texts]
        begun = time.process_time()
        for number, text in enumerate(texts, start):
            like = index.find(text)
            if like is None:
                index.add(text, f"{number:032d}")
            found[like[0] if like else "kept"] += 1
        used = time.process_time() - begun
        cpu += used
        last += used if start >= size * 9 // 10 else 0.0
    handle = index._records._file
    return {
        "us": 1e6 * cpu / size,
        "last_us": 1e6 * last / (size - size * 9 // 10),
        "memory_mb": rss_mb() - before,
        "disk": os.fstat(handle).st_size / found["kept"] if handle >= 0 else 0.0,
        **found,
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
    taken: list[tuple[int, dict[str, Any]]] = []
    for size in [*arguments.sizes, *([1_000_000] if arguments.full else [])]:
        command = [sys.executable, __file__, "--one", str(size), *(["--alike"] if arguments.alike else [])]
        one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        smaller, less = taken[-1] if taken else (0, {"memory_mb": 0.0})
        one["memory_b"] = (one["memory_mb"] - less["memory_mb"]) * 2**20 / (size - smaller)
        taken.append((size, one))
        print(line(size, one), flush=True)
        for name in ("us", "last_us", "memory_mb", "memory_b", "disk"):
            figures[f"{prefix}_{size}_{name}"] = round(one[name], 1)
    if len(taken) > 1 and not arguments.alike:  # whose time does not grow by the decade
        (size, one), (_, before) = taken[-1], taken[-2]
        grown = max(0.0, one["last_us"] - before["last_us"])
        far = {**one, "us": one["last_us"] + grown, "last_us": one["last_us"] + grown}
        far["memory_mb"] = one["memory_mb"] + 9 * size * one["memory_b"] / 2**20
        print(f"{line(10 * size, far)}  extrapolated")
        figures[f"{prefix}_extrapolated_texts"] = 10 * size
        figures[f"{prefix}_extrapolated_us"] = round(far["us"], 1)
        figures[f"{prefix}_extrapolated_memory_mb"] = round(far["memory_mb"])
    if arguments.json:
        record(arguments.json, figures)


def line(size: int, one: dict[str, Any]) -> str:
    near = one.get("near_duplicate", 0)
    return (
        f"{size:10}{one['us']:11.1f}{one['last_us']:12.1f}{one['memory_mb']:8.1f}{one['memory_b']:10.0f}"
        f"{one['disk']:8.0f}{near:8}"
    )


if __name__ == "__main__":
    main()
