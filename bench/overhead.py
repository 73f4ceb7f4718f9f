"""What everything but the engine costs: a whole round, less the time of its teacher.

    python bench/overhead.py [--sizes 10000 100000] [--full] [--json FILE]

For each size a separate process generates one round of that many texts, as `evokd-data generate` does: plan, prompts,
journal, reading answers, every filter with its default, shards. There are ten labels, and one labelling call a text with soft
labels. The teacher's texts have 15 to 30 words, about 1.5 % are near-duplicates. The teacher measures its CPU time, which is
subtracted.

    cpu_us       user + system CPU microseconds a text, all threads of the process, without the teacher's
    per_core     texts a second on one core, from the same time, and with the teacher's time included
    rss_mb       largest resident memory of the process, and its size before the round began

`--profile` shows where the microseconds go: each time the process has used another millisecond of CPU (POSIX ITIMER_PROF),
the stack is sampled, and the innermost function that `PARTS` names is counted. `--full` adds 1,000,000 texts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from report import record

from evokd_data.digest import derive_random
from evokd_data.records import Completion, Prompt
from evokd_data.teachers import Teacher

LABELS = [f"label-{letter}" for letter in "abcdefghij"]
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
RECIPE = f"""\
name: overhead
task: {{type: classification, labels: [{", ".join(LABELS)}], description: Which of ten kinds a sentence is of.}}
seeds: {{path: seeds.jsonl}}
test: {{path: test.jsonl}}
teacher: {{engine: scripted}}
strategy: {{name: evokd}}
rounds: {{count: 2, samples: 1, shard_size: 1024}}
student: {{kind: linear}}
"""
NEAR_DUPLICATES = 0.015
SEEDS_PER_LABEL, TEST_TEXTS = 3, 1000

PARTS: dict[str, str] = {
    "overhead.py:complete": "teacher (not counted)",
    "templates.py:render": "render prompts",
    "journal.py:prompt_digest": "digest prompts",
    "journal.py:add": "journal: write",
    "journal.py:find": "journal: look up",
    "journal.py:sync": "journal: sync",
    "near_duplicates.py:find": "filter: look up",
    "near_duplicates.py:_fingerprint": "filter: MinHash",
    "near_duplicates.py:_signature": "filter: MinHash",
    "near_duplicates.py:normal_form": "filter: normal form",
    "near_duplicates.py:append": "filter: remember",
    "near_duplicates.py:_sort": "filter: remember",
    "near_duplicates.py:flush": "filter: remember",
    "near_duplicates.py:add": "filter: remember",
    "filters.py:apply": "filter: rest",
    "tasks/__init__.py:sample_id": "sample ids",
    "shards.py:write_shard": "shards: write",
    "shards.py:write_rows": "shards: Arrow",
    "shards.py:add_row": "shards: content digest",
    "shards.py:write_rejections": "shards: write rejections",
    "digest.py:file_digest": "shards: file digest",
    "atomic_files.py:whole_file": "shards: sync and rename",
    "shards.py:__getitem__": "demonstrations",
    "demonstrations.py:draw_demonstrations": "demonstrations",
    "demonstrations.py:labelling_demonstrations": "demonstrations for labels",
    "labelling.py:label_prompt": "make labelling prompts",
    "labelling.py:label_text": "make and read labels",
    "labelling.py:label_texts": "drafts",
    "labelling.py:label_at": "drafts",
    "writing.py:_writing_prompt": "make writing prompts",
    "writing.py:read_texts": "read texts",
    "digest.py:derive_seed": "derive seeds",
    "scheduler.py:in_order": "asyncio, scheduling",
    "scheduler.py:feed": "asyncio, scheduling",
    "scheduler.py:complete": "asyncio, scheduling",
    "asyncio/": "asyncio, scheduling",
    "generate.py:decided": "progress",
    "generate.py:_teach": "the round's loop",
    "plan.py:": "plan",
    "quotas.py:": "plan",
}
"""End of a file's path and function, or a file alone -> the name of its time. The innermost match counts."""


@dataclass(frozen=True)
class Recited(Teacher):
    """A teacher of random words: it is quick, and its CPU time is known."""

    name = "scripted"
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512

    def identity(self) -> Mapping[str, Any]:
        return {"model": "recited", "temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Reciter]:
        yield Reciter()


class Reciter:
    window = 256

    def __init__(self) -> None:
        self.cpu_ns = 0
        chance = random.Random(0)
        self._words = vocabulary()
        self._old = [sentence(chance, self._words) for _ in range(200)]
        self._scores = {letter: math.log(0.01) for letter in "ABCDEFGHIJ"}

    async def complete(self, prompt: Prompt) -> Completion:
        started = time.thread_time_ns()
        prompt_tokens = sum(len(message.content) for message in prompt.messages) // 4
        if prompt.template == "label":
            assert prompt.constraint is not None and prompt.constraint.choices is not None
            choice = prompt.constraint.choices[prompt.seed % 10]
            scores = {**self._scores, choice: math.log(0.91)} if prompt.constraint.score else None
            answer = Completion(choice, "stop", prompt_tokens, 1, scores)
        else:
            chance = random.Random(prompt.seed)
            texts = []
            for _ in range(prompt.variables["count"]):
                words = sentence(chance, self._words)
                if chance.random() < NEAR_DUPLICATES:
                    words = list(chance.choice(self._old))
                    words[chance.randrange(len(words))] = chance.choice(self._words)
                texts.append(" ".join(words))
            text = json.dumps({"texts": texts})
            answer = Completion(text, "stop", prompt_tokens, len(text) // 4)
        self.cpu_ns += time.thread_time_ns() - started
        return answer

    async def sleep(self) -> None: ...

    async def wake(self) -> None: ...

    def environment(self) -> Mapping[str, Any]:
        return {"engine": "recited"}


def vocabulary() -> list[str]:
    chance = random.Random("words")
    return ["".join(chance.choices(SYLLABLES, k=chance.choice((1, 2, 2, 3, 3, 4)))) for _ in range(20_000)]


def sentence(chance: random.Random, words: list[str]) -> list[str]:
    return chance.choices(words, k=chance.randint(15, 30))


def write_inputs(folder: Path, size: int) -> Path:
    words = vocabulary()
    for name, count in (("seeds", SEEDS_PER_LABEL * len(LABELS)), ("test", TEST_TEXTS)):
        chance = derive_random(0, name)
        rows = [{"text": " ".join(sentence(chance, words)), "label": LABELS[i % 10]} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("samples: 1,", f"samples: {size},"))
    return path


@contextmanager
def sampled(counts: Counter[str], every_s: float = 0.001) -> Any:
    """Counts the part of the program that runs, each time the process has used another `every_s` of CPU."""

    def count(_: int, frame: Any) -> None:
        while frame is not None:
            code = frame.f_code
            for part, name in PARTS.items():
                file, _, function = part.partition(":")
                if (file in code.co_filename) and (not function or code.co_name == function):
                    counts[name] += 1
                    return
            frame = frame.f_back
        counts["everything else"] += 1

    before = signal.signal(signal.SIGPROF, count)
    signal.setitimer(signal.ITIMER_PROF, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_round(size: int, profile: bool, runs: Path | None) -> dict[str, Any]:
    """The figures of one round of `size` texts, generated in this process."""
    from evokd_data.generation.scheduler import TeacherOnDemand
    from evokd_data.loop.rounds import open_run
    from evokd_data.recipe import load
    from evokd_data.stages.generate import generate

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=runs) as name:
        folder = Path(name)
        recipe = replace(load(write_inputs(folder, size)), teacher=Recited())

        async def measure() -> dict[str, Any]:
            async with TeacherOnDemand(recipe.teacher, folder / "teacher.log") as teacher:
                await generate(recipe, run.workspace, 0, run.splits, teacher)
                before, wall, cpu = rss_mb(), time.perf_counter(), cpu_s()
                if profile:
                    with sampled(counts):
                        totals = await generate(recipe, run.workspace, 1, run.splits, teacher)
                else:
                    totals = await generate(recipe, run.workspace, 1, run.splits, teacher)
                cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
                assert isinstance(teacher.engine, Reciter)
                net_cpu = cpu - teacher.engine.cpu_ns / 1e9
                bytes_on_disk = sum(f.stat().st_size for f in run.workspace.round(1).root.rglob("*") if f.is_file())
                return {
                    "texts": size,
                    "cpu_us": round(1e6 * net_cpu / size, 1),
                    "teacher_us": round(teacher.engine.cpu_ns / 1e3 / size, 1),
                    "per_core": round(size / net_cpu),
                    "per_core_with_teacher": round(size / cpu),
                    "wall_s": round(wall, 1),
                    "rss_mb": round(rss_mb(), 1),
                    "rss_before_mb": round(before, 1),
                    "disk_bytes": round(bytes_on_disk / size),
                    "rejected": totals["rejected"],
                    "profile": shares(counts, 1e6 * cpu / size),
                }

        with open_run(recipe, folder) as run:
            return asyncio.run(measure())


def shares(counts: Counter[str], cpu_us: float) -> dict[str, float]:
    """Microseconds a text of each part."""
    return {name: round(cpu_us * count / counts.total(), 1) for name, count in counts.most_common()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--full", action="store_true", help="1,000,000 texts as well")
    parser.add_argument("--profile", action="store_true", help="where the time goes, at the largest size")
    parser.add_argument(
        "--folder", type=Path, help="where the rounds are written; default: the system's scratch folder"
    )
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_round(arguments.one, arguments.profile, arguments.folder)))
        return
    sizes = [*arguments.sizes, *([1_000_000] if arguments.full else [])]
    figures: dict[str, Any] = {}
    print(
        f"{'texts':>9}{'CPU us':>9}{'a core /s':>11}{'with teacher':>14}{'wall s':>9}{'RSS MB':>9}{'before':>9}{'disk B':>9}"
    )
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        command += ["--folder", str(arguments.folder)] if arguments.folder else []
        command += ["--profile"] if arguments.profile and size == max(sizes) else []
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(
            f"{size:9}{measured['cpu_us']:9.1f}{measured['per_core']:11}{measured['per_core_with_teacher']:14}"
            f"{measured['wall_s']:9.1f}{measured['rss_mb']:9.1f}{measured['rss_before_mb']:9.1f}{measured['disk_bytes']:9}",
            flush=True,
        )
        for name in ("cpu_us", "per_core", "per_core_with_teacher", "teacher_us", "rss_mb", "rss_before_mb"):
            figures[f"overhead_{size}_{name}"] = measured[name]
        for name, microseconds in measured["profile"].items():
            print(f"    {microseconds:7.1f} us  {name}")
        if measured["profile"]:
            figures["overhead_profile_us"] = measured["profile"]
    if arguments.json:
        record(arguments.json, figures)


if __name__ == "__main__":
    main()
