"""A program with a fleet of actors, for tests that end it: ray_driver.py LOG READY

Writes the process ids of its actors to READY once all are open and the fleet answers; when one of them has died and the
fleet answers again, it makes a file `again` beside READY, and waits. Prints nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from test_ray_actors import pids

from evokd_data.records import Constraint, Message, Prompt, Sampling
from evokd_data.teachers.ray import pipeline
from evokd_data.teachers.scripted import Scripted


async def main(log: Path, ready: Path) -> None:
    async with pipeline.serve(Scripted(), 2, log) as fleet:
        while fleet.opened < 2:  # the death of one that is not open yet is none of the fleet's
            await asyncio.sleep(0.05)
        wanted = Constraint(json_schema={"required": ["advice"]})
        await fleet.complete(Prompt("a/1", "analyse", (Message("user", "x"),), 1, Sampling(1.0, 9), wanted))
        scratch = ready.with_suffix(".tmp")
        scratch.write_text(json.dumps(pids()))
        scratch.rename(ready)
        while fleet.deaths == 0:
            await asyncio.sleep(0.05)
        await fleet.complete(Prompt("a/2", "analyse", (Message("user", "x"),), 2, Sampling(1.0, 9), wanted))
        ready.with_name("again").touch()
        await asyncio.sleep(600)


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(3)
