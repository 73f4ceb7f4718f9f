"""The teacher behind HTTP: any server that speaks OpenAI's chat completions, such as `vllm serve` and SGLang.

    teacher:
      engine: server
      urls: [http://gpu-1:8000/v1, http://gpu-2:8000/v1]
      model: Qwen/Qwen3-8B
      api_key_env: TEACHER_KEY          # the name of a variable, never the key

The key is read when the teacher opens and goes into one header; no message and no log holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import os
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TextIO
from urllib.parse import urlsplit

import orjson
from pydantic import Field

from evokd_data.errors import TeacherError
from evokd_data.models import ModelReference
from evokd_data.records import Completion, Prompt
from evokd_data.registry import nearest
from evokd_data.settings import NOT_IDENTITY, Count, identity
from evokd_data.teachers import Teacher
from evokd_data.teachers.answers import without_thoughts
from evokd_data.teachers.scoring import first_tokens, renormalised

if TYPE_CHECKING:
    import aiohttp

Dollars = Annotated[float, Field(ge=0)]

TOP_LOGPROBS = 20  # what servers commonly allow
LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 300.0
TOO_LONG = re.compile(
    r"context[ _](length|window)|maximum (model )?length|too many tokens|prompt is too long", re.IGNORECASE
)
LIMIT = re.compile(r"maximum (?:context|model) length (?:is|of) (\d+)", re.IGNORECASE)
ASKED = re.compile(r"(\d+) (?:input tokens|in the messages|prompt tokens)", re.IGNORECASE)


@dataclass(frozen=True)
class Server(Teacher):
    """`urls` are base URLs ending in /v1; requests go to the least busy one, at most `concurrency` to each.

    `dialect` decides how constraints are asked for. "openai": `response_format` only, no grammars. "vllm" also scores
    choices exactly; the others return 20 log-probabilities, and a choice that is not among them gets the last of these,
    which is more than it has. `revision` cannot be checked: it is what you know the server to run. Without a price per
    million tokens no cost is counted. `extra_body` is added to every request.
    """

    name: ClassVar[str] = "server"

    model: Annotated[str, Field(min_length=1)]
    urls: Annotated[tuple[str, ...], Field(min_length=1)] = field(metadata=NOT_IDENTITY)
    revision: str | None = None
    dialect: Literal["openai", "vllm", "sglang"] = "vllm"
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Count = 512
    thinking: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    api_key_env: str | None = field(default=None, metadata=NOT_IDENTITY)
    concurrency: Count = field(default=256, metadata=NOT_IDENTITY)
    timeout_s: Annotated[float, Field(gt=0)] = field(default=600.0, metadata=NOT_IDENTITY)
    retries: Annotated[int, Field(ge=0)] = field(default=8, metadata=NOT_IDENTITY)
    prompt_usd_per_million: Dollars | None = field(default=None, metadata=NOT_IDENTITY)
    completion_usd_per_million: Dollars | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"urls: {url!r} is no http(s) address; write it as http://host:8000/v1")
            if parts.username or parts.password:
                raise ValueError("urls: a key has no place in an address; name its variable in api_key_env")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
            # The value is not repeated: it may be the key itself.
            raise ValueError("api_key_env: is the name of an environment variable, not a key")
        for key in ("messages", "model", "seed", "stream"):
            if key in self.extra_body:
                raise ValueError(f"extra_body.{key}: is ours to set")

    @property
    def base_model(self) -> ModelReference:
        return ModelReference(self.model, self.revision)

    def identity(self) -> Mapping[str, Any]:
        return identity(self)

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[ServerEngine]:
        """Asks every server for its models first. Raises TeacherError when one does not answer or lacks the model."""
        import aiohttp

        headers = {"Content-Type": "application/json"}
        key = ""
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env, "")
            if not key:
                raise TeacherError(f"teacher.api_key_env: the variable {self.api_key_env} is not set; export it")
            headers["Authorization"] = f"Bearer {key}"
        with log.open("a", encoding="utf-8", buffering=1) as file:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=self.timeout_s, connect=30),
                headers=headers,
                auto_decompress=True,
            ) as session:
                engine = ServerEngine(self, session, [_Place(_base(url)) for url in self.urls], key, file)
                await engine.check()
                yield engine


def _base(url: str) -> str:
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


@dataclass(eq=False)
class _Place:
    """One server: how many requests it has from us, and until when it is left alone (on the loop's clock)."""

    url: str
    busy: int = 0
    rest_until: float = 0.0
    failures: int = 0

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")


class ServerEngine:
    """See `teachers.Engine`."""

    def __init__(
        self, teacher: Server, session: aiohttp.ClientSession, places: list[_Place], key: str, log: TextIO
    ) -> None:
        self._teacher = teacher
        self._session = session
        self._places = places
        self._key = key
        self._log = log
        self._freed = asyncio.Event()
        self._codes: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._told: dict[str, Any] = {}
        self._requests = self._retries = self._prompt_tokens = self._completion_tokens = 0
        self._old_names = False
        self.window = teacher.concurrency * len(places)

    async def check(self) -> None:
        """Every server answers and has the model. Raises TeacherError."""
        for place in self._places:
            status, raw, _ = await self._once("GET", f"{place.url}/models", None, place)
            if status == 404:  # not every server lists its models
                self._note(f"{place.url} lists no models")
                continue
            models = {str(model.get("id")): model for model in _listed(raw)}
            if status != 200:
                raise self._refused(place, status, raw)
            if models and self._teacher.model not in models:
                raise TeacherError(
                    f"teacher.model: {place.url} has no {self._teacher.model!r}{nearest(self._teacher.model, models)}"
                )
            if "max_model_len" in (shown := models.get(self._teacher.model, {})):
                self._told["max_model_len"] = shown["max_model_len"]
            if self._teacher.dialect == "vllm":
                status, raw, _ = await self._once("GET", f"{place.root}/version", None, place)
                if status == 200:
                    self._told["vllm"] = version = str(_object(raw).get("version", ""))
                    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
                    self._old_names = numbers < [0, 12]
            self._note(f"{place.url} answers; {self._told}")

    async def complete(self, prompt: Prompt) -> Completion:
        """See `teachers.Engine`. Tries again, elsewhere when there is an elsewhere, on 429, 5xx and lost connections."""
        body = self._body(prompt)
        scored = prompt.constraint is not None and prompt.constraint.score
        if scored:
            body |= await self._scoring(prompt)
        reply = await self._ask(prompt, body)
        if isinstance(reply, Completion):
            return reply
        try:
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            text = choice["message"].get("content") or ""
            reason = choice.get("finish_reason")
            asked, answered = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return Completion("", "error", 0, 0)
        self._prompt_tokens += asked
        self._completion_tokens += answered
        text = without_thoughts(text, self._teacher.thinking)
        reason = reason if reason in ("stop", "length") else "error"
        if not scored:
            return Completion(self._unwrapped(prompt, text), reason, asked, answered)
        scores, drawn = self._scores(prompt, choice)
        if not scores:
            return Completion("", "error", asked, answered)
        return Completion(drawn or max(scores, key=scores.__getitem__), "stop", asked, answered, scores)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        teacher, sampling = self._teacher, prompt.sampling
        body: dict[str, Any] = {
            "model": teacher.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": prompt.seed,
        }
        if teacher.dialect != "openai":
            body["chat_template_kwargs"] = {"enable_thinking": teacher.thinking}
        if prompt.constraint is not None and not prompt.constraint.score:
            body |= self._constrained(prompt)
        return body | dict(teacher.extra_body)

    def _constrained(self, prompt: Prompt) -> dict[str, Any]:
        constraint, dialect = prompt.constraint, self._teacher.dialect
        assert constraint is not None
        schema, choices, grammar = constraint.json_schema, constraint.choices, constraint.grammar
        if dialect == "vllm":
            kind, value = (
                ("json", dict(schema))
                if schema is not None
                else ("choice", list(choices))
                if choices is not None
                else ("grammar", grammar)
            )
            return {f"guided_{kind}": value} if self._old_names else {"structured_outputs": {kind: value}}
        if dialect == "sglang" and choices is not None:
            return {"regex": f"({'|'.join(map(re.escape, choices))})"}
        if dialect == "sglang" and grammar is not None:
            return {"ebnf": grammar}
        if grammar is not None:
            raise TeacherError(f"{prompt.key}: the dialect 'openai' has no grammars; use vllm or sglang")
        if choices is not None:
            schema = _wrapped(choices)
        assert schema is not None
        named = {"name": "answer", "schema": dict(schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    def _unwrapped(self, prompt: Prompt, text: str) -> str:
        """A choice that had to be asked for as JSON; whatever else came back stays as it is, for the task to refuse."""
        if self._teacher.dialect != "openai" or prompt.constraint is None or prompt.constraint.choices is None:
            return text
        answer = _object(text.encode()).get("answer")
        return answer if isinstance(answer, str) else text

    async def _scoring(self, prompt: Prompt) -> dict[str, Any]:
        assert prompt.constraint is not None and prompt.constraint.choices
        choices = prompt.constraint.choices
        if self._teacher.dialect != "vllm" or self._old_names:
            return {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if choices not in self._codes:
            self._codes[choices] = await self._first_tokens(prompt, choices)
        codes = list(self._codes[choices])
        return {
            "max_tokens": 1,
            "allowed_token_ids": codes,
            "logprobs": True,
            "logprob_token_ids": codes,
            "return_tokens_as_token_ids": True,
        }

    async def _first_tokens(self, prompt: Prompt, choices: Sequence[str]) -> tuple[int, ...]:
        tokens = []
        for choice in choices:
            body = {"model": self._teacher.model, "prompt": choice, "add_special_tokens": False}
            reply = await self._ask(prompt, body, tokenize=True)
            tokens.append([int(token) for token in (reply.get("tokens") if isinstance(reply, dict) else None) or ()])
        return first_tokens(choices, tokens)

    def _scores(self, prompt: Prompt, choice: Mapping[str, Any]) -> tuple[dict[str, float], str]:
        """Log-probabilities of the choices, renormalised, and the choice that was drawn; empty when none was sent."""
        assert prompt.constraint is not None and prompt.constraint.choices
        choices = prompt.constraint.choices
        codes = self._codes.get(choices)
        tokens = [f"token_id:{code}" for code in codes] if codes else list(choices)
        try:
            first = choice["logprobs"]["content"][0]
            sent = {str(entry["token"]): float(entry["logprob"]) for entry in [*first["top_logprobs"], first]}
        except (KeyError, IndexError, TypeError, ValueError):
            return {}, ""
        if not sent.keys() & set(tokens):
            return {}, ""
        least = min(sent.values())
        scores = renormalised(choices, [sent.get(token, least) for token in tokens])
        drawn = choices[tokens.index(first["token"])] if first["token"] in tokens else ""
        return scores, drawn

    async def _ask(self, prompt: Prompt, body: dict[str, Any], tokenize: bool = False) -> dict[str, Any] | Completion:
        """The server's answer, or the completion that stands for a prompt that does not fit."""
        payload = orjson.dumps(body)
        last = ""
        for attempt in range(self._teacher.retries + 1):
            place = self._free_place(asyncio.get_running_loop().time()) or await self._freed_place()
            place.busy += 1
            try:
                url = f"{place.root}/tokenize" if tokenize else f"{place.url}/chat/completions"
                status, raw, wait = await self._once("POST", url, payload, place)
            finally:
                place.busy -= 1
                self._freed.set()
            if status == 200 and (reply := _object(raw)):
                place.failures = 0
                self._requests += 1
                return reply
            if status not in (0, 200, 408, 409, 425, 429) and status < 500:
                said = self._hidden(raw)
                if status in (400, 413, 422) and TOO_LONG.search(said):
                    limit, asked = LIMIT.search(said), ASKED.search(said)
                    room = int(limit[1]) - int(asked[1]) if limit and asked else 0
                    if 0 < room < body.get("max_tokens", 0):  # it is the answer that does not fit
                        return await self._ask(prompt, {**body, "max_tokens": room})
                    return Completion("", "too_long", int(asked[1]) if asked else 0, 0)
                raise self._refused(place, status, raw, prompt.key)
            self._retries += 1
            place.failures += 1
            if wait is None:
                wait = min(0.5 * 2 ** min(place.failures - 1, attempt), LONGEST_WAIT_S) if attempt or status else 0.0
            place.rest_until = max(place.rest_until, asyncio.get_running_loop().time() + wait)
            last = f"{status or 'no answer'}: {self._hidden(raw)}"
            self._note(f"{prompt.key} {place.url} {last}; again in {wait:.1f} s")
        raise TeacherError(
            f"teacher.urls: {prompt.key} failed {self._teacher.retries + 1} times, at last at {place.url} with {last}"
        )

    def _free_place(self, now: float) -> _Place | None:
        """The least busy server that may be asked, on the loop's clock."""
        found = None
        for place in self._places:
            if place.busy < (found.busy if found else self._teacher.concurrency) and place.rest_until <= now:
                found = place
        return found

    async def _freed_place(self) -> _Place:
        clock = asyncio.get_running_loop().time
        while (place := self._free_place(now := clock())) is None:
            self._freed.clear()
            # A request's end is what frees a server; where all rest, so does the end of the shortest rest.
            rest = min(each.rest_until for each in self._places) - now
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), rest if rest > 0 else None)
        return place

    async def _once(
        self, method: str, url: str, payload: bytes | None, place: _Place
    ) -> tuple[int, bytes, float | None]:
        """Status (0 when there was no answer), body, and the wait the server asks for in seconds."""
        import aiohttp

        try:
            async with self._session.request(method, url, data=payload) as reply:
                return reply.status, await reply.read(), _retry_after(reply.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = f"{type(error).__name__} {error}".strip()
            if method == "GET":
                raise TeacherError(
                    f"teacher.urls: nothing answers at {place.url} ({self._hidden(said.encode())}); start the server, "
                    f"e.g. vllm serve {self._teacher.model}"
                ) from None
            return 0, said.encode(), None

    def _refused(self, place: _Place, status: int, raw: bytes, key: str = "") -> TeacherError:
        if status in (401, 403):
            named = self._teacher.api_key_env
            hint = (
                f"it does not take the key in {named}" if named else "it wants a key: name its variable in api_key_env"
            )
            return TeacherError(f"teacher.urls: {place.url} answers {status}: {hint}")
        what = f"refused {key}" if key else "answers"
        return TeacherError(f"teacher.urls: {place.url} {what}: {status} {self._hidden(raw)}")

    def _hidden(self, raw: bytes) -> str:
        """A server's words in one short line, without the key should it repeat it."""
        error = _object(raw).get("error")
        said = error.get("message", error) if isinstance(error, dict) else error
        text = " ".join((str(said) if said else raw.decode("utf-8", errors="replace")).split())
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= 300 else text[:297] + "..."

    def _note(self, line: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=self._log)

    async def sleep(self) -> None:
        """The server's accelerator is its own."""

    async def wake(self) -> None:
        """See `sleep`."""

    def environment(self) -> Mapping[str, Any]:
        """With what this engine has asked for since it opened, and its price when prices are set."""
        teacher = self._teacher
        told: dict[str, Any] = {
            "engine": "server",
            "dialect": teacher.dialect,
            "servers": len(self._places),
            "window": self.window,
            **self._told,
            "requests": self._requests,
            "retries": self._retries,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
        }
        prices = teacher.prompt_usd_per_million, teacher.completion_usd_per_million
        if any(price is not None for price in prices):
            counts = self._prompt_tokens, self._completion_tokens
            told["cost_usd"] = round(sum((price or 0.0) * n for price, n in zip(prices, counts, strict=True)) / 1e6, 6)
        return told


def _wrapped(choices: Sequence[str]) -> dict[str, Any]:
    """OpenAI's schemas are objects."""
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _listed(raw: bytes) -> list[dict[str, Any]]:
    data = _object(raw).get("data")
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number of them or a date."""
    if not value:
        return None
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(wait) else None
