"""Faults on purpose, counted and repeatable, for testing clients. Off unless a server is started with `--faults`.

Rules are a JSON list; the first that fires for a request decides. A rule:

    {"match": "POST /api/datasets/.*/commit/",   regex searched in "METHOD path" (raw path, no query)
     "status": 503,                              answer this ...
     "when": "before" | "after",                 ... instead of (default) or after doing the work
     "drop": "before" | "during" | "after",      or cut the connection: nothing done; half of the answer's body sent;
                                                 everything done and nothing answered
     "body": "truncate" | "alter",               or halve the body (a well-formed answer), or change one byte of it
     "delay_s": 0.5, "headers": {"Retry-After": "1"}, "message": "...",
     "times": 2,                                 fire at most so often (default: always)
     "skip": 1,                                  let this many matching requests pass first
     "probability": 0.3, "seed": 7}              fire by chance, the same chances for the same seed

A rule with only `delay_s` or `headers` lets the request through, later or with those headers added.
`GET /_faults` tells how often each rule matched (`seen`) and fired, `POST /_faults` replaces the rules and starts
counting anew. Both need an administrator once the Hub has tokens.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from evokd_data.localhub.wire import Message, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
_CHOICES = {"drop": ("before", "during", "after"), "when": ("before", "after"), "body": ("truncate", "alter")}


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
        for key, allowed in _CHOICES.items():
            value = getattr(self, key)
            if value is not None and value not in allowed:
                raise ValueError(f"{key}: {value!r} is none of {', '.join(allowed)}")
        if sum(part is not None for part in (self.status, self.drop, self.body)) > 1:
            raise ValueError("a rule has one of status, drop and body")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status: {self.status} is no final HTTP status")


class _Armed:
    """A rule with its counts."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.chances = random.Random(rule.seed)
        self.seen = self.fired = 0

    def fires(self, line: str) -> bool:
        if not re.search(self.rule.match, line):
            return False
        self.seen += 1
        if self.seen <= self.rule.skip or (self.rule.times is not None and self.fired >= self.rule.times):
            return False
        if self.rule.probability < 1 and self.chances.random() >= self.rule.probability:
            return False
        self.fired += 1
        return True


class FaultPlan:
    """The rules of one server process. Lives on the event loop, so its counts need no lock."""

    def __init__(self, rules: list[Rule], cut: Callable[[Any, bool], None]) -> None:
        """`cut(client, at_once)` closes the connection of that peer, discarding what is unsent if `at_once`."""
        self._cut = cut
        self.replace(rules)

    def replace(self, rules: list[Rule]) -> None:
        self._armed = [_Armed(rule) for rule in rules]
        self._requests = 0

    def report(self) -> dict[str, Any]:
        rows = [{**asdict(armed.rule), "seen": armed.seen, "fired": armed.fired} for armed in self._armed]
        return {"requests": self._requests, "rules": rows}

    async def __call__(self, scope: Scope, receive: Receive, send: Send, inner: Application) -> None:
        line = f"{scope['method']} {scope['raw_path'].decode('latin-1')}"
        self._requests += 1
        armed = next((each for each in self._armed if each.fires(line)), None)
        if armed is None:
            await inner(scope, receive, send)
            return
        rule = armed.rule
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        client = scope["client"]
        if rule.drop == "before" or (rule.status is not None and rule.when == "before"):
            await _drain(receive)
        elif rule.drop == "during":
            await inner(scope, receive, _Half(send, lambda: self._cut(client, False)))
        elif rule.drop == "after" or rule.status is not None:
            await inner(scope, receive, _swallow)
        elif rule.body is not None:
            await inner(scope, receive, _Damage(send, rule, armed.fired))
        else:
            await inner(scope, receive, _AddHeaders(send, rule.headers))
        if rule.drop in ("before", "after"):
            self._cut(client, True)
        if rule.drop is not None:
            await _until_gone(receive)
        elif rule.status is not None:
            await _answer(send, rule)


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


async def _until_gone(receive: Receive) -> None:
    """Wait for the server to notice the cut, so that it does not report a missing answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _swallow(message: Message) -> None:
    pass


async def _answer(send: Send, rule: Rule) -> None:
    from evokd_data.localhub.errors import HubError
    from evokd_data.localhub.wire import error_reply, send_reply

    assert rule.status is not None
    await send_reply(error_reply(HubError(rule.status, rule.message, headers=rule.headers)), send, head=False)


def _length(start: Message) -> int:
    return next((int(value) for key, value in start["headers"] if key == b"content-length"), 0)


def _with_headers(start: Message, headers: dict[str, str]) -> Message:
    new = {key.lower().encode("latin-1"): value.encode("latin-1") for key, value in headers.items()}
    kept = [(key, value) for key, value in start["headers"] if key not in new]
    return {**start, "headers": [*kept, *new.items()]}


class _Half:
    """Passes the head and half of the body on, then cuts the connection. Without a body it cuts before the head."""

    def __init__(self, send: Send, cut: Callable[[], None]) -> None:
        self._send = send
        self._cut = cut
        self._left = 0
        self._done = False

    async def __call__(self, message: Message) -> None:
        if self._done:
            return
        if message["type"] == "http.response.start":
            total = _length(message)
            self._left = total // 2
            if total:
                await self._send(message)
        else:
            body = message.get("body", b"")[: self._left]
            self._left -= len(body)
            if body:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            if not self._left:
                self._done = True
                self._cut()


class _Damage:
    """Halves the body or changes one byte of it; the answer stays well-formed, so only a digest can tell."""

    def __init__(self, send: Send, rule: Rule, nth: int) -> None:
        self._send = send
        self._rule = rule
        self._chances = random.Random(rule.seed + nth)
        self._at = self._position = self._left = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            total = _length(message)
            self._at = self._chances.randrange(total) if total else -1
            self._left = total // 2 if self._rule.body == "truncate" else total
            await self._send(_with_headers(message, {**self._rule.headers, "content-length": str(self._left)}))
            return
        body = bytearray(message.get("body", b"")[: self._left])
        if self._rule.body == "alter" and self._position <= self._at < self._position + len(body):
            body[self._at - self._position] ^= 0xFF
        self._position += len(body)
        self._left -= len(body)
        await self._send({**message, "body": bytes(body)})


class _AddHeaders:
    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self._headers = headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = _with_headers(message, self._headers)
        await self._send(message)


def parse_rules(value: Any) -> list[Rule]:
    """Rules from JSON. Raises ValueError that names the rule and what is wrong with it."""
    rows = value.get("rules") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise ValueError("fault rules must be a list")
    rules = []
    for number, row in enumerate(rows):
        try:
            counts = ("seen", "fired")  # so that a report can be sent back
            rules.append(Rule(**{key: item for key, item in row.items() if key not in counts}))
        except (TypeError, AttributeError, ValueError, re.error) as exc:
            raise ValueError(f"fault rule {number}: {exc}") from None
    return rules
