"""What does the teacher behind HTTP cost, compared with a minimal client of the same server?

    python bench/server.py [intents] [slots] [instant] [--apart] [--samples 700] [--repeats 5]
                           [--json FILE]

    intents   vLLM's own server, here, with the quickstart's teacher of 3.5 million parameters: short answers, and as many
              a second as this engine can give
    slots     the same with the teacher of recipes/quickstart-slots.yaml: a label is the text again, under a grammar
    instant   a server that needs no time: the limit is what this toolkit itself can do

Three ways, taken in turn, `--repeats` times, over connections that are open already:

    bare      aiohttp: every body is prepared beforehand, 256 requests are in flight, answers are only read. It does not wait
              for texts before it labels them, because its bodies are those that the first turn of `ours` sent
    client    `scheduler.in_order` and `Engine.complete` over the prompts of that turn: what bare does, with our client
    ours      `stages.generate`, round 1 of the recipe with the strategy `static`: plan, prompts, generating and
              labelling, journal, filters, shards

A ratio is bare seconds / our seconds within one repeat (1 would be perfect). The median, minimum and maximum are shown. The
server's prefix cache is emptied before each turn, and every way must get the same number of tokens.

With --apart vLLM has one core and the client has the others. Then the client takes nothing from the engine, as when the server
is another machine or computes on a GPU, and the ratio says how well the engine is fed. Without --apart they share all cores,
and the ratio is about CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from opened import Opened
from report import record

from evokd_data.generation.scheduler import TeacherOnDemand, in_order
from evokd_data.recipe import Recipe, load
from evokd_data.records import Completion, Prompt
from evokd_data.seeds import load_splits
from evokd_data.stages.generate import generate
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.server.engine import ServerEngine

ROOT = Path(__file__).parents[1]
WAYS = ["bare", "client", "ours"]
MODEL = "quickstart-teacher"
# The console script of the CPU build stops at a look-up of its own version.
SERVE = "from vllm.entrypoints.launchers.api_server.entry import main; main()"
RECIPES = {"intents": "quickstart", "slots": "quickstart-slots", "instant": "quickstart"}
OPTIONS = {
    "served-model-name": MODEL,
    "host": "127.0.0.1",
    "max-model-len": "1024",
    "kv-cache-memory-bytes": str(2**29),
    "generation-config": "vllm",
    "structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
}


@dataclass(frozen=True)
class Turn:
    wall_s: float
    cpu_s: float
    tokens: int


@contextlib.contextmanager
def instant() -> Iterator[int]:
    """The port of bench/instant_server.py."""
    server = subprocess.Popen([sys.executable, str(ROOT / "bench/instant_server.py")], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def vllm(model: Path, log: Path, core: set[int] | None) -> Iterator[int]:
    """The port of vLLM's server, kept to `core`. Its start takes half a minute."""
    options = {"model": str(model), **OPTIONS}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "--enforce-eager", "--no-enable-chunked-prefill", "--port", str(port)]
    command += ["--disable-uvicorn-access-log", "--disable-log-stats"]
    # Connections stay open during the turns of the other ways, because the cost of opening them is not measured.
    quiet = {
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    with log.open("w") as file:
        server = subprocess.Popen(
            command + [part for name, value in options.items() for part in (f"--{name}", value)],
            stdout=file,
            stderr=file,
            env={**os.environ, **quiet, "VLLM_SERVER_DEV_MODE": "1", "TORCHDYNAMO_DISABLE": "1"},
            preexec_fn=(lambda: os.sched_setaffinity(0, core)) if core else None,
        )
    try:
        while not answers(port):
            if server.poll() is not None:
                raise SystemExit(f"vLLM's server ended:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield port
    finally:
        processes = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        for process in [*processes, server]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def answers(port: int) -> bool:
    import urllib.request

    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
        return True
    return False


async def ours(recipe: Recipe, engine: ServerEngine, folder: Path) -> Turn:
    workspace, splits = Workspace(folder), load_splits(recipe)
    # Opened has what TeacherOnDemand needs of a teacher; its engine is open already.
    async with TeacherOnDemand(Opened(engine), folder / "teacher.log") as teacher:  # type: ignore[arg-type]
        await generate(recipe, workspace, 0, splits, teacher)
        cpu, wall = time.process_time(), time.perf_counter()
        totals = await generate(recipe, workspace, 1, splits, teacher)
        return Turn(time.perf_counter() - wall, time.process_time() - cpu, totals["completion_tokens"])


async def bare(session: aiohttp.ClientSession, url: str, bodies: list[bytes], window: int) -> Turn:
    waiting = iter(bodies)
    raws: list[bytes] = []

    async def worker() -> None:
        for body in waiting:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
                raws.append(await reply.read())

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(window)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(wall, cpu, sum(json.loads(raw)["usage"]["completion_tokens"] for raw in raws))


async def client(engine: ServerEngine, prompts: list[Prompt]) -> Turn:
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = [answer.completion_tokens async for _, answer in in_order(prompts, engine.complete, lambda: engine.window)]
    return Turn(time.perf_counter() - wall, time.process_time() - cpu, sum(tokens))


async def measure(name: str, port: int, samples: int, repeats: int, folder: Path, resets: bool) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/v1"
    teacher = f"teacher={{engine: server, urls: [{url}], model: {MODEL}, temperature: 0.8, max_tokens: 320}}"
    changes = [teacher, "strategy={name: static}", f"rounds.samples={samples}", "rounds.shard_size=1024"]
    recipe = load(ROOT / f"recipes/{RECIPES[name]}.yaml", changes)
    turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
    async with (
        recipe.teacher.serve(folder / "teacher.log") as engine,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60)) as session,
    ):
        assert isinstance(engine, ServerEngine)
        prompts, bodies = await sent(recipe, engine, folder / "first")
        await bare(session, f"{url}/chat/completions", bodies, engine.window)
        for repeat in range(repeats):
            for way in WAYS[repeat % 3 :] + WAYS[: repeat % 3]:
                if resets:
                    async with session.post(f"http://127.0.0.1:{port}/reset_prefix_cache") as reply:
                        reply.raise_for_status()
                if way == "bare":
                    turn = await bare(session, f"{url}/chat/completions", bodies, engine.window)
                elif way == "client":
                    turn = await client(engine, prompts)
                else:
                    turn = await ours(recipe, engine, folder / str(repeat))
                turns[way].append(turn)
                print(f"{repeat} {way:6} {turn.wall_s:7.2f} s  {turn.cpu_s:6.2f} s CPU", file=sys.stderr)
    return summary(turns, samples, len(bodies))


async def sent(recipe: Recipe, engine: ServerEngine, folder: Path) -> tuple[list[Prompt], list[bytes]]:
    """The prompts and the bodies of one round of ours."""
    prompts: list[Prompt] = []
    bodies: list[bytes] = []
    complete, send = engine.complete, engine._send

    async def completed(prompt: Prompt) -> Completion:
        prompts.append(prompt)
        return await complete(prompt)

    async def posted(method: str, url: str, payload: bytes | None, endpoint: Any) -> Any:
        bodies.append(payload or b"")
        return await send(method, url, payload, endpoint)

    # Two methods of this object are replaced for one turn, to record what it sends.
    engine.complete, engine._send = completed, posted  # type: ignore[method-assign]
    await ours(recipe, engine, folder)
    engine.complete, engine._send = complete, send  # type: ignore[method-assign]
    return prompts, bodies


def summary(turns: dict[str, list[Turn]], samples: int, answers: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "samples": samples,
        "answers": answers,
        "repeats": len(turns["ours"]),
        "same_tokens": len({turn.tokens for way in turns.values() for turn in way}) == 1,
    }
    for way in ("client", "ours"):
        ratios = [bare.wall_s / turn.wall_s for bare, turn in zip(turns["bare"], turns[way], strict=True)]
        for suffix, statistic in (("", statistics.median), ("_min", min), ("_max", max)):
            figures[f"{way}_ratio{suffix}"] = round(statistic(ratios), 3)
    for way, taken in turns.items():
        wall, cpu = statistics.median(t.wall_s for t in taken), statistics.median(t.cpu_s for t in taken)
        figures[f"{way}_wall_s"] = round(wall, 3)
        figures[f"{way}_samples_per_s"] = round(samples / wall, 1)
        figures[f"{way}_answers_per_s"] = round(answers / wall, 1)
        figures[f"{way}_client_cpu_ms_per_sample"] = round(1000 * cpu / samples, 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", default=[*RECIPES], help=f"{', '.join(RECIPES)}; default: all")
    parser.add_argument("--samples", type=int, default=700, help="asked of vLLM in a turn")
    parser.add_argument("--instant-samples", type=int, default=14_000, help="asked of the instant server in a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="the server on one core, the client on the others")
    parser.add_argument("--json", type=Path, help="the file that gets the figures, beside what it holds")
    arguments = parser.parse_args()
    prefix = "server_apart" if arguments.apart else "server"
    figures: dict[str, Any] = {f"{prefix}_load_average_1_min": round(os.getloadavg()[0], 2)}
    first, *others = sorted(os.sched_getaffinity(0))
    if arguments.apart:
        os.sched_setaffinity(0, others)
    for name in arguments.servers:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            real = name != "instant"
            samples = arguments.samples if real else arguments.instant_samples
            model = ROOT / "recipes" / RECIPES[name] / "teacher"
            with (
                vllm(model, folder / "server.log", {first} if arguments.apart else None) if real else instant() as port
            ):
                results = asyncio.run(measure(name, port, samples, arguments.repeats, folder, real))
        figures |= {f"{prefix}_{name}_{key}": value for key, value in results.items()}
    if arguments.json:
        record(arguments.json, figures)
    print(f"{'server':8}{'way':7}{'wall s':>9}{'samples/s':>11}{'answers/s':>11}{'CPU ms/sample':>15}  bare / way")
    for name in arguments.servers:
        for way in WAYS:
            row = {key.removeprefix(f"{prefix}_{name}_{way}_"): value for key, value in figures.items()}
            columns = f"{row['wall_s']:9.2f}{row['samples_per_s']:11.0f}{row['answers_per_s']:11.0f}"
            ends = f"{row['ratio']:8} ({row['ratio_min']} to {row['ratio_max']})" if "ratio" in row else ""
            print(f"{name:8}{way:7}{columns}{row['client_cpu_ms_per_sample']:15.3f}  {ends}")


if __name__ == "__main__":
    main()
