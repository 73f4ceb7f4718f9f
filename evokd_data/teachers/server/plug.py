"""A teacher behind HTTP: any server that speaks OpenAI's chat completions, such as `vllm serve`, SGLang and llama.cpp's; Ollama.

    teacher:
      engine: server
      urls: [https://gpu-1:8000/v1, https://gpu-2:8000/v1]
      model: Qwen/Qwen3-8B
      api_key_env: TEACHER_KEY          # the name of a variable, never the key

The key is read when the teacher opens and goes into one header. No message and no log contains it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from evokd_data.errors import TeacherError
from evokd_data.models import ModelReference
from evokd_data.records import Constraint
from evokd_data.redaction import may_receive_tokens, plain_http_refusal
from evokd_data.settings import NOT_IDENTITY, Count, from_anyone, from_user, identity
from evokd_data.teachers import Teacher
from evokd_data.teachers.server.dialects import DIALECTS
from evokd_data.teachers.server.endpoints import Endpoint
from evokd_data.teachers.server.engine import ServerEngine


@from_anyone(
    "model",
    "revision",
    "dialect",
    "temperature",
    "top_p",
    "max_tokens",
    "thinking",
    "concurrency",
    "timeout_s",
    "retries",
)
@from_user("extra_body", "api_key_env", urls=["http://not-taken.invalid/v1"])
@dataclass(frozen=True)
class Server(Teacher):
    """Servers that speak OpenAI's chat completions, all with the same model."""

    name: ClassVar[str] = "server"
    loads_model: ClassVar[bool] = False

    model: Annotated[str, Field(min_length=1)]
    """The model, as the server calls it."""
    urls: Annotated[tuple[str, ...], Field(min_length=1)] = field(metadata=NOT_IDENTITY)
    """Base URLs, each ending in /v1. A request goes to the least busy one."""
    revision: str | None = None
    """What you know the server to run, for the manifest. It cannot be checked."""
    dialect: Literal["openai", "vllm", "sglang", "llamacpp", "ollama"] = "vllm"
    """Which server it is: how constraints are asked for, and whether labels are scored. "openai" and "ollama" have
    no grammars. "vllm" scores labels exactly. The others return 20 log-probabilities; a label that is not among
    them gets the last of these, which is more than it has. Labels that can begin with the same token are answered
    without scores."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How random the texts are that the teacher writes. 0 is greedy: then texts repeat themselves. Labels are not
    sampled by it."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the likeliest tokens that together have this probability. 1: from all tokens."""
    max_tokens: Count = 512
    """The most tokens of one answer that writes texts. Increase it when texts are long or answers are cut off."""
    thinking: bool = False
    """Let the model reason before it answers. The reasoning counts against `max_tokens`."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """What is added to every request, for Ollama e.g. {options: {num_ctx: 8192}}."""
    api_key_env: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The name of the environment variable that holds the server's key. Never the key itself: a recipe is published."""
    concurrency: Count = field(default=256, metadata=NOT_IDENTITY)
    """The most requests in flight to each URL. Decrease it when the server answers 429 or runs out of memory."""
    timeout_s: Annotated[float, Field(gt=0)] = field(default=600.0, metadata=NOT_IDENTITY)
    """Seconds until a request counts as lost. Increase it for slow servers and long queues."""
    retries: Annotated[int, Field(ge=0)] = field(default=8, metadata=NOT_IDENTITY)
    """How many times a request is tried again after an error that can pass."""

    def __post_init__(self) -> None:
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"urls: {url!r} is no http(s) address; write it as http://host:8000/v1")
            if parts.username or parts.password:
                raise ValueError("urls: a key has no place in an address; name its variable in api_key_env")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
            # The value is not quoted: it may be the key itself.
            raise ValueError(
                "api_key_env: is the name of an environment variable, not a key; export the key and give its name"
            )
        for key in ("messages", "model", "seed", "stream"):
            if key in self.extra_body:
                raise ValueError(f"extra_body.{key}: is set for each request; remove it")

    @property
    def base_model(self) -> ModelReference:
        return ModelReference(self.model, self.revision)

    def refuses(self, constraint: Constraint) -> str | None:
        if constraint.grammar is not None and DIALECTS[self.dialect].grammar is None:
            others = " or ".join(name for name in DIALECTS if DIALECTS[name].grammar is not None and " " not in name)
            return (
                f"dialect {self.dialect!r} has no grammars; set teacher.dialect to {others} where the server is one, or "
                "task.labelling to json"
            )
        return None

    def lacks(self) -> list[str]:
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            return [f"api_key_env: the variable {self.api_key_env} is not set here; export it before the run"]
        return []

    def identity(self) -> Mapping[str, Any]:
        return identity(self)

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[ServerEngine]:
        """Ask every server for its models first. Raises TeacherError when one does not answer or lacks the model."""
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        key = ""
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env, "")
            if not key:
                raise TeacherError(f"teacher.api_key_env: the variable {self.api_key_env} is not set; export it")
            if refused := next((url for url in self.urls if not may_receive_tokens(url)), None):
                raise TeacherError(f"teacher.urls: {plain_http_refusal(refused)}")
            headers["Authorization"] = f"Bearer {key}"
        with log.open("a", encoding="utf-8", buffering=1) as file:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=self.timeout_s, connect=30),
                headers=headers,
                auto_decompress=False,
            ) as session:
                endpoints = [Endpoint(_base_url(url)) for url in self.urls]
                engine = ServerEngine(self, session, endpoints, key, file)
                await engine.check()
                yield engine


def _base_url(url: str) -> str:
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"
