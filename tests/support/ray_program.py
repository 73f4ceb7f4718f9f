"""A program with a cluster of actors, for tests that end it: ray_program.py LOG READY

Once all actors are open and the engine answers, it writes their process ids to READY. When one of them has died and the
engine answers again, it makes a file `again` beside READY, and waits. It prints nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from evokd_data.records import Constraint, Message, Prompt, Sampling
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.scripted import Scripted
from tests.support.ray_workers import pids


async def main(log: Path, ready: Path) -> None:
    async with pipeline.serve(Scripted(), 2, log) as engine:
        while engine.workers_opened < 2:  # a worker that dies before it is open is not counted
            await asyncio.sleep(0.05)
        schema = Constraint(json_schema={"required": ["advice"]})
        await engine.complete(Prompt("a/1", "analyse", (Message("user", "x"),), 1, Sampling(1.0, 9), schema))
        scratch = ready.with_suffix(".tmp")
        scratch.write_text(json.dumps(pids()))
        scratch.rename(ready)
        while engine.deaths == 0:
            await asyncio.sleep(0.05)
        await engine.complete(Prompt("a/2", "analyse", (Message("user", "x"),), 2, Sampling(1.0, 9), schema))
        ready.with_name("again").touch()
        await asyncio.sleep(600)


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(3)
