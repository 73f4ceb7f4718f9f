"""How far does one driver carry? Throughput over workers, and where the driver itself becomes the limit.

    python bench/ray_scaling.py [--seconds 60] [--json FILE]

All of `stages.generate` is real, with Ray, its actors, Ray Data, journal, filters, shards and the clock on the wall. What is
not: the engines. A worker has `--streams`, each writing `--tokens` a second, an answer of 2 to 20 tokens for a label and 40 to
80 for five texts; it takes as long as that takes.

    actors      each worker is an actor, in which the strategy `static` renders, asks and parses
    simulated   `--processes` actors have the streams, and the rows, of all workers between them; their requests are made up
                rather than rendered, their texts of random digits: what 512 machines compute would be more than this one
                can. Rows, results, journal lines and drafts are as many and as large as they would be

Busy: the share of their time in which the engines' streams were at work. A round has work for `--seconds` for every worker,
but at most `--most` samples. Where that share falls and the driver's CPU is near 100 % (of one core: Python has one lock), the
driver is the limit. Workers, driver and Ray share the cores of this machine: where these are full before, the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import math
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opened import Opened
from report import record

from evokd_data.digest import derive_seed
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.recipe import load
from evokd_data.records import Completion, Constraint, Draft, GenerationRequest, Message, Prompt, Quota, Sampling
from evokd_data.seeds import load_splits
from evokd_data.stages.generate import generate
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.prompts import prompt_key
from evokd_data.strategies.quotas import stratified_quotas
from evokd_data.strategies.writing import origin
from evokd_data.tasks import Task
from evokd_data.teachers import Engine
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.ray.coordinator import ROWS_PER_WORKER
from evokd_data.teachers.ray.engine import ClusterEngine
from evokd_data.teachers.scripted import Scripted

ROOT = Path(__file__).parents[1]
PER_REQUEST = 5
TOKENS = {"generate": (40, 80), "label": (2, 20)}
# A stream is busy for a generate call and its five labels.
TOKENS_PER_SAMPLE = sum(TOKENS["generate"]) / 2 / PER_REQUEST + sum(TOKENS["label"]) / 2
ONE = Message("system", "Sort the request of a user of a voice assistant. " * 30)
NAMES = Constraint(choices=("AddToPlaylist", "BookRestaurant"))


@dataclass(frozen=True)
class Slow(Scripted):
    """A scripted teacher that takes the time a real one would, or with `says` one that says only that."""

    streams: int = 0
    tokens_per_s: float = 40.0
    says: str = ""

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        async with super().serve(log) as engine:
            yield SlowEngine(self, engine)


class SlowEngine:
    def __init__(self, teacher: Slow, engine: Engine) -> None:
        self._says = teacher.says
        self._tokens_per_s = teacher.tokens_per_s
        self._engine = engine
        self._streams = asyncio.Semaphore(teacher.streams)
        self.window = teacher.window
        self.environment = engine.environment

    async def complete(self, prompt: Prompt) -> Completion:
        async with self._streams:
            tokens = random.Random(prompt.seed).randint(*TOKENS[prompt.template])
            await asyncio.sleep(tokens / self._tokens_per_s)
        return Completion(self._says, "stop", 400, tokens) if self._says else await self._engine.complete(prompt)

    async def sleep(self) -> None: ...

    async def wake(self) -> None: ...


@dataclass(frozen=True)
class MadeUp:
    """What a strategy asks and writes, as far as the driver sees it, without the work."""

    name: ClassVar[str] = "made_up"
    prompt_templates: ClassVar[tuple[str, ...]] = ("generate", "label")
    per_request: ClassVar[int] = PER_REQUEST

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return stratified_quotas(brief.task.labels, brief.budget, 0.5, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        said, sampling = Message("user", "Write five more such requests. " * 8), Sampling(1.0, 512)

        async def write(request: GenerationRequest) -> list[Draft]:
            await ask(Prompt(prompt_key("generate", request.index), "generate", (ONE, said), request.seed, sampling))
            return await asyncio.gather(*(one(request, position) for position in range(request.count)))

        async def one(request: GenerationRequest, position: int) -> Draft:
            seed = derive_seed(request.seed, position)
            text = f"{seed:020d} {seed * 2654435761 % 10**20:020d} {seed * 40503 % 10**20:020d}"
            key = prompt_key("label", request.index, position)
            await ask(Prompt(f"{key}/000000", "label", (ONE, Message("user", text)), seed, sampling, NAMES))
            where = origin(brief, request, position, "static")
            return Draft(text, brief.task.target_of(request.quota.target), where)

        return write


@contextlib.asynccontextmanager
async def fleet(kind: str, workers: int, of: argparse.Namespace, log: Path) -> AsyncIterator[ClusterEngine]:
    """All workers open."""
    streams = of.streams
    actors = min(of.processes, workers) if kind == "simulated" else workers
    each = math.ceil(workers / actors)
    window = streams + max(1, streams // 8)
    says = "AddToPlaylist" if kind == "simulated" else ""
    teacher = Slow(streams=streams * each, window=window * each, tokens_per_s=of.tokens, says=says)
    asleep = {"CPU": 0.001}  # for they sleep
    async with pipeline.serve(teacher, actors, log, resources=asleep, rows_per_worker=ROWS_PER_WORKER * each) as engine:
        while engine.workers_opened < actors:  # noqa: ASYNC110 - nothing else waits for it
            await asyncio.sleep(0.1)
        engine.workers, engine.window = workers, window * workers
        yield engine


async def turn(kind: str, workers: int, samples: int, of: argparse.Namespace, folder: Path) -> Mapping[str, float]:
    """Samples a second of round 1, and the driver's CPU time."""
    changes = [f"rounds.samples={samples}", "rounds.shard_size=1000", "strategy={name: static}", "publish=null"]
    recipe = load(ROOT / "recipes/quickstart.yaml", [*changes, "teacher={engine: scripted}"])
    if kind == "simulated":
        recipe = dataclasses.replace(recipe, strategy=MadeUp())
    workspace, splits = Workspace(folder), load_splits(recipe)
    async with (
        fleet(kind, workers, of, folder / "teacher.log") as engine,
        # Opened has what TeacherOnDemand needs of a teacher; its engine is open already.
        TeacherOnDemand(Opened(engine), folder / "teacher.log") as teacher,  # type: ignore[arg-type]
    ):
        await generate(recipe, workspace, 0, splits, teacher)
        cpu, wall = time.process_time(), time.perf_counter()
        totals = await generate(recipe, workspace, 1, splits, teacher)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert totals["kept"] > 0.5 * samples, totals
    busy = samples / wall / (workers * of.streams * of.tokens / TOKENS_PER_SAMPLE)
    return {
        "samples": samples,
        "samples_per_s": samples / wall,
        "busy": busy,
        "cpu": cpu / wall,
        "cpu_ms": 1000 * cpu / samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=16, help="requests that a worker's engine works on at a time")
    parser.add_argument("--tokens", type=float, default=40, help="a second, of each stream")
    parser.add_argument("--seconds", type=float, default=60, help="of work for every worker, in a turn")
    parser.add_argument("--most", type=int, default=200_000, help="samples in a turn")
    parser.add_argument("--processes", type=int, default=4, help="actors that simulated workers share")
    parser.add_argument("--workers", type=int, nargs="*", default=[64], help="simulated workers")
    parser.add_argument("--actors", type=int, nargs="*", default=[1, 2, 8], help="workers that are actors")
    parser.add_argument("--json", type=Path, help="the file that gets the figures, beside what it holds")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "ray_scaling_load_average_1_min": round(os.getloadavg()[0], 2),
    }
    rate = arguments.streams * arguments.tokens / TOKENS_PER_SAMPLE
    head = f"{'kind':10}{'workers':>8}{'samples':>9}{'samples/s':>11}{'busy':>8}{'driver CPU':>12}{'ms/sample':>11}"
    print(f"{head}   ({arguments.streams} streams of {arguments.tokens:.0f} tokens/s: {rate:.1f} samples/s a worker)")
    for kind, counts in (("actors", arguments.actors), ("simulated", arguments.workers)):
        for workers in counts:
            with tempfile.TemporaryDirectory() as scratch:
                samples = min(arguments.most, round(rate * workers * arguments.seconds))
                found = asyncio.run(turn(kind, workers, samples, arguments, Path(scratch)))
            print(
                f"{kind:10}{workers:8}{found['samples']:9.0f}{found['samples_per_s']:11.1f}{found['busy']:8.3f}"
                f"{found['cpu']:12.0%}{found['cpu_ms']:11.3f}",
                flush=True,
            )
            for name in ("samples_per_s", "busy", "cpu", "cpu_ms"):
                figures[f"ray_scaling_{kind}_{workers}x{arguments.streams}_{name}"] = round(found[name], 3)
    if arguments.json:
        record(arguments.json, figures)


if __name__ == "__main__":
    main()
