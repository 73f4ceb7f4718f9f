"""The bodies of requests, and the meaning of replies, in the dialect of a server.

All servers speak OpenAI's chat completions. They differ in how a constraint is asked for and how choices are scored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from evokd_data.errors import TeacherError
from evokd_data.records import Prompt, is_log_probability
from evokd_data.teachers.scoring import renormalised

if TYPE_CHECKING:
    from evokd_data.teachers.server.plug import Server

TOP_LOGPROBS = 20
"""As many as servers commonly allow."""

TOO_LONG = re.compile(
    r"context[ _](length|window)|maximum (model )?length|too many tokens|prompt is too long", re.IGNORECASE
)
CONTEXT_LENGTH = re.compile(r"maximum (?:context|model) length (?:is|of) (\d{1,9})", re.IGNORECASE)
PROMPT_LENGTH = re.compile(r"(\d{1,9}) (?:input tokens|in the messages|prompt tokens)", re.IGNORECASE)


class Dialect:
    """How one server is spoken to. `has_structured_outputs` is False for vLLM before 0.12, which says `guided_json` and the
    like, and cannot score given tokens."""

    def __init__(self, teacher: Server) -> None:
        self._teacher = teacher
        self._name = teacher.dialect
        self.has_structured_outputs = True

    @property
    def scores_exactly(self) -> bool:
        """Whether the server scores the tokens it is given, rather than the likeliest ones."""
        return self._name == "vllm" and self.has_structured_outputs

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """The body of a chat completion, without what `scoring` adds. Raises TeacherError for a grammar to OpenAI."""
        teacher, sampling = self._teacher, prompt.sampling
        body: dict[str, Any] = {
            "model": teacher.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": prompt.seed,
        }
        if self._name != "openai":
            body["chat_template_kwargs"] = {"enable_thinking": teacher.thinking}
        if prompt.constraint is not None and not prompt.constraint.score:
            body |= self._constraint(prompt)
        return body | dict(teacher.extra_body)

    def _constraint(self, prompt: Prompt) -> dict[str, Any]:
        constraint = prompt.constraint
        assert constraint is not None
        schema, choices, grammar = constraint.json_schema, constraint.choices, constraint.grammar
        if self._name == "vllm":
            kind, value = (
                ("json", dict(schema))
                if schema is not None
                else ("choice", list(choices))
                if choices is not None
                else ("grammar", grammar)
            )
            return {"structured_outputs": {kind: value}} if self.has_structured_outputs else {f"guided_{kind}": value}
        if self._name == "sglang" and choices is not None:
            return {"regex": f"({'|'.join(map(re.escape, choices))})"}
        if self._name == "sglang" and grammar is not None:
            return {"ebnf": grammar}
        if grammar is not None:
            raise TeacherError(f"{prompt.key}: the dialect 'openai' has no grammars; use vllm or sglang")
        if choices is not None:
            schema = _choice_schema(choices)
        assert schema is not None
        named = {"name": "answer", "schema": dict(schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    def scoring(self, tokens: Sequence[int] | None) -> dict[str, Any]:
        """What a body says besides, to have choices scored. `tokens`: their first token ids, None unless `scores_exactly`."""
        if tokens is None:
            return {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        return {
            "max_tokens": 1,
            "allowed_token_ids": list(tokens),
            "logprobs": True,
            "logprob_token_ids": list(tokens),
            "return_tokens_as_token_ids": True,
        }

    def answer(self, prompt: Prompt, text: str) -> str:
        """The answer in a reply's text: to OpenAI, choices are asked for as a JSON object.

        A reply in any other form stays as it is, for the task to reject.
        """
        if self._name != "openai" or prompt.constraint is None or prompt.constraint.choices is None:
            return text
        answer = json_object(text.encode()).get("answer")
        return answer if isinstance(answer, str) else text


def read_scores(
    choices: Sequence[str], tokens: Sequence[int] | None, choice: Mapping[str, Any]
) -> tuple[dict[str, float], str]:
    """Log-probabilities of the choices, renormalised over them, and the choice that was drawn ("" for none of them).

    `tokens`: the choices' first token ids, as given to `Dialect.scoring`; `choice`: the entry of the reply's "choices". A
    choice that the server did not score gets the least of the log-probabilities that it sent, and so does one that it calls
    impossible. ({}, "") when it scored none, or sent a number that is no log-probability.
    """
    names = [f"token_id:{token}" for token in tokens] if tokens else list(choices)
    try:
        first = choice["logprobs"]["content"][0]
        sent = {str(entry["token"]): float(entry["logprob"]) for entry in [*first["top_logprobs"], first]}
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return {}, ""
    logprobs = {token: value for token, value in sent.items() if value != -math.inf}
    if not logprobs.keys() & set(names) or not all(map(is_log_probability, logprobs.values())):
        return {}, ""
    least = min(logprobs.values())
    scores = renormalised(choices, [logprobs.get(name, least) for name in names])
    drawn = choices[names.index(first["token"])] if first["token"] in names else ""
    return scores, drawn


@dataclass(frozen=True, slots=True)
class TooLong:
    """A server's refusal of a prompt that does not fit. `room`: tokens left for the answer, 0 when there are none or the
    server does not say; `prompt_tokens`: 0 when it does not say."""

    room: int
    prompt_tokens: int


def read_too_long(status: int, message: str) -> TooLong | None:
    """What a refusal says about the prompt's length; None when it was refused for another reason."""
    if status not in (400, 413, 422) or not TOO_LONG.search(message):
        return None
    limit, prompt_tokens = CONTEXT_LENGTH.search(message), PROMPT_LENGTH.search(message)
    room = int(limit[1]) - int(prompt_tokens[1]) if limit and prompt_tokens else 0
    return TooLong(room, int(prompt_tokens[1]) if prompt_tokens else 0)


def _choice_schema(choices: Sequence[str]) -> dict[str, Any]:
    """OpenAI's schemas are objects."""
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }


def json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a reply; {} when it holds something else.

    NaN and infinities become None, and halves of surrogate pairs stay: they are no JSON, but a server that sends one has
    answered. Whoever reads the value sees that it is none.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(raw, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def listed_models(raw: bytes) -> dict[str, dict[str, Any]]:
    """The models in a reply to GET /models, by their ids."""
    data = json_object(raw).get("data")
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    return {str(entry.get("id")): entry for entry in entries}
