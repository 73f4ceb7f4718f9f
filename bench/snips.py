"""The quickstart's recipe scored on the SNIPS test set (700 utterances): macro-F1 of evokd and of its control, by seed.

    python bench/snips.py --data DATASETS [--seeds 3]

DATASETS is a folder with snips_intents/test.parquet (columns text, label). Without it the bench says so and exits with 0.
Prints the table of `evokd-data compare` and whether the mean of the evokd arm reaches the goal of 0.93.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOAL = 0.93


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "snips")
    arguments = parser.parse_args()
    test = (arguments.data / "snips_intents" / "test.parquet").resolve()
    if not test.is_file():
        print(f"skipped: {test} is not there; give the folder that holds snips_intents with --data")
        return
    recipes = [str(ROOT / "recipes" / f"{name}.yaml") for name in ("quickstart", "quickstart-uniform")]
    command = [
        str(Path(sys.executable).with_name("evokd-data")), "compare", *recipes, "--seeds", str(arguments.seeds),
        "--set", f"test.path={test}", "--out", str(arguments.out), "--runs", str(arguments.out / "runs"),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    arm = json.loads((arguments.out / "results.json").read_text(encoding="utf-8"))["arms"]["quickstart"]
    mean = sum(arm["macro_f1"]) / len(arm["macro_f1"])
    scores = ", ".join(f"{score:.4f}" for score in arm["macro_f1"])
    print(f"evokd: {scores}; mean {mean:.4f}, goal {GOAL}: {'reached' if mean >= GOAL else 'not reached'}")
    sys.exit(mean < GOAL)


if __name__ == "__main__":
    main()
