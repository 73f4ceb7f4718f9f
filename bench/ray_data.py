"""Would Ray Data feed engines as well as actors of our own do?

    python bench/ray_data.py [--workers 2] [--requests 300] [--batch 8]

`map_batches` over an actor with the streams and the answer times of bench/ray_scaling.py: a row is a request for texts, and
the actor writes and labels them; so nobody waits for a batch but Ray Data itself. Efficiency is the seconds that all streams
together need / the seconds it took, actors' start included. Of ours see `ray_scaling_ray_2_efficiency`, which is without.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray_scaling import PER_REQUEST, TOKENS, TOKENS_PER_S


def seconds(stage: str, seed: int) -> float:
    return random.Random(seed).randint(*TOKENS[stage]) / TOKENS_PER_S


class Writer:
    def __init__(self, streams: int) -> None:
        self._streams = asyncio.Semaphore(streams)

    async def _wait(self, stage: str, seed: int) -> None:
        async with self._streams:
            await asyncio.sleep(seconds(stage, seed))

    async def _write(self, request: int) -> list[str]:
        await self._wait("generate", request)
        labels = (self._wait("label", PER_REQUEST * request + place) for place in range(PER_REQUEST))
        await asyncio.gather(*labels)
        return [f"text {request} {place}" for place in range(PER_REQUEST)]

    async def __call__(self, batch: Mapping[str, Any]) -> AsyncIterator[dict[str, list[str]]]:
        for written in [asyncio.ensure_future(self._write(int(request))) for request in batch["id"]]:
            yield {"text": await written}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    import ray

    ray.init(num_cpus=8, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    texts = ray.data.range(options.requests, override_num_blocks=8 * options.workers).map_batches(
        Writer,
        fn_constructor_args=(options.streams,),
        batch_size=options.batch,
        concurrency=options.workers,
        num_cpus=0.001,  # they sleep
    )
    started, cpu = time.perf_counter(), time.process_time()
    samples = sum(len(batch["text"]) for batch in texts.iter_batches(batch_size=64, prefetch_batches=0))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    needed = sum(
        seconds("generate", request)
        + sum(seconds("label", PER_REQUEST * request + place) for place in range(PER_REQUEST))
        for request in range(options.requests)
    )
    efficiency = needed / options.workers / options.streams / took
    print(
        f"{samples} samples in {took:.1f} s, efficiency {efficiency:.3f}, driver {1000 * cpu / samples:.2f} ms a sample"
    )


if __name__ == "__main__":
    main()
