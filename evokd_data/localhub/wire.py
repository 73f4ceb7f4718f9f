"""Requests and replies as handlers see them, and how they are read from ASGI and written to it.

Handlers are plain functions that run in threads, so that work on git and the disk never blocks the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qsl

from evokd_data.localhub.auth import Identity
from evokd_data.localhub.buffered_body import IN_MEMORY, BufferedBody
from evokd_data.localhub.errors import HubError, bad_request
from evokd_data.localhub.names import RepoId

if TYPE_CHECKING:
    from evokd_data.localhub.app import Hub

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_BLOCK = 1024 * 1024


@dataclass
class Call:
    """One request. `args` are the parts of the path that the route names, each decoded after the path was split."""

    hub: Hub
    method: str
    args: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    endpoint: str  # as the client wrote it, so that the links in replies work for this client
    caller: Identity
    body: BufferedBody
    claim: dict[str, Any] = field(default_factory=dict)

    @property
    def repo_id(self) -> RepoId:
        """The repository that the path names."""
        return RepoId(self.args["kind"], self.args["ns"], self.args["name"])

    @property
    def author(self) -> bytes:
        """The caller as the author of a commit."""
        user = self.caller.user or "anonymous"
        return f"{user} <{user}@localhub.invalid>".encode()

    def flag(self, name: str) -> bool:
        """Whether the query sets this flag."""
        return self.query.get(name, "").lower() in ("1", "true", "yes")

    def json(self) -> dict[str, Any]:
        """The JSON object in the body; an empty body is an empty object. Raises HubError 400."""
        raw = self.body.read()
        try:
            value = json.loads(raw) if raw else {}
        except (ValueError, RecursionError):
            raise bad_request("the request body is not JSON") from None
        if not isinstance(value, dict):
            raise bad_request("the request body must be a JSON object")
        return value

    def form(self) -> list[tuple[str, str]]:
        """The names and values of the form in the body, in order. Raises HubError 400."""
        try:
            return parse_qsl(self.body.read().decode(), keep_blank_values=True, max_num_fields=10_000)
        except ValueError:
            raise bad_request("the request body is not a form") from None


@dataclass
class Reply:
    """An answer. With `file`, the body is its `span` (first byte, byte after the last), read while it is sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | BinaryIO | None = None
    span: tuple[int, int] = (0, 0)

    @property
    def length(self) -> int:
        """The bytes of the body."""
        return self.span[1] - self.span[0] if self.file is not None else len(self.body)


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """An answer with a JSON value. Raises ValueError for NaN and infinities."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogateescape")
    return Reply(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})


def error_reply(error: HubError) -> Reply:
    """The answer that tells a client of the error: in headers for `huggingface_hub`, in the body for people."""
    headers = {"X-Error-Message": _header_text(error.message), **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return json_reply({"error": error.message, **error.fields}, error.status, headers)


def _header_text(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:500].strip()


class ClientGone(Exception):
    """The client closed the connection."""


class BodyStream:
    """The body of a request while it arrives. After `pause_s` seconds without a byte the request fails with 408."""

    def __init__(self, receive: Receive, pause_s: float) -> None:
        self._receive = receive
        self._pause_s = pause_s
        self._complete = False

    async def into(self, body: BufferedBody) -> None:
        """Write the whole body into `body`. Raises what `body.write` raises, HubError 408, and ClientGone."""
        buffered = bytearray()
        while not self._complete:
            buffered += await self._next()
            if len(buffered) >= _BLOCK:
                await asyncio.to_thread(body.write, bytes(buffered))
                buffered.clear()
        if body.size + len(buffered) > IN_MEMORY:
            await asyncio.to_thread(body.write, bytes(buffered))
        else:
            body.write(bytes(buffered))

    async def drain(self) -> bool:
        """Read and drop what is left of a body, up to `IN_MEMORY` bytes; False if more is left.

        A client that is still sending might miss the answer, and a connection with unread bytes serves no other request.
        """
        size = 0
        try:
            while not self._complete and size <= IN_MEMORY:
                size += len(await self._next())
        except (HubError, ClientGone):
            return False
        return self._complete

    async def _next(self) -> bytes:
        try:
            message = await asyncio.wait_for(self._receive(), self._pause_s)
        except TimeoutError:
            self._pause_s = 0.1  # `drain` must not wait as long again
            raise HubError(408, "The request body stopped arriving") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._complete = not message.get("more_body", False)
        return message.get("body", b"")


async def send_reply(reply: Reply, send: Send, *, head: bool) -> int:
    """Send the answer, without its body if `head`. Returns the bytes of the body that were sent."""
    headers = {"Content-Length": str(reply.length), "X-Content-Type-Options": "nosniff", **reply.headers}
    raw = [(key.lower().encode("latin-1"), value.encode("latin-1", "replace")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if head or reply.file is None:
        await send({"type": "http.response.body", "body": b"" if head else reply.body})
        return 0 if head else len(reply.body)
    handle = await asyncio.to_thread(_open, reply)
    try:
        left = reply.length
        while left > 0:
            block = await asyncio.to_thread(handle.read, min(_BLOCK, left))
            if not block:
                break  # the file shrank meanwhile: the client sees that the body is shorter than its length
            left -= len(block)
            await send({"type": "http.response.body", "body": block, "more_body": left > 0})
        if reply.length == 0:
            await send({"type": "http.response.body", "body": b""})
    finally:
        handle.close()
    return reply.length - left


def _open(reply: Reply) -> BinaryIO:
    assert reply.file is not None
    handle = reply.file.open("rb") if isinstance(reply.file, Path) else reply.file
    handle.seek(reply.span[0])
    return handle
