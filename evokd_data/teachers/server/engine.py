"""An open connection to the servers: prompts in, completions out, with retries and a count of what it costs."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from evokd_data.errors import TeacherError
from evokd_data.records import Completion, Prompt, token_count
from evokd_data.redaction import redact
from evokd_data.registry import nearest
from evokd_data.teachers.logs import single_line
from evokd_data.teachers.reasoning import strip_reasoning
from evokd_data.teachers.scoring import first_tokens
from evokd_data.teachers.server.dialects import Dialect, json_object, listed_models, read_scores, read_too_long
from evokd_data.teachers.server.endpoints import Endpoint, EndpointPool, retry_after

if TYPE_CHECKING:
    import aiohttp

    from evokd_data.teachers.server.plug import Server

MAX_REPLY_BYTES = 64 * 2**20
FIRST_STRUCTURED_OUTPUTS = [0, 12]
"""The first vLLM, major and minor version, whose requests have `structured_outputs`."""


def _text(content: object) -> str:
    """The text in a reply; "" for what is none. Half a surrogate pair, which no file could hold, becomes "?"."""
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    """The body of a reply. Raises OSError when it is larger than MAX_REPLY_BYTES, on the wire or unpacked: a few bytes there can
    fill the memory here."""
    parts, size = [], 0
    async for part in reply.content.iter_any():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise OSError(f"the reply has more than {MAX_REPLY_BYTES} bytes")
        parts.append(part)
    body, encoding = b"".join(parts), reply.headers.get("Content-Encoding", "identity")
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise OSError(f"the reply is compressed as {encoding[:20]!r}, which was not asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        body = unpacker.decompress(body, MAX_REPLY_BYTES)
    except zlib.error as error:
        raise OSError(f"the reply cannot be unpacked ({error})") from None
    if unpacker.unconsumed_tail:
        raise OSError(f"the reply has more than {MAX_REPLY_BYTES} bytes when it is unpacked")
    return body


class ServerEngine:
    """See `teachers.Engine`. `key`: the API key, which is blanked out in all messages; "" when there is none."""

    def __init__(
        self, teacher: Server, session: aiohttp.ClientSession, endpoints: Sequence[Endpoint], key: str, log: TextIO
    ) -> None:
        self._teacher = teacher
        self._session = session
        self._endpoints = EndpointPool(endpoints, teacher.concurrency)
        self._dialect = Dialect(teacher)
        self._key = key
        self._log = log
        self._choice_tokens: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._server_info: dict[str, Any] = {}
        self._requests = self._retries = self._prompt_tokens = self._completion_tokens = 0
        self.window = teacher.concurrency * len(endpoints)

    async def check(self) -> None:
        """Ask every server for its models. Raises TeacherError when one does not answer or lacks the teacher's."""
        model = self._teacher.model
        for endpoint in self._endpoints.endpoints:
            status, raw, _ = await self._send("GET", f"{endpoint.url}/models", None, endpoint)
            if status == 404:  # not every server lists its models
                self._note(f"{endpoint.url} lists no models")
                continue
            models = listed_models(raw)
            if status != 200:
                raise self._refusal(endpoint, status, raw)
            if models and model not in models:
                raise TeacherError(f"teacher.model: {endpoint.url} has no {model!r}{nearest(model, models)}")
            if "max_model_len" in (entry := models.get(model, {})):
                self._server_info["max_model_len"] = token_count(entry["max_model_len"])
            if self._teacher.dialect == "vllm":
                status, raw, _ = await self._send("GET", f"{endpoint.root}/version", None, endpoint)
                if status == 200:
                    self._server_info["vllm"] = version = str(json_object(raw).get("version", ""))[:80]
                    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
                    self._dialect.has_structured_outputs = numbers >= FIRST_STRUCTURED_OUTPUTS
            self._note(f"{endpoint.url} answers; {self._server_info}")

    async def complete(self, prompt: Prompt) -> Completion:
        """See `teachers.Engine`. Tries again on 429, 5xx and lost connections, at another server if there is one."""
        body = self._dialect.body(prompt)
        scored = prompt.constraint is not None and prompt.constraint.score
        tokens = None
        if scored:
            tokens = await self._first_tokens(prompt) if self._dialect.scores_exactly else None
            body |= self._dialect.scoring(tokens)
        reply = await self._ask(prompt, body)
        if isinstance(reply, Completion):
            return reply
        try:
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            text = _text(choice["message"].get("content"))
            reason = choice.get("finish_reason")
            counts = token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return Completion("", "error", 0, 0)
        self._prompt_tokens += counts[0]
        self._completion_tokens += counts[1]
        if not scored:
            text = self._dialect.answer(prompt, strip_reasoning(text, self._teacher.thinking))
            return Completion(text, reason if reason in ("stop", "length") else "error", *counts)
        assert prompt.constraint is not None and prompt.constraint.choices
        scores, drawn = read_scores(prompt.constraint.choices, tokens, choice)
        if not scores:
            return Completion("", "error", *counts)
        return Completion(drawn or max(scores, key=scores.__getitem__), "stop", *counts, scores)

    async def _first_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        assert prompt.constraint is not None and prompt.constraint.choices
        choices = prompt.constraint.choices
        if choices not in self._choice_tokens:
            tokens = []
            for choice in choices:
                body = {"model": self._teacher.model, "prompt": choice, "add_special_tokens": False}
                reply = await self._ask(prompt, body, tokenize=True)
                ids = reply.get("tokens") if isinstance(reply, dict) else None
                tokens.append([token for token in ids if isinstance(token, int)] if isinstance(ids, list) else [])
            self._choice_tokens[choices] = first_tokens(choices, tokens)
        return self._choice_tokens[choices]

    async def _ask(self, prompt: Prompt, body: dict[str, Any], tokenize: bool = False) -> dict[str, Any] | Completion:
        """The server's reply; a completion "too_long" when the prompt does not fit.

        Raises TeacherError when the server refuses the request, or when all tries failed.
        """
        payload = orjson.dumps(body)
        failure = ""
        for attempt in range(self._teacher.retries + 1):
            endpoint = await self._endpoints.acquire()
            try:
                url = f"{endpoint.root}/tokenize" if tokenize else f"{endpoint.url}/chat/completions"
                status, raw, retry_after_s = await self._send("POST", url, payload, endpoint)
            finally:
                self._endpoints.release(endpoint)
            if status == 200 and (reply := json_object(raw)):
                endpoint.failures = 0
                self._requests += 1
                return reply
            if status not in (0, 200, 408, 409, 425, 429) and status < 500:
                too_long = read_too_long(status, self._message(raw))
                if too_long is None:
                    raise self._refusal(endpoint, status, raw, prompt.key)
                if 0 < too_long.room < body.get("max_tokens", 0):  # the prompt fits, only the answer does not
                    return await self._ask(prompt, {**body, "max_tokens": too_long.room})
                return Completion("", "too_long", too_long.prompt_tokens, 0)
            self._retries += 1
            backoff_s = self._endpoints.back_off(endpoint, attempt, status, retry_after_s)
            failure = f"{status or 'no answer'}: {self._message(raw)}"
            self._note(f"{prompt.key} {endpoint.url} {failure}; again in {backoff_s:.1f} s")
        raise TeacherError(
            f"teacher.urls: {prompt.key} failed {self._teacher.retries + 1} times, at last at {endpoint.url} with {failure}"
        )

    async def _send(
        self, method: str, url: str, payload: bytes | None, endpoint: Endpoint
    ) -> tuple[int, bytes, float | None]:
        """Status (0 when there was no answer), body, and the seconds the server wants to be left alone.

        Raises TeacherError when a GET is not answered: those are sent at the start only.
        """
        import aiohttp

        try:
            # A redirect is not followed: it would send the prompts, and the key, to a host that the user did not name.
            async with self._session.request(method, url, data=payload, allow_redirects=False) as reply:
                return reply.status, await _read(reply), retry_after(reply.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"{type(error).__name__} {error}".strip()
            if method == "GET":
                raise TeacherError(
                    f"teacher.urls: nothing answers at {endpoint.url} ({self._message(message.encode())}); "
                    f"start the server, e.g. vllm serve {self._teacher.model}"
                ) from None
            return 0, message.encode(), None

    def _refusal(self, endpoint: Endpoint, status: int, raw: bytes, key: str = "") -> TeacherError:
        if status in (401, 403):
            variable = self._teacher.api_key_env
            hint = (
                f"it does not take the key in {variable}"
                if variable
                else "it wants a key: name its variable in api_key_env"
            )
            return TeacherError(f"teacher.urls: {endpoint.url} answers {status}: {hint}")
        verb = f"refused {key}" if key else "answers"
        return TeacherError(f"teacher.urls: {endpoint.url} {verb}: {status} {self._message(raw)}")

    def _message(self, raw: bytes) -> str:
        """The error message in a reply, on one short line, without the API key in case the server repeats it."""
        error = json_object(raw).get("error")
        message = error.get("message", error) if isinstance(error, dict) else error
        text = str(message) if message else raw.decode("utf-8", errors="replace")
        return single_line(redact(text, self._key))

    def _note(self, line: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=self._log)

    async def sleep(self) -> None:
        """Does nothing: the accelerator is the server's."""

    async def wake(self) -> None:
        """Does nothing; see `sleep`."""

    def environment(self) -> Mapping[str, Any]:
        """Includes the requests and tokens since the engine opened, and their cost when the recipe gives prices."""
        teacher = self._teacher
        environment: dict[str, Any] = {
            "engine": "server",
            "dialect": teacher.dialect,
            "servers": len(self._endpoints.endpoints),
            "window": self.window,
            **self._server_info,
            "requests": self._requests,
            "retries": self._retries,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
        }
        prices = teacher.prompt_usd_per_million, teacher.completion_usd_per_million
        if any(price is not None for price in prices):
            counts = self._prompt_tokens, self._completion_tokens
            cost = sum((price or 0.0) * count for price, count in zip(prices, counts, strict=True)) / 1e6
            environment["cost_usd"] = round(cost, 6)
        return environment
