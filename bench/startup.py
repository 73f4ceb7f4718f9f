"""How long does the command line take to answer? Compared with the minimum: a Python that imports click and ends.

    python bench/startup.py [--repeats 15] [--json FILE]

The commands alternate `--repeats` times. Prints medians of wall seconds and CPU seconds (user + system, for a shared
machine), and their ratios to `import click` within one turn.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from overhead import write_inputs
from report import record


def took(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, begun = children_cpu_s(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun, children_cpu_s() - before


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = str(write_inputs(Path(folder), 1000))
        commands = {
            "click": [sys.executable, "-c", "import click"],
            "help": [sys.executable, "-m", "evokd_data", "--help"],
            "check": [sys.executable, "-m", "evokd_data", "check", recipe],
        }
        for command in commands.values():
            took(command)  # brings its files into the page cache
        turns = [{name: took(command) for name, command in commands.items()} for _ in range(arguments.repeats)]
    figures: dict[str, Any] = {}
    print(f"{'':8}{'wall s':>9}{'CPU s':>9}{'wall / click':>14}{'CPU / click':>13}")
    for name in commands:
        row = f"{name:8}"
        for index, clock in enumerate(("wall_s", "cpu_s")):
            figures[f"startup_{name}_{clock}"] = round(statistics.median(turn[name][index] for turn in turns), 3)
            row += f"{figures[f'startup_{name}_{clock}']:9.3f}"
        for index, clock in enumerate(("wall", "cpu")):
            ratio = statistics.median(turn[name][index] / turn["click"][index] for turn in turns)
            figures[f"startup_{name}_{clock}_ratio"] = round(ratio, 2)
            row += f"{ratio:{14 - index}.2f}"
        print(row)
    if arguments.json:
        record(arguments.json, figures)


if __name__ == "__main__":
    main()
