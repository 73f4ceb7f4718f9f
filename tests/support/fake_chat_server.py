"""A server in this process that speaks as much of OpenAI's chat completions as the teacher `server` needs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


@dataclass
class FakeServer:
    """`script` holds replies to the first chat requests, in turn: (status, headers, body), or None for a dropped
    connection. After them `rules` decide, each a reply or None to let the next decide, and at last `text`. `bodies` are those of
    the chat requests it received. `roles`: what the chat template does with a system message. `tokenizes`: whether /tokenize
    answers."""

    model: str = "org/teacher"
    version: str | None = "0.32.0"
    delay_s: float = 0.0
    idle_s: float = 60.0
    script: list[Reply | None] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    rules: list[Callable[[dict[str, Any]], Reply | None]] = field(default_factory=list)
    roles: Literal["kept", "dropped", "refused"] = "kept"
    tokenizes: bool = True
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeServer]:
        server = await asyncio.start_server(self.connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while True:
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.idle_s)).decode()
                method, path, *_ = head.split(" ", 2)
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                self.keys.add(headers.get("authorization", ""))
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                reply = await self.reply(method, path, json.loads(body) if body else {})
                if reply is None:
                    break
                status, extra, raw = reply
                lines = [
                    f"HTTP/1.1 {status} -",
                    f"Content-Length: {len(raw)}",
                    *(f"{name}: {value}" for name, value in extra.items()),
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
                await writer.drain()
        writer.close()

    async def reply(self, method: str, path: str, body: dict[str, Any]) -> Reply | None:
        if path == "/v1/models":
            return ok({"data": [{"id": self.model, "max_model_len": 2048}]})
        if path == "/version":
            return ok({"version": self.version}) if self.version else (404, {}, b"")
        if path in ("/tokenize", "/apply-template"):
            return self.render(path, body)
        assert (method, path) in (("POST", "/v1/chat/completions"), ("POST", "/api/chat"))
        self.bodies.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.script:
                return self.script.pop(0)
            for rule in self.rules:
                if (reply := rule(body)) is not None:
                    return reply
            return ok(ollama(self.text(body)) if path == "/api/chat" else chat(self.text(body)))
        finally:
            self.at_once -= 1

    def render(self, path: str, body: dict[str, Any]) -> Reply:
        """A chat as its template renders it, or the first letter of a text as its tokens."""
        if not self.tokenizes:
            return failing(404, "Not Found")
        if "prompt" in body:
            return ok({"tokens": [ord(body["prompt"][0])]})
        if self.roles == "refused" and body["messages"][0]["role"] == "system":
            return failing(400, "System role not supported")
        shown = [m for m in body["messages"] if self.roles != "dropped" or m["role"] != "system"]
        prompt = "".join(f"<|{message['role']}|>{message['content']}<|end|>" for message in shown)
        return ok({"prompt": prompt} if path == "/apply-template" else {"tokens": list(map(ord, prompt))})

    def text(self, body: dict[str, Any]) -> str:
        seed = body.get("seed", body.get("options", {}).get("seed", "without a seed"))
        return f"{body['messages'][-1]['content']} {seed}"


def ok(body: dict[str, Any]) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def chat(text: str | None, reason: str = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    return {"choices": [{"message": message, "finish_reason": reason, **fields}], "usage": usage}


def ollama(text: str, reason: str = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    counts = {"prompt_eval_count": 10, "eval_count": 3}
    return {"model": "m", "message": message, "done": True, "done_reason": reason, **counts, **fields}


def failing(status: int, message: str = "no", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": message}}).encode()
