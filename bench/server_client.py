"""How many answers a second can the `server` teacher take, and at what CPU time, from a server that needs none?

    python bench/server_client.py [--requests 5000] [--repeats 5] [--json FILE]

The server is a process of its own that answers every chat request at once with the same 200 bytes. In turn:

    raw     aiohttp, bodies made beforehand, answers only read: the bound for this client library
    ours    `feeding.in_order` and `Engine.complete`

Prints answers a second and CPU milliseconds of this process per answer, as medians. On a shared machine the second
figure is the one to trust.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from evokd_data.feeding import in_order
from evokd_data.records import Message, Prompt, Sampling
from evokd_data.teachers.server import Server, ServerEngine

SERVER = """
import asyncio, json

class Instant(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"content-length: ")
            length = int(head[at + 16 :].split(b"\\r", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length :]
            self.transport.write(MODELS if head.startswith(b"get") else CHAT)

def reply(body):
    raw = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(raw) + raw

MODELS = reply({"data": [{"id": "m"}], "version": "0.32.0"})
MESSAGE = {"role": "assistant", "content": '{"texts":["play some jazz","another one","and a third one"]}'}
CHAT = reply({"choices": [{"message": MESSAGE, "finish_reason": "stop"}], "usage": {"prompt_tokens": 90, "completion_tokens": 30}})

async def main():
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def prompts(count: int) -> list[Prompt]:
    user = "Label: PlayMusic\nExamples:\n" + "- play some jazz by Miles Davis on my phone\n" * 8 + "Count: 5"
    return [
        Prompt(f"generate/{index:06}", "generate", (Message("user", f"{user} {index}"),), index, Sampling(1.0, 200))
        for index in range(count)
    ]


async def raw(engine: ServerEngine, asked: list[Prompt]) -> int:
    bodies = iter([orjson.dumps(engine._body(prompt)) for prompt in asked])
    url = f"{engine._places[0].url}/chat/completions"
    done = 0

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal done
        for body in bodies:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
                await reply.read()
            done += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session) for _ in range(engine.window)))
    return done


async def ours(engine: ServerEngine, asked: list[Prompt]) -> int:
    return sum([1 async for _ in in_order(asked, engine.complete, lambda: engine.window)])


async def measure(arguments: argparse.Namespace, port: int, log: Path) -> dict[str, Any]:
    asked = prompts(arguments.requests)
    taken: dict[str, list[tuple[float, float]]] = {"raw": [], "ours": []}
    async with Server(model="m", urls=(f"http://127.0.0.1:{port}/v1",)).serve(log) as engine:
        await ours(engine, asked[:500])
        for _ in range(arguments.repeats):
            for way in (raw, ours):
                cpu, wall = time.process_time(), time.perf_counter()
                assert await way(engine, asked) == len(asked)
                taken[way.__name__].append((time.perf_counter() - wall, time.process_time() - cpu))
    figures: dict[str, Any] = {"requests": arguments.requests, "repeats": arguments.repeats, "window_requests": 256}
    for way, turns in taken.items():
        figures[f"{way}_answers_per_s"] = round(arguments.requests / statistics.median(wall for wall, _ in turns))
        cpu = statistics.median(cpu for _, cpu in turns)
        figures[f"{way}_client_cpu_ms_per_request"] = round(1000 * cpu / arguments.requests, 3)
    figures["load_average_1_min"] = round(os.getloadavg()[0], 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            figures = asyncio.run(measure(arguments, int(server.stdout.readline()), Path(folder) / "log"))
        finally:
            server.terminate()
            server.wait()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
