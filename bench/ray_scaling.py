"""How many workers can one driver serve? Throughput over workers, and where the driver itself becomes the limit.

    python bench/ray_scaling.py [--seconds 60] [--json FILE]

All of `stages.generate` is real, with Ray, its actors, Ray Data, journal, filters, shards and wall-clock time. Only the engines
are not. An engine has `--streams`, each of which writes `--tokens` a second: an answer of 2 to 20 tokens for a label, of 40 to
80 for five texts. It sleeps for the time that this takes.

    actors      each worker is an actor, in which the strategy `static` renders, asks and parses
    simulated   `--processes` actors share the streams and the rows of all workers. Their requests are made up rather than
                rendered, and their texts are random digits, because this machine cannot compute what 512 machines would.
                Rows, results, journal lines and drafts are as many and as large as they would be

Busy: the share of the time in which the engines' streams were at work. A round has work for `--seconds` for every worker, but
at most `--most` samples. When this share falls and the driver's CPU is near 100 % (of one core: Python has one lock), the
driver is the limit. Workers, driver and Ray share the cores of this machine: when these are full first, the machine is.
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
SYSTEM_MESSAGE = Message("system", "Sort the request of a user of a voice assistant. " * 30)
NAMES = Constraint(choices=("AddToPlaylist", "BookRestaurant"))


@dataclass(frozen=True)
class Slow(Scripted):
    """A scripted teacher that takes as long as a real one. With `says`, every answer is that text."""

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
    """A strategy whose prompts and drafts look to the driver like a real one's, without the work of making them."""

    name: ClassVar[str] = "made_up"
    prompt_templates: ClassVar[tuple[str, ...]] = ("generate", "label")
    per_request: ClassVar[int] = PER_REQUEST

    def accepts(self, task: Task) -> str | None:
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return stratified_quotas(brief.task.labels, brief.budget, 0.5, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        message, sampling = Message("user", "Write five more such requests. " * 8), Sampling(1.0, 512)

        async def write(request: GenerationRequest) -> list[Draft]:
            await ask(
                Prompt(
                    prompt_key("generate", request.index), "generate", (SYSTEM_MESSAGE, message), request.seed, sampling
                )
            )
            return await asyncio.gather(*(label(request, position) for position in range(request.count)))

        async def label(request: GenerationRequest, position: int) -> Draft:
            seed = derive_seed(request.seed, position)
            text = f"{seed:020d} {seed * 2654435761 % 10**20:020d} {seed * 40503 % 10**20:020d}"
            key = prompt_key("label", request.index, position)
            await ask(Prompt(f"{key}/000000", "label", (SYSTEM_MESSAGE, Message("user", text)), seed, sampling, NAMES))
            source = origin(brief, request, position, "static")
            return Draft(text, brief.task.target_of(request.quota.target), source)

        return write


@contextlib.asynccontextmanager
async def fleet(kind: str, workers: int, options: argparse.Namespace, log: Path) -> AsyncIterator[ClusterEngine]:
    """An engine whose workers are all open."""
    streams = options.streams
    actors = min(options.processes, workers) if kind == "simulated" else workers
    workers_per_actor = math.ceil(workers / actors)
    window = streams + max(1, streams // 8)
    says = "AddToPlaylist" if kind == "simulated" else ""
    teacher = Slow(
        streams=streams * workers_per_actor, window=window * workers_per_actor, tokens_per_s=options.tokens, says=says
    )
    resources = {"CPU": 0.001}  # almost nothing, because the engines only sleep
    async with pipeline.serve(
        teacher, actors, log, resources=resources, rows_per_worker=ROWS_PER_WORKER * workers_per_actor
    ) as engine:
        while engine.workers_opened < actors:  # noqa: ASYNC110 - nothing else waits for it
            await asyncio.sleep(0.1)
        engine.workers, engine.window = workers, window * workers
        yield engine


async def turn(kind: str, workers: int, samples: int, options: argparse.Namespace, folder: Path) -> Mapping[str, float]:
    """Samples a second of round 1, and the driver's CPU time."""
    changes = [f"rounds.samples={samples}", "rounds.shard_size=1000", "strategy={name: static}", "publish=null"]
    recipe = load(ROOT / "recipes/quickstart.yaml", [*changes, "teacher={engine: scripted}"])
    if kind == "simulated":
        recipe = dataclasses.replace(recipe, strategy=MadeUp())
    workspace, splits = Workspace(folder), load_splits(recipe)
    async with (
        fleet(kind, workers, options, folder / "teacher.log") as engine,
        # Opened has what TeacherOnDemand needs of a teacher; its engine is open already.
        TeacherOnDemand(Opened(engine), folder / "teacher.log") as teacher,  # type: ignore[arg-type]  # a teacher as far as this asks
    ):
        await generate(recipe, workspace, 0, splits, teacher)
        cpu, wall = time.process_time(), time.perf_counter()
        totals = await generate(recipe, workspace, 1, splits, teacher)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert totals["kept"] > 0.5 * samples, totals
    busy = samples / wall / (workers * options.streams * options.tokens / TOKENS_PER_SAMPLE)
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
                results = asyncio.run(turn(kind, workers, samples, arguments, Path(scratch)))
            print(
                f"{kind:10}{workers:8}{results['samples']:9.0f}{results['samples_per_s']:11.1f}{results['busy']:8.3f}"
                f"{results['cpu']:12.0%}{results['cpu_ms']:11.3f}",
                flush=True,
            )
            for name in ("samples_per_s", "busy", "cpu", "cpu_ms"):
                figures[f"ray_scaling_{kind}_{workers}x{arguments.streams}_{name}"] = round(results[name], 3)
    if arguments.json:
        record(arguments.json, figures)


if __name__ == "__main__":
    main()
