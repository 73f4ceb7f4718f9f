"""The bodies of requests in the dialect of a server: one table, one line for each server.

All speak chat completions but Ollama, which is asked by its own API: its other one cuts prompts silently that do not fit. They
differ in how a constraint is asked for, how reasoning is switched, and how choices are scored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from evokd_data.records import Constraint, Prompt
from evokd_data.teachers.control_tokens import neutralised

if TYPE_CHECKING:
    from evokd_data.teachers.server.plug import Server

TOP_LOGPROBS = 20
"""As many as servers commonly allow."""
LIMIT = "max_tokens"
NEW_LIMIT = "max_completion_tokens"
"""What OpenAI calls the limit today."""
SMALL_SEEDS = 2**31

Body = dict[str, Any]


def _response_format(schema: Mapping[str, Any]) -> Body:
    named = {"name": "answer", "schema": dict(schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _chat_template(thinking: bool) -> Body:
    return {"chat_template_kwargs": {"enable_thinking": thinking}}


@dataclass(frozen=True)
class Dialect:
    """What one kind of server calls things. A function gives the part of a body; `grammar` is None where there are none.

    `choices` is None where choices are asked for as a JSON object with an "answer". `exact_scores`: the server scores the
    tokens it is given, rather than its likeliest ones. `small_seeds`: seeds of 32 bits. `renders`: the route that renders
    or tokenizes a chat by the model's template, so that the template can be looked at.
    """

    schema: Callable[[Mapping[str, Any]], Body]
    choices: Callable[[Sequence[str]], Body] | None = None
    grammar: Callable[[str], Body] | None = None
    thinking: Callable[[bool], Body] = lambda _: {}
    exact_scores: bool = False
    small_seeds: bool = False
    renders: str = ""
    route: str = "/v1/chat/completions"


DIALECTS = {
    "openai": Dialect(_response_format),
    "vllm": Dialect(
        lambda schema: {"structured_outputs": {"json": dict(schema)}},
        lambda choices: {"structured_outputs": {"choice": list(choices)}},
        lambda grammar: {"structured_outputs": {"grammar": grammar}},
        _chat_template,
        exact_scores=True,
        renders="/tokenize",
    ),
    "vllm before 0.12": Dialect(
        lambda schema: {"guided_json": dict(schema)},
        lambda choices: {"guided_choice": list(choices)},
        lambda grammar: {"guided_grammar": grammar},
        _chat_template,
        renders="/tokenize",
    ),
    "sglang": Dialect(
        _response_format,
        lambda choices: {"regex": f"({'|'.join(map(re.escape, choices))})"},
        lambda grammar: {"ebnf": grammar},
        _chat_template,
    ),
    "llamacpp": Dialect(
        _response_format,
        lambda choices: {"grammar": f"root ::= {' | '.join(orjson.dumps(choice).decode() for choice in choices)}"},
        lambda grammar: {"grammar": grammar},
        _chat_template,
        small_seeds=True,
        renders="/apply-template",
    ),
    "ollama": Dialect(
        lambda schema: {"format": dict(schema)},
        thinking=lambda thinking: {"think": thinking},
        small_seeds=True,
        route="/api/chat",
    ),
}
"""Name -> dialect. A recipe names it as `teacher.dialect`; which vLLM it is, the server says."""


def body_of(dialect: Dialect, teacher: Server, prompt: Prompt, tokens: Sequence[int] | None = None) -> Body:
    """The body of one request. With `tokens`, the first token ids of the choices, those are scored exactly."""
    sampling, constraint = prompt.sampling, prompt.constraint
    scored = constraint is not None and constraint.score and constraint.choices is not None
    limit = 1 if scored else sampling.max_tokens
    draws = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    seed = {"seed": prompt.seed % SMALL_SEEDS if dialect.small_seeds else prompt.seed}
    body: Body = {
        "model": teacher.model,
        "messages": [{"role": message.role, "content": neutralised(message.content)} for message in prompt.messages],
    }
    if dialect.route == "/api/chat":
        # Neither may a prompt that is too long lose its beginning, nor an answer push it out.
        body |= {"stream": False, "truncate": False, "shift": False}
        body["options"] = {**draws, "num_predict": limit, **seed}
    else:
        body |= {**draws, LIMIT: limit, **seed}
    body |= dialect.thinking(teacher.thinking and not scored)
    if constraint is not None:
        body |= _scoring(dialect, tokens) if scored else _constraint(dialect, constraint)
        if constraint.score and not scored:
            body["logprobs"] = True  # of the tokens that are written
    for key, value in teacher.extra_body.items():
        both = isinstance(value, Mapping) and isinstance(body.get(key), dict)
        body[key] = body[key] | dict(value) if both else value
    return body


def _constraint(dialect: Dialect, constraint: Constraint) -> Body:
    if constraint.grammar is not None:
        assert dialect.grammar is not None, "the recipe's check refuses it"
        return dialect.grammar(constraint.grammar)
    if constraint.choices is not None and dialect.choices is not None:
        return dialect.choices(constraint.choices)
    schema = constraint.json_schema if constraint.choices is None else _choice_schema(constraint.choices)
    assert schema is not None
    return dialect.schema(schema)


def _scoring(dialect: Dialect, tokens: Sequence[int] | None) -> Body:
    if tokens is None:
        return {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return {
        "allowed_token_ids": list(tokens),
        "logprobs": True,
        "logprob_token_ids": list(tokens),
        "return_tokens_as_token_ids": True,
    }


def limit_of(body: Mapping[str, Any]) -> int:
    """The most tokens that the answer to this body may have; 0 when it does not say."""
    options = body.get("options") or {}
    return int(body.get(LIMIT) or body.get(NEW_LIMIT) or options.get("num_predict") or 0)


def with_limit(body: Mapping[str, Any], limit: int) -> Body:
    """The body with another limit of the answer."""
    if "options" in body:
        return {**body, "options": {**body["options"], "num_predict": limit}}
    return {**body, NEW_LIMIT if NEW_LIMIT in body else LIMIT: limit}


def _choice_schema(choices: Sequence[str]) -> dict[str, Any]:
    """Schemas are objects: a string alone is none to most servers."""
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
