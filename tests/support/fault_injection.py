"""A local Hub that injects faults, counted and repeatable, for tests of its clients.

    with hub_with_faults(root) as hub:
        set_faults(hub, {"match": "POST .*/commit/", "status": 503, "times": 1})

The server runs in a child process whose program is this file: the local Hub with `FaultInjector` as middleware around it.
Rules are a JSON list. The first rule that fires for a request decides. A rule:

    {"match": "POST /api/datasets/.*/commit/",   regex searched in "METHOD path" (raw path, no query)
     "status": 503,                              answer this ...
     "when": "before" | "after",                 ... instead of doing the work (default), or after it
     "drop": "before" | "during" | "after",      or cut the connection: nothing is done; half of the answer's body is sent;
                                                 everything is done and nothing is answered
     "body": "truncate" | "alter",               or halve the body (a well-formed answer), or change one byte of it
     "delay_s": 0.5, "headers": {"Retry-After": "1"}, "message": "...",
     "times": 2,                                 fire at most so often (default: always)
     "skip": 1,                                  let this many matching requests pass first
     "probability": 0.3, "seed": 7}              fire by chance, the same chances for the same seed

A rule with only `delay_s` or `headers` lets the request through, later or with those headers added. `GET /_faults` reports
how often each rule matched (`matched`) and fired, `POST /_faults` replaces the rules and starts counting anew.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evokd_data import localhub
from evokd_data.localhub.child import RunningHub
from evokd_data.localhub.errors import HubError, bad_request
from evokd_data.localhub.wire import (
    Application,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
    error_reply,
    json_reply,
    send_reply,
)

ROUTE = "/_faults"
CHOICES = {"drop": ("before", "during", "after"), "when": ("before", "after"), "body": ("truncate", "alter")}


def hub_with_faults(root: Path, port: int = 0) -> AbstractContextManager[RunningHub]:
    """A local Hub as `localhub.running` starts one, without faults until `set_faults`."""
    # -P: the names of test modules must not hide those of libraries.
    return localhub.running(root, port=port, program=(sys.executable, "-P", __file__))


def set_faults(hub: RunningHub, *rules: dict[str, Any]) -> None:
    """Replace the rules of a running Hub; without rules there are no faults."""
    _ask(hub, json.dumps(rules).encode())


def fault_counts(hub: RunningHub) -> list[tuple[int, int]]:
    """How often each rule matched and fired since the rules were set."""
    return [(rule["matched"], rule["fired"]) for rule in _ask(hub, None)["rules"]]


def _ask(hub: RunningHub, body: bytes | None) -> dict[str, Any]:
    request = urllib.request.Request(f"{hub.endpoint}{ROUTE}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@dataclass(frozen=True)
class Rule:
    match: str
    status: int | None = None
    when: str = "before"
    drop: str | None = None
    body: str | None = None
    delay_s: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "fault injected"
    times: int | None = None
    skip: int = 0
    probability: float = 1
    seed: int = 0

    def __post_init__(self) -> None:
        re.compile(self.match)
        for key, allowed in CHOICES.items():
            value = getattr(self, key)
            if value is not None and value not in allowed:
                raise ValueError(f"{key}: {value!r} is none of {', '.join(allowed)}")
        if sum(kind is not None for kind in (self.status, self.drop, self.body)) > 1:
            raise ValueError("a rule has one of status, drop and body")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status: {self.status} is no final HTTP status")


def parse_rules(rows: Any) -> list[Rule]:
    """Rules from JSON. Raises ValueError that names the rule and what is wrong with it."""
    if not isinstance(rows, list):
        raise ValueError("fault rules must be a list")
    rules = []
    for number, row in enumerate(rows):
        try:
            rules.append(Rule(**row))
        except (TypeError, ValueError, re.error) as error:
            raise ValueError(f"fault rule {number}: {error}") from None
    return rules


class CountedRule:
    """A rule with its counts."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.chances = random.Random(rule.seed)
        self.matched = self.fired = 0

    def fires(self, line: str) -> bool:
        if not re.search(self.rule.match, line):
            return False
        self.matched += 1
        if self.matched <= self.rule.skip or (self.rule.times is not None and self.fired >= self.rule.times):
            return False
        if self.rule.probability < 1 and self.chances.random() >= self.rule.probability:
            return False
        self.fired += 1
        return True

    def report(self) -> dict[str, Any]:
        return {**asdict(self.rule), "matched": self.matched, "fired": self.fired}


class FaultInjector:
    """ASGI middleware with the rules of one server process. It lives on the event loop, so its counts need no lock."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._rules: list[CountedRule] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("latin-1")
        if path == ROUTE:
            reply = self._reply(scope["method"], await read_body(receive))
            await send_reply(reply, send, head=False)
            return
        line = f"{scope['method']} {path}"
        firing = next((counted for counted in self._rules if counted.fires(line)), None)
        if firing is None:
            await self._app(scope, receive, send)
        else:
            await self._inject(firing, scope, receive, send)

    async def _inject(self, counted: CountedRule, scope: Scope, receive: Receive, send: Send) -> None:
        rule = counted.rule
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        # ASGI has no way to cut a connection; the first `send` is a method of uvicorn's object that has the transport.
        transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
        if rule.drop == "before" or (rule.status is not None and rule.when == "before"):
            await read_body(receive)
        elif rule.drop == "during":
            await self._app(scope, receive, SendHalf(send, transport.close))
        elif rule.drop == "after" or rule.status is not None:
            await self._app(scope, receive, swallow)
        elif rule.body is not None:
            await self._app(scope, receive, SendDamaged(send, rule, counted.fired))
        else:
            await self._app(scope, receive, SendWithHeaders(send, rule.headers))
        if rule.drop in ("before", "after"):
            transport.abort()
        if rule.drop is not None:
            await wait_for_disconnect(receive)
        elif rule.status is not None:
            error = HubError(rule.status, rule.message, headers=rule.headers)
            await send_reply(error_reply(error), send, head=False)

    def _reply(self, method: str, body: bytes) -> Reply:
        if method == "POST":
            try:
                self._rules = [CountedRule(rule) for rule in parse_rules(json.loads(body))]
            except ValueError as error:
                return error_reply(bad_request(str(error)))
        return json_reply({"rules": [counted.report() for counted in self._rules]})


async def read_body(receive: Receive) -> bytes:
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the server has noticed the cut, so that it does not report a missing answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def swallow(message: Message) -> None:
    """A `send` that sends nothing."""


def content_length(start: Message) -> int:
    return next((int(value) for key, value in start["headers"] if key == b"content-length"), 0)


def with_headers(start: Message, headers: dict[str, str]) -> Message:
    new = {key.lower().encode("latin-1"): value.encode("latin-1") for key, value in headers.items()}
    unchanged = [(key, value) for key, value in start["headers"] if key not in new]
    return {**start, "headers": [*unchanged, *new.items()]}


class SendHalf:
    """Passes the head and half of the body on, then cuts the connection. Without a body it cuts before the head."""

    def __init__(self, send: Send, cut: Callable[[], None]) -> None:
        self._send = send
        self._cut = cut
        self._left = 0
        self._closed = False

    async def __call__(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.response.start":
            total = content_length(message)
            self._left = total // 2
            if total:
                await self._send(message)
        else:
            body = message.get("body", b"")[: self._left]
            self._left -= len(body)
            if body:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            if not self._left:
                self._closed = True
                self._cut()


class SendDamaged:
    """Halves the body or changes one byte of it. The answer stays well-formed, so that only a digest can tell."""

    def __init__(self, send: Send, rule: Rule, firing: int) -> None:
        self._send = send
        self._rule = rule
        self._chances = random.Random(rule.seed + firing)
        self._altered = self._position = self._left = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            total = content_length(message)
            self._altered = self._chances.randrange(total) if total else -1
            self._left = total // 2 if self._rule.body == "truncate" else total
            await self._send(with_headers(message, {**self._rule.headers, "content-length": str(self._left)}))
            return
        body = bytearray(message.get("body", b"")[: self._left])
        if self._rule.body == "alter" and self._position <= self._altered < self._position + len(body):
            body[self._altered - self._position] ^= 0xFF
        self._position += len(body)
        self._left -= len(body)
        await self._send({**message, "body": bytes(body)})


class SendWithHeaders:
    """Adds headers to the answer."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self._headers = headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = with_headers(message, self._headers)
        await self._send(message)


if __name__ == "__main__":
    from evokd_data.localhub.__main__ import main

    sys.exit(main(wrap=FaultInjector))
