"""A program with a teacher, for tests that end it: vllm_program.py MODEL LOG READY

Once the engine has answered a prompt of every kind, it writes the engine's process ids and some texts to READY and waits.
It prints nothing itself, so everything that is printed comes from the engine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import psutil

from evokd_data.records import Constraint
from evokd_data.teachers.vllm.plug import VLLM
from tests.support.vllm_engine import SETTINGS, a_prompt


async def main(model: str, log: Path, ready: Path) -> None:
    async with VLLM(model=model, **SETTINGS).serve(log) as engine:
        texts = [(await engine.complete(a_prompt(index))).text for index in range(4)]
        assert (await engine.complete(a_prompt(4, text="will it rain tomorrow " * 400))).finish_reason == "too_long"
        for constraint in (Constraint(choices=("A", "B")), Constraint(choices=("A", "B"), score=True)):
            assert (await engine.complete(a_prompt(5, constraint))).text in ("A", "B")
        processes = [child.pid for child in psutil.Process().children(recursive=True)]
        scratch = ready.with_suffix(".tmp")
        scratch.write_text(json.dumps({"texts": texts, "processes": processes}))
        scratch.rename(ready)
        await asyncio.sleep(600)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    except KeyboardInterrupt:
        sys.exit(3)
