"""The tagging quickstart scored on SNIPS: micro-F1 of its student after each round, seeds and test set from SNIPS.

    python bench/slots.py --data DATASETS [--seeds 1] [--out FOLDER]

Seeds: one text a type, drawn from rows of SNIPS' train set that the teacher never saw; each random seed draws anew. Test set:
the texts of SNIPS' test set about the recipe's two intents, with their other slots left unmarked. DATASETS holds snips_intents
and snips_slots. Without them the bench says so and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "quickstart-slots.yaml"


def write(path: Path, samples: Iterable) -> None:
    rows = {sample.text: sample for sample in samples}
    with path.open("w", encoding="utf-8") as file:
        for sample in rows.values():
            spans = [{"start": span.start, "end": span.end, "type": span.type} for span in sample.target]
            file.write(json.dumps({"text": sample.text, "spans": spans}, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "slots")
    arguments = parser.parse_args()
    missing = [name for name in ("snips_intents", "snips_slots") if not (arguments.data / name).is_dir()]
    if missing:
        print(f"skipped: {arguments.data} holds no {' and no '.join(missing)}; give their folder with --data")
        return
    sys.path.insert(0, str(RECIPE.with_suffix("")))
    import train_teacher

    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    seed_rows, _ = train_teacher.split(train_teacher.prepared_rows(arguments.data)[0], seed=0)
    write(out / "seeds.jsonl", (train_teacher.sample_of(row.pieces) for row in seed_rows))
    write(out / "test.jsonl", train_teacher.test_samples(arguments.data))

    command = [sys.executable, "-m", "evokd_data"]
    scores = {}
    for seed in range(arguments.seeds):
        name = f"slots-snips-{seed}"
        subprocess.run(
            [
                *command, "run", str(RECIPE), "--set", f"name={name}", "--set", f"seed={seed}",
                "--set", f"seeds.path={out / 'seeds.jsonl'}", "--set", f"test.path={out / 'test.jsonl'}",
                "--set", f"publish.repo=local/{name}",
            ],
            cwd=out, check=True,
        )  # fmt: skip
        summary = subprocess.run(
            [*command, "show", name, "--json"], cwd=out, check=True, capture_output=True, text=True, env=os.environ
        )
        rounds = json.loads(summary.stdout)["rounds"]
        scores[seed] = [round(entry["metrics"]["test"]["micro_f1"], 4) for entry in rounds]
        print(f"seed {seed}: micro-F1 by round {scores[seed]}, n={rounds[-1]['metrics']['test']['n']}", flush=True)
    (out / "scores.json").write_text(json.dumps(scores) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
