"""Would Ray Data carry prompts to engines as well as actors of our own do?

    python bench/ray_data.py [--workers 2 8] [--streams 4 32] [--prompts 1 8 32] [--seconds 15] [--repeats 5] [--json FILE]

The same engines behind both, and the same prompts, each answered after the time that 2 to 20 tokens take at 40 tokens a
second; an engine has so many streams, and one place in `--workers` goes with one in `--streams`. In turn, --repeats times:

    actors    `teachers.ray.serve`, asked as a round asks it: `feeding.in_order`, a window and an eighth for each worker
    data N    one Ray Data pipeline that stays open as long as the engines: a source that waits for prompts, `map_batches`
              over actors that hold an engine, answers by `iter_batches`. N prompts make a row, and so a task; a row's
              answers come when its last is there. Twice the streams are on their way to each worker, or two rows

Efficiency: the seconds that all streams together need / the seconds it took, engines being open before. Driver: CPU of this
process, ms an answer. Ray Data's own process-wide limits are its defaults, but for the size of its blocks: one row.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pickle
import random
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pyarrow as pa
from ray_scaling import TOKENS, TOKENS_PER_S
from report import record

from evokd_data.feeding import in_order
from evokd_data.records import Completion, Message, Prompt, Sampling
from evokd_data.teachers import Engine, ray
from evokd_data.teachers.scripted import Scripted

GATHER_S = 0.02  # as the fleet's
TASKS = 2  # rows in one actor, at least: one is answered while the next is on its way


def seconds(prompt: Prompt) -> float:
    return random.Random(prompt.seed).randint(*TOKENS["label"]) / TOKENS_PER_S


@dataclass(frozen=True)
class Timed(Scripted):
    """A teacher that says nothing, but takes its time."""

    streams: int = 0

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        yield TimedEngine(self.streams, self.window)


class TimedEngine:
    def __init__(self, streams: int, window: int) -> None:
        self._streams = asyncio.Semaphore(streams)
        self.window = window

    async def complete(self, prompt: Prompt) -> Completion:
        async with self._streams:
            await asyncio.sleep(seconds(prompt))
        return Completion("a", "stop", 1, 1)

    async def sleep(self) -> None: ...

    async def wake(self) -> None: ...

    def environment(self) -> Mapping[str, Any]:
        return {}


class Inbox:
    """Where rows wait until the pipeline's source takes them: an actor of its own."""

    def __init__(self) -> None:
        self._rows: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def put(self, row: bytes | None) -> None:
        self._rows.put_nowait(row)

    async def take(self) -> list[bytes | None]:
        rows = [await self._rows.get()]
        while not self._rows.empty():
            rows.append(self._rows.get_nowait())
        return rows


class Answerer:
    """What Ray Data's actor holds."""

    def __init__(self, streams: int) -> None:
        self._engine = TimedEngine(streams, 0)

    async def __call__(self, batch: Mapping[str, Any]) -> AsyncIterator[dict[str, list[bytes]]]:
        asked = [pickle.loads(row) for row in batch["row"]]  # noqa: S301 - written below
        for row in asked:
            answers = await asyncio.gather(*(self._engine.complete(prompt) for _, prompt in row))
            yield {"row": [pickle.dumps([(number, answer) for (number, _), answer in zip(row, answers, strict=True)])]}


def pipeline(inbox: Any, workers: int, streams: int, tasks: int) -> Iterator[list[tuple[int, Completion]]]:
    """The answers, row by row, until the inbox holds None."""
    from ray import data, get
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Source(Datasource):
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            def read() -> Iterator[pa.Table]:
                while True:
                    for row in get(inbox.take.remote()):
                        if row is None:
                            return
                        yield pa.table({"row": pa.array([row], pa.binary())})

            return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it set its own when it was imported
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # bytes: a row leaves as soon as it is there
    answers = data.read_datasource(Source(), override_num_blocks=1, num_cpus=0).map_batches(
        Answerer,
        fn_constructor_args=(streams,),
        batch_size=None,
        compute=data.ActorPoolStrategy(
            size=workers, max_tasks_in_flight_per_actor=tasks, max_concurrent_calls_per_actor=tasks
        ),
        num_cpus=0.001,  # they sleep
    )
    for batch in answers.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for row in batch["row"]:
            yield pickle.loads(row.as_py())  # noqa: S301 - written above


class Piped:
    """An engine behind the pipeline. What has gathered for GATHER_S makes a row, or `size` prompts."""

    def __init__(self, inbox: Any, size: int, window: int) -> None:
        self._inbox = inbox
        self._size = size
        self.window = window
        self._asked: dict[int, asyncio.Future[Completion]] = {}
        self._row: list[tuple[int, Prompt]] = []
        self._late: asyncio.TimerHandle | None = None
        self._number = 0

    async def complete(self, prompt: Prompt) -> Completion:
        self._number += 1
        answer = self._asked[self._number] = asyncio.get_running_loop().create_future()
        self._row.append((self._number, prompt))
        if len(self._row) == self._size:
            self._send()
        elif len(self._row) == 1:
            self._late = asyncio.get_running_loop().call_later(GATHER_S, self._send)
        return await answer

    def _send(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._inbox.put.remote(pickle.dumps(self._row))
        self._row = []

    def take(self, row: list[tuple[int, Completion]]) -> None:
        for number, answer in row:
            self._asked.pop(number).set_result(answer)


@contextlib.asynccontextmanager
async def piped(workers: int, streams: int, size: int) -> AsyncIterator[Piped]:
    import ray as client

    inbox = client.remote(Inbox).options(num_cpus=0, max_concurrency=8).remote()
    tasks = max(TASKS, -(-2 * streams // size))
    engine = Piped(inbox, size, workers * tasks * size)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for row in pipeline(inbox, workers, streams, tasks):
            loop.call_soon_threadsafe(engine.take, row)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield engine
    finally:
        await inbox.put.remote(None)
        await asyncio.to_thread(listener.join)


@contextlib.asynccontextmanager
async def fleet(workers: int, streams: int) -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        teacher = Timed(streams=streams, window=streams + max(1, streams // 8))
        async with ray.serve(teacher, workers, Path(folder) / "log", resources={"CPU": 0.001}) as engine:
            while len(engine._places) < workers:  # noqa: ASYNC110 - nothing else wants to know
                await asyncio.sleep(0.1)
            yield engine


def prompts(count: int, seed: int) -> list[Prompt]:
    messages, sampling = (Message("system", "label " * 100), Message("user", "a text")), Sampling(1.0, 64)
    return [Prompt(f"label/{number:06}", "label", messages, seed + number, sampling) for number in range(count)]


async def answered(engine: Engine | Piped, asked: list[Prompt]) -> None:
    work: Callable[[Prompt], Awaitable[Completion]] = engine.complete
    async for _ in in_order(asked, work, lambda: engine.window):
        pass


async def turn(way: str, workers: int, streams: int, size: int, count: int, repeat: int) -> dict[str, float]:
    asked = prompts(count, 1_000_000 * repeat)
    async with piped(workers, streams, size) if way == "data" else fleet(workers, streams) as engine:
        await answered(engine, prompts(4 * workers * streams, -1_000_000))  # every engine is open
        begun, cpu = time.perf_counter(), time.process_time()
        await answered(engine, asked)
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "efficiency": sum(map(seconds, asked)) / workers / streams / took,
        "answers_per_s": count / took,
        "driver_ms": 1000 * cpu / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 8])
    parser.add_argument("--streams", type=int, nargs="*", default=[4, 32])
    parser.add_argument("--prompts", type=int, nargs="*", default=[1, 8, 32], help="in a row of Ray Data's")
    parser.add_argument("--seconds", type=float, default=15, help="of work for every stream in a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="the file that gets the figures, beside what it holds")
    options = parser.parse_args()
    import ray as client

    client.init(num_cpus=8, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ways = [("actors", 0), *(("data", size) for size in options.prompts)]
    figures: dict[str, Any] = {}
    print(f"{'workers':8}{'streams':>8}  {'way':10}{'efficiency':>11}{'answers/s':>11}{'driver ms':>11}")
    for workers, streams in zip(options.workers, options.streams, strict=True):
        mean = statistics.mean(map(seconds, prompts(1000, 0)))
        count = round(options.seconds / mean * workers * streams)
        taken: dict[tuple[str, int], list[dict[str, float]]] = {way: [] for way in ways}
        for repeat in range(options.repeats):
            for way, size in random.Random(repeat).sample(ways, len(ways)):
                taken[way, size].append(asyncio.run(turn(way, workers, streams, size, count, repeat)))
        for (way, size), found in taken.items():
            name = f"{way} {size}" if size else way
            medians = {key: statistics.median(one[key] for one in found) for key in found[0]}
            least, most = (pick(one["efficiency"] for one in found) for pick in (min, max))
            print(
                f"{workers:<8}{streams:8}  {name:10}{medians['efficiency']:11.3f}{medians['answers_per_s']:11.1f}"
                f"{medians['driver_ms']:11.3f}   ({least:.3f} to {most:.3f})",
                flush=True,
            )
            start = f"ray_data_{workers}x{streams}_{name.replace(' ', '_')}"
            figures |= {f"{start}_{key}": round(value, 3) for key, value in medians.items()}
            figures |= {f"{start}_efficiency_min": round(least, 3), f"{start}_efficiency_max": round(most, 3)}
    if options.json:
        record(options.json, figures)


if __name__ == "__main__":
    main()
