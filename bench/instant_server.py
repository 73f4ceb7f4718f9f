"""A server of chat completions that needs no time: prints its port, then answers until it is stopped.

A request with choices gets the first one. Every other request gets five texts of invented words, never the same twice.
"""

from __future__ import annotations

import asyncio
import json
import random

WORDS = [
    a + b + c for a in ("ba", "do", "fi", "gu", "ke", "lo", "ni") for b in ("ra", "te", "mo", "su") for c in "nlst"
]
draw = random.Random(0)


def reply(body: dict) -> bytes:
    raw = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw


def answer(content: str) -> bytes:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return reply({"choices": [choice], "usage": {"prompt_tokens": 90, "completion_tokens": 30}})


MODELS = reply({"data": [{"id": "quickstart-teacher"}], "version": "0.32.0"})
LABELS: dict[bytes, bytes] = {}


def chat(body: bytes) -> bytes:
    _, has_choices, choices = body.partition(b'"choice":["')
    if not has_choices:
        return answer(json.dumps({"texts": [" ".join(draw.choices(WORDS, k=8)) for _ in range(5)]}))
    label = choices.partition(b'"')[0]
    if label not in LABELS:
        LABELS[label] = answer(label.decode())
    return LABELS[label]


class Instant(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"content-length: ")
            length = int(head[at + 16 :].split(b"\r", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            body, self.data = self.data[end + 4 : end + 4 + length], self.data[end + 4 + length :]
            self.transport.write(MODELS if head.startswith(b"get") else chat(body))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
