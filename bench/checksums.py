"""What the checksums of a run's own files cost, in CPU microseconds a text, beside what a round costs without its engine.

    python bench/checksums.py [--rows 100000] [--json FILE]

    seal_us      sealing shards as they are written, and comparing them with their seals when they are read again
    journal_us   the checksum of each journal line: added when it is written, compared when it is read again
    round_us     all that a text costs us without the engine (bench/overhead.py at a million texts)
    share        (seal_us + journal_us) / round_us; the promise is below 0.03

CPU time, so that other programs on the machine change little. One labelling answer a text and one answer for five texts, as in
bench/overhead.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from overhead import LABELS
from report import record

from evokd_data import arrow_seal
from evokd_data.records import Completion, Message, Origin, Prompt, Sample, Sampling
from evokd_data.storage.journal import record as journal_row
from evokd_data.storage.journal_lines import decode_line, encode_line
from evokd_data.storage.shards import write_shard
from evokd_data.tasks.classification import Classification

ROUND_US = 110.0
SHARD_ROWS = 1024
ANSWERS_PER_TEXT = 1.2
BLOCK = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seal_us = measure_seals(Path(folder), options.rows)
    journal_us = measure_lines(options.rows) * ANSWERS_PER_TEXT
    result = {
        "rows": options.rows,
        "seal_us": round(seal_us, 3),
        "journal_us": round(journal_us, 3),
        "round_us": ROUND_US,
        "share": round((seal_us + journal_us) / ROUND_US, 4),
    }
    print(orjson.dumps(result).decode())
    if options.json:
        record(options.json, {f"checksums_{name}": value for name, value in result.items()})


def measure_seals(folder: Path, rows: int) -> float:
    """CPU microseconds a row to seal shards and to check them once."""
    task = Classification(labels=tuple(LABELS))
    text = "a sentence of about twenty words, as long as those that bench/overhead.py has its teacher write for us "
    soft = (0.1,) * len(LABELS)
    samples = [
        Sample(
            f"{i:032x}", f"{text}{i}", LABELS[i % 10], Origin(1, i // 5, i % 5, "evokd", "easy", "", LABELS[0]), soft
        )
        for i in range(SHARD_ROWS)
    ]
    paths = [folder / f"{number:05d}.arrow" for number in range(max(1, rows // SHARD_ROWS))]
    for path in paths:
        write_shard(path, task, samples, 0, 1)
    seconds = time.process_time()
    for path in paths:
        arrow_seal.seal(path)  # again: it replaces the checksum by the same one
        arrow_seal.check_seal(path)
    return (time.process_time() - seconds) / (len(paths) * SHARD_ROWS) * 1e6


def measure_lines(rows: int) -> float:
    """CPU microseconds a line that its checksum adds, written once and read once."""
    prompt = Prompt("label/000001", "label", (Message("user", "x" * 600),), 1, Sampling(0.8, 64))
    row = journal_row(prompt, Completion("label-a", "stop", 300, 12, dict.fromkeys(LABELS, -2.3)))
    line = encode_line(row)
    checked, bare = [], []
    for _ in range(
        max(1, rows // BLOCK)
    ):  # in turns, and the fastest of each: another program makes a block slower, never faster
        checked.append(_block_seconds(lambda: decode_line(encode_line(row))))
        bare.append(_block_seconds(lambda: orjson.loads(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))))
    assert decode_line(line) == orjson.loads(orjson.dumps(row))
    return (min(checked) - min(bare)) / BLOCK * 1e6


def _block_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    for _ in range(BLOCK):
        call()
    return time.process_time() - started


if __name__ == "__main__":
    main()
