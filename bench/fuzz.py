"""Look for bytes that break a reader, guided by the lines that they reach: recipes, manifests, journals, answers, servers' replies.

    pip install atheris
    python bench/fuzz.py [--only answer ...] [--seconds 60] [--json FILE]

Each reader of tests/support/fuzz_targets.py gets a process and so many seconds. Prints how often it was called, and the bytes that
broke it, which belong into its examples there. Exits with 1 when there are some, and with 0 where atheris is not installed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
LONGEST = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if find_spec("atheris") is None:
        print("skipped: atheris is not installed; run: pip install atheris")
        return
    if options.target:
        fuzz(options.target, options.folder, options.seconds)
        return
    from tests.support.fuzz_targets import TARGETS

    results = {name: play(name, options.seconds) for name in options.only or TARGETS}
    if options.json:
        from report import record

        record(options.json, {"fuzz": results})
    sys.exit(any(result["breaking"] for result in results.values()))


def play(name: str, seconds: int) -> dict[str, object]:
    """A reader in a process of its own: a fuzzer ends its process at the first error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--target", name, "--folder", folder, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        calls = max([int(number) for number in re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)], default=0)
        covered = max([int(number) for number in re.findall(r" ft: (\d+)", done.stderr)], default=0)
        breaking = [path.read_bytes().decode("latin-1") for path in sorted(Path(folder).glob("breaking-*"))]
    result = {"calls": calls, "features": covered, "breaking": breaking}
    print(name, json.dumps(result), flush=True)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        result["breaking"] = breaking or [f"exit code {done.returncode}"]
    return result


def fuzz(name: str, folder: Path, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["evokd_data"]):
        from tests.support.fuzz_targets import TARGETS
    target, examples = TARGETS[name]
    corpus, scratch = folder / "corpus", folder / "scratch"
    corpus.mkdir()
    scratch.mkdir()
    for number, content in enumerate(examples):
        (corpus / str(number)).write_bytes(content)
    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=10",
        f"-artifact_prefix={folder}/breaking-",
    ]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], lambda content: target(content, scratch))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
