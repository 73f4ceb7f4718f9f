"""How far does one driver carry? Throughput over workers, and where the driver itself becomes the limit.

    python bench/ray_scaling.py [--seconds 30] [--json FILE]

What is real here: prompts, templates, journal, labelling, filters, shards and order, all of `stages.generate` with the
strategy `static`; and the fleet with its batches. What is not: the engines. A worker has `--streams`, each writing 40
tokens a second, an answer of 2 to 20 tokens for a label and 40 to 80 for five texts; it takes as long as that takes.

    simulated   the workers live in the driver's process, and the clock is its CPU time plus the waiting that was skipped:
                what the run would take on a core of its own, however busy this machine is. What making up the answers
                takes is measured and taken off; the rest of their work, tasks and timers, counts as the driver's.
                Ray's messages and waiting for the disk do not
    ray         actors, processes, messages and the clock on the wall, all real

Efficiency: samples a second / (workers x those of one worker, of the same kind). A round has work for `--seconds` for
every worker, but at most `--most` samples. Where efficiency falls and the driver's CPU is near 100 %, the driver is the
limit: `ray_scaling_driver_samples_per_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import selectors
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opened import Opened
from report import record

from evokd_data.feeding import TeacherOnDemand
from evokd_data.recipe import load
from evokd_data.records import Completion, Prompt
from evokd_data.seeds import load_splits
from evokd_data.stages.generate import generate
from evokd_data.teachers import Engine, ray
from evokd_data.teachers.fleet import Fleet, Host
from evokd_data.teachers.scripted import Scripted
from evokd_data.workspace import Workspace

ROOT = Path(__file__).parents[1]
TOKENS_PER_S = 40.0
PER_REQUEST = 5
TOKENS = {"generate": (40, 80), "label": (2, 20)}
# Of one stream: it is busy for a generate call and its five labels.
SAMPLES_PER_S = TOKENS_PER_S / (sum(TOKENS["generate"]) / 2 / PER_REQUEST + sum(TOKENS["label"]) / 2)


@dataclass(frozen=True)
class Slow(Scripted):
    """A scripted teacher that takes the time a real one would."""

    streams: int = 0

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        async with super().serve(log) as engine:
            yield SlowEngine(engine, self.streams, self.window)


class SlowEngine:
    spent_s = 0.0  # of this process's CPU, by all of them

    def __init__(self, engine: Engine, streams: int, window: int) -> None:
        self._engine = engine
        self._streams = asyncio.Semaphore(streams)
        self.window = window
        self.environment = engine.environment

    async def complete(self, prompt: Prompt) -> Completion:
        async with self._streams:
            tokens = random.Random(prompt.seed).randint(*TOKENS[prompt.stage])
            await asyncio.sleep(tokens / TOKENS_PER_S)
        begun = time.process_time()
        answer = await self._engine.complete(prompt)  # without waiting
        SlowEngine.spent_s += time.process_time() - begun
        return answer

    async def sleep(self) -> None: ...

    async def wake(self) -> None: ...


def drivers_cpu() -> float:
    return time.process_time() - SlowEngine.spent_s


class Skipping(selectors.DefaultSelector):
    """Waits for no timer, and knows how long it would have waited."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.skipped_s += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return drivers_cpu() + self._skipping.skipped_s


LOOPS = {"simulated": SimulatedLoop, "ray": asyncio.new_event_loop}


@contextlib.asynccontextmanager
async def fleet_of(kind: str, workers: int, streams: int, log: Path) -> AsyncIterator[Fleet]:
    """All workers open."""
    teacher = Slow(streams=streams, window=streams + max(1, streams // 8))

    async def hire(index: int) -> Host:
        host = Host(teacher, log)
        await host.open(teacher.identity())
        return host

    async with (
        ray.serve(teacher, workers, log, resources={"CPU": 0.001})  # they sleep
        if kind == "ray"
        else Fleet(hire, workers, lambda line: None)
    ) as fleet:
        while len(fleet._places) < workers:  # noqa: ASYNC110 - nothing else wants to know
            await asyncio.sleep(0.1)
        yield fleet


async def turn(kind: str, workers: int, streams: int, samples: int, folder: Path) -> dict[str, float]:
    """Samples a second of round 1, and the driver's CPU time."""
    changes = [f"rounds.samples={samples}", "rounds.shard_size=1000", "strategy={name: static}", "publish=null"]
    recipe = load(ROOT / "recipes/quickstart.yaml", [*changes, "teacher={engine: scripted}"])
    workspace, splits = Workspace(folder), load_splits(recipe)
    async with (
        fleet_of(kind, workers, streams, folder / "teacher.log") as fleet,
        # Opened is a teacher as far as this asks: its engine is open already.
        TeacherOnDemand(Opened(fleet), folder / "teacher.log") as teacher,  # type: ignore[arg-type]
    ):
        await generate(recipe, workspace, 0, splits, teacher)
        clock = asyncio.get_running_loop().time
        cpu, wall = drivers_cpu(), clock()
        await generate(recipe, workspace, 1, splits, teacher)
        wall, cpu = clock() - wall, drivers_cpu() - cpu
    return {"samples": samples, "samples_per_s": samples / wall, "busy": cpu / wall, "cpu_ms": 1000 * cpu / samples}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=4, help="requests that a worker's engine works on at a time")
    parser.add_argument("--seconds", type=float, default=30, help="of work for every worker, in a turn")
    parser.add_argument("--most", type=int, default=40_000, help="samples in a turn")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 8, 64, 512, 1024], help="simulated workers")
    parser.add_argument("--ray", type=int, nargs="*", default=[1, 2, 8], help="Ray actors; none without Ray")
    parser.add_argument("--json", type=Path, help="the file that gets the figures, beside what it holds")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "ray_scaling_streams": arguments.streams,
        "ray_scaling_tokens_per_s_and_stream": TOKENS_PER_S,
        "ray_scaling_seconds": arguments.seconds,
        "ray_scaling_load_average_1_min": round(os.getloadavg()[0], 2),
    }
    rate = SAMPLES_PER_S * arguments.streams
    head = f"{'engines':9}{'workers':>8}{'samples':>9}{'samples/s':>11}{'efficiency':>12}{'driver CPU':>12}{'ms/sample':>11}"
    print(f"{head}   ({arguments.streams} streams of {TOKENS_PER_S:.0f} tokens/s: {rate:.1f} samples/s a worker)")
    for kind, counts in (("simulated", arguments.workers), ("ray", arguments.ray)):
        alone = 0.0
        for workers in counts:
            with tempfile.TemporaryDirectory() as scratch:
                samples = min(arguments.most, round(rate * workers * arguments.seconds))
                with asyncio.Runner(loop_factory=LOOPS[kind]) as loop:
                    found = loop.run(turn(kind, workers, arguments.streams, samples, Path(scratch)))
            alone = alone or found["samples_per_s"] / workers
            found["efficiency"] = found["samples_per_s"] / workers / alone
            print(
                f"{kind:9}{workers:8}{found['samples']:9.0f}{found['samples_per_s']:11.1f}{found['efficiency']:12.3f}"
                f"{found['busy']:12.0%}{found['cpu_ms']:11.3f}",
                flush=True,
            )
            for name in ("samples_per_s", "efficiency", "busy", "cpu_ms"):
                figures[f"ray_scaling_{kind}_{workers}_{name}"] = round(found[name], 3)
            if kind == "simulated" and found["busy"] > 0.9:
                figures["ray_scaling_driver_samples_per_s"] = round(found["samples_per_s"])
    if arguments.json:
        record(arguments.json, figures)


if __name__ == "__main__":
    main()
