"""An open connection to the servers: prompts in, completions out, with retries and a count of tokens."""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import orjson

from evokd_data.errors import TeacherError
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling, refused, token_count
from evokd_data.redaction import redact
from evokd_data.registry import nearest
from evokd_data.teachers.answers import read_answer
from evokd_data.teachers.control_tokens import SPELLED, neutralised, restored
from evokd_data.teachers.logs import single_line
from evokd_data.teachers.scoring import first_tokens
from evokd_data.teachers.server.adaptation import Adaptation
from evokd_data.teachers.server.dialects import DIALECTS, Body, Dialect, body_of, limit_of, with_limit
from evokd_data.teachers.server.endpoints import Endpoint, EndpointPool, retry_after
from evokd_data.teachers.server.replies import (
    Answer,
    ServerError,
    json_object,
    listed_models,
    read_error,
    read_reply,
    read_scores,
    read_token_logprobs,
    read_too_long,
)

if TYPE_CHECKING:
    import aiohttp

    from evokd_data.teachers.server.plug import Server

log = logging.getLogger(__name__)
Reading = TypeVar("Reading")

MAX_REPLY_BYTES = 64 * 2**20
FIRST_STRUCTURED_OUTPUTS = [0, 12]
"""The first vLLM, major and minor version, whose requests have `structured_outputs`."""
PASSING = (0, 408, 409, 425, 429)
"""Statuses below 500 with which a request is tried again; 0: no answer."""
MAX_TIMEOUTS = 2
"""After as many the server is asked something else: each takes `timeout_s`."""
ENOUGH_WITHOUT_SCORES = 16
"""After as many replies without log-probabilities, and none with them, no more are asked for."""
ONE_PROMPT = (400, 413, 422, 451)
"""Statuses that are about one prompt, unless the message is about the account or the model; 403 may be."""
WHOLE_SERVER = re.compile(
    r"api[ _-]?key|(?:unknown|no such) model|model .{0,80}(?:not found|not exist)|billing|quota|credit balance",
    re.IGNORECASE,
)


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
    """See `teachers.Engine`. `key`: the API key, which is blanked out in all messages; "" when there is none.

    What one prompt alone causes is a refused completion; what the servers cause is a TeacherError.
    """

    def __init__(
        self, teacher: Server, session: aiohttp.ClientSession, endpoints: Sequence[Endpoint], key: str, log: TextIO
    ) -> None:
        self._teacher = teacher
        self._session = session
        self._endpoints = EndpointPool(endpoints, teacher.concurrency)
        self._dialect: Dialect = DIALECTS[teacher.dialect]
        self._adaptation = Adaptation()
        self._key = key
        self._log = log
        self._choice_tokens: dict[tuple[str, ...], tuple[int, ...] | None] = {}
        self._noted: set[str] = set()
        self._scored = self._without_scores = 0
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
                raise self._fault(endpoint, ServerError(status, self._message(raw)))
            if (
                models and model not in models and f"{model}:latest" not in models
            ):  # Ollama's name for a model without a tag
                raise TeacherError(f"teacher.model: {endpoint.url} has no {model!r}{nearest(model, models)}")
            if "max_model_len" in (entry := models.get(model, {})):
                self._server_info["max_model_len"] = token_count(entry["max_model_len"])
            if self._teacher.dialect == "vllm":
                status, raw, _ = await self._send("GET", f"{endpoint.root}/version", None, endpoint)
                if status == 200:
                    self._server_info["vllm"] = version = str(json_object(raw).get("version", ""))[:80]
                    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
                    self._dialect = DIALECTS["vllm" if numbers >= FIRST_STRUCTURED_OUTPUTS else "vllm before 0.12"]
            await self._look_at_template(endpoint)
            self._note(f"{endpoint.url} answers; {self._server_info}")

    async def _look_at_template(self, endpoint: Endpoint) -> None:
        """Whether the model's chat template has a system role, where the server shows what it makes of a chat.

        Elsewhere a template that refuses one says so, and one that drops it goes unnoticed.
        """
        if not self._dialect.renders:
            return
        chat = [{"role": "system", "content": "be brief, 7341"}, {"role": "user", "content": "?"}]
        rendered = []
        for messages in (chat, chat[1:]):
            payload = orjson.dumps({"model": self._teacher.model, "messages": messages})
            status, raw, _ = await self._send("POST", f"{endpoint.root}{self._dialect.renders}", payload, endpoint)
            body = json_object(raw)
            rendered.append((status, body.get("prompt") or body.get("tokens")))
        (status_with_role, with_role), (status, without_role) = rendered
        dropped = status_with_role == 200 and with_role == without_role
        if status == 200 and without_role and (dropped or status_with_role in (400, 500)):
            self._adaptation.folds_system = True
            self._note(f"{endpoint.url}: the chat template has no system role")

    async def complete(self, prompt: Prompt) -> Completion:
        """See `teachers.Engine`. Tries again on 429, 5xx and lost connections, at another server if there is one."""
        self._note_control_tokens(prompt)
        scored = prompt.constraint is not None and prompt.constraint.score
        if scored and prompt.constraint is not None and prompt.constraint.choices is not None:
            completion = await self._complete_with_scores(prompt, prompt.constraint.choices)
            if completion is not None:
                return completion
            scored, prompt = False, replace(prompt, constraint=Constraint(choices=prompt.constraint.choices))
        answer = await self._ask(prompt, body_of(self._dialect, self._teacher, prompt))
        if isinstance(answer, Completion):
            return answer
        thinking = self._teacher.thinking
        text = read_answer(restored(answer.text), prompt.constraint, thinking)
        return answer.completion(text, read_token_logprobs(text, answer.choice) if scored else None)

    async def _complete_with_scores(self, prompt: Prompt, choices: tuple[str, ...]) -> Completion | None:
        """The choice drawn, with the probability of each; None where the server gives none for these choices."""
        if not self._scored and self._without_scores >= ENOUGH_WITHOUT_SCORES:
            return None
        tokens = None
        if self._dialect.exact_scores:
            tokens = await self._first_tokens(prompt, choices)
        if tokens is None and (self._dialect.exact_scores or len({choice[:1] for choice in choices}) < len(choices)):
            self._note_once(f"no scores of {', '.join(choices)[:80]}: two of them can begin with the same token")
            return None
        answer = await self._ask(prompt, body_of(self._dialect, self._teacher, prompt, tokens))
        if isinstance(answer, Completion):
            return answer
        scored = read_scores(choices, tokens, answer.choice)
        self._scored += scored is not None
        self._without_scores += scored is None
        if scored is None:
            self._note_once("no scores: the server sends no log-probabilities of the choices")
            return None
        scores, drawn = scored
        if not scores:
            return Completion("", "error", answer.prompt_tokens, answer.completion_tokens)
        best = drawn or max(scores, key=scores.__getitem__)
        return Completion(best, "stop", answer.prompt_tokens, answer.completion_tokens, scores)

    async def _first_tokens(self, prompt: Prompt, choices: tuple[str, ...]) -> tuple[int, ...] | None:
        """The first token id of each choice; None when two are alike, or the server does not tokenize."""
        if choices not in self._choice_tokens:
            tokens = []
            for choice in choices:
                body = {"model": self._teacher.model, "prompt": choice, "add_special_tokens": False}
                ids = await self._exchange(prompt, body, "/tokenize", lambda reply: reply.get("tokens"))
                tokens.append([token for token in ids if isinstance(token, int)] if isinstance(ids, list) else [])
            try:
                self._choice_tokens[choices] = first_tokens(choices, tokens)
            except TeacherError as error:
                self._note_once(str(error))
                self._choice_tokens[choices] = None
        return self._choice_tokens[choices]

    async def _ask(self, prompt: Prompt, body: Body) -> Answer | Completion:
        """The answer in the server's reply; a completion when there is none. Raises TeacherError."""
        answer = await self._exchange(prompt, self._adaptation.apply(body), self._dialect.route, self._read)
        if isinstance(answer, Completion):
            return answer
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        return answer

    def _read(self, body: Mapping[str, Any]) -> Answer | None:
        return read_reply(body, self._teacher.thinking)

    async def _exchange(
        self, prompt: Prompt, body: Body, route: str, read: Callable[[dict[str, Any]], Reading | None]
    ) -> Reading | Completion:
        """What `read` finds in the server's reply; a completion for a prompt that does not fit, or that alone is refused.

        Raises TeacherError when the server refuses all requests, or when all tries failed and it answers no other prompt.
        """
        attempt, tries, once_more = 0, self._teacher.retries + 1, False
        while True:
            endpoint = await self._endpoints.acquire()
            try:
                status, raw, retry_after_s = await self._send("POST", endpoint.at(route), orjson.dumps(body), endpoint)
            finally:
                self._endpoints.release(endpoint)
            reply = json_object(raw)
            error = read_error(status, reply, raw)
            if error is None and (reading := read(reply)) is not None:
                endpoint.failures = 0
                self._requests += 1
                return reading
            error = self._blanked(error or ServerError(502, f"the reply holds no answer: {raw[:200]!r}"))
            if self._adaptation.learn(error, body):
                self._note_once(f"{endpoint.url} {error.status}: {error.message}; {self._adaptation.describe()}")
                body = self._adaptation.apply(body)
                continue
            if too_long := read_too_long(error):
                if not 0 < too_long.room < limit_of(body):
                    return Completion("", "too_long", too_long.prompt_tokens, 0)
                body = with_limit(body, too_long.room)  # the prompt fits, only the answer does not
                continue
            if error.status not in PASSING and error.status < 500:
                return await self._judge(endpoint, error, prompt, route)
            attempt += 1
            self._retries += 1
            backoff_s = self._endpoints.back_off(endpoint, attempt - 1, error.status, retry_after_s)
            failure = f"{error.status or 'no answer'}: {error.message}"
            self._note(f"{prompt.key} {endpoint.url} {failure}; again in {backoff_s:.1f} s")
            if self._endpoints.must_announce(endpoint, backoff_s):
                log.warning("%s answers %s; it is asked again in %.0f s", endpoint.url, failure, backoff_s)
            hangs = attempt >= MAX_TIMEOUTS and "TimeoutError" in error.message
            if attempt < tries and not hangs:
                continue
            if once_more:
                return self._refuse(prompt, f"{attempt} times {failure}")
            if error.status == 429 or not await self._answers_another(endpoint):
                raise TeacherError(
                    f"teacher.urls: {prompt.key} failed {attempt} times, at last at {endpoint.url} with {failure}"
                )
            tries, once_more = attempt + 1, True  # the server may have come back just now

    async def _judge(self, endpoint: Endpoint, error: ServerError, prompt: Prompt, route: str) -> Completion:
        """A refused completion for an error of this prompt alone. Raises TeacherError for one of the whole server.

        Where neither status nor message decide, whether another prompt is answered does: a message may quote a text.
        """
        in_doubt = error.status == 403 or WHOLE_SERVER.search(error.message)
        one_prompt = error.status in (*ONE_PROMPT, 403) and (not in_doubt or await self._answers_another(endpoint))
        if one_prompt or route == "/tokenize":
            return self._refuse(prompt, f"{error.status} {error.word} {error.message}")
        raise self._fault(endpoint, error, prompt.key)

    def _refuse(self, prompt: Prompt, why: str) -> Completion:
        self._note(f"{prompt.key} is refused: {why}")
        return refused(why)

    async def _answers_another(self, endpoint: Endpoint) -> bool:
        """Whether this server answers a prompt that no server could object to, so that a failure is the other prompt's."""
        prompt = Prompt("probe", "probe", (Message("user", "Say yes."),), 0, Sampling(0.0, 4))
        body = self._adaptation.apply(body_of(self._dialect, self._teacher, prompt))
        status, raw, _ = await self._send("POST", endpoint.at(self._dialect.route), orjson.dumps(body), endpoint)
        reply = json_object(raw)
        return status == 200 and read_error(status, reply, raw) is None and self._read(reply) is not None

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

    def _fault(self, endpoint: Endpoint, error: ServerError, key: str = "") -> TeacherError:
        if error.status in (401, 403):
            variable = self._teacher.api_key_env
            hint = (
                f"it does not take the key in {variable}"
                if variable
                else "it wants a key: name its variable in api_key_env"
            )
            return TeacherError(f"teacher.urls: {endpoint.url} answers {error.status}: {hint}")
        if 300 <= error.status < 400:
            return TeacherError(
                f"teacher.urls: {endpoint.url} answers {error.status}, a redirect. It is not followed, because prompts and key "
                "would go to another host; where that is yours, name its address"
            )
        verb = f"refused {key}" if key else "answers"
        return TeacherError(f"teacher.urls: {endpoint.url} {verb}: {error.status} {error.message}")

    def _message(self, raw: bytes) -> str:
        """The error message in a reply, on one short line, without the API key in case the server repeats it."""
        error = read_error(500, json_object(raw), raw)
        assert error is not None
        return self._blanked(error).message

    def _blanked(self, error: ServerError) -> ServerError:
        return replace(error, message=single_line(redact(error.message, self._key)), word=redact(error.word, self._key))

    def _note(self, line: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=self._log)

    def _note_once(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self._note(line)

    def _note_control_tokens(self, prompt: Prompt) -> None:
        for content in {
            message.content for message in prompt.messages if neutralised(message.content) != message.content
        }:
            for match in SPELLED.finditer(content):
                self._note_once(
                    f"{match[0]!r} in a text is sent with a zero-width joiner in it, lest it is a control token"
                )

    async def sleep(self) -> None:
        """Does nothing: the accelerator is the server's."""

    async def wake(self) -> None:
        """Does nothing; see `sleep`."""

    def environment(self) -> Mapping[str, Any]:
        """Includes the requests and tokens since the engine opened."""
        teacher = self._teacher
        return {
            "engine": "server",
            "dialect": teacher.dialect,
            "servers": len(self._endpoints.endpoints),
            "window": self.window,
            **self._server_info,
            **({"adapted": self._adaptation.describe()} if self._adaptation.describe() else {}),
            "requests": self._requests,
            "retries": self._retries,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
        }
