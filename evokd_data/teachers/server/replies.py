"""What servers reply: answers in all their forms, errors under any status, log-probabilities, prompts that are too long."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from evokd_data.records import Completion, is_log_probability, refused, token_count
from evokd_data.teachers.scoring import renormalised, token_logprobs

STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", None)
CUT = ("length", "max_tokens", "model_length", "max_output_tokens")
"""What servers call an answer that ended, and one that was cut at its limit."""
REASONING_PARTS = ("thinking", "reasoning", "reasoning_content")
"""Where the reasoning of a message lies, beside its content or among its parts."""

TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (model|prompt) ?length|too many tokens|prompt (is )?too long|exceed_context|"
    r"input token count|exceeds? the maximum number of tokens|reduce the length of the (messages|prompt)|too large for model|"
    r"`inputs` tokens \+ `max_new_tokens`",
    re.IGNORECASE,
)
CONTEXT_LENGTH = re.compile(
    r"(?:maximum (?:context|model) length (?:is|of)|context length \(|context size \(|n_ctx\D{1,4})\s*(\d{1,9})",
    re.IGNORECASE,
)
PROMPT_LENGTH = re.compile(
    r"(\d{1,9}) (?:input tokens|in the messages|prompt tokens|tokens from the input)|(?:input|request) \((\d{1,9}) tokens|"
    r"n_prompt_tokens\D{1,4}(\d{1,9})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error in a reply. `status`: the HTTP status, or the one that the body of a 200 names. `word`: its code or type."""

    status: int
    message: str
    word: str = ""
    parameter: str = ""


def read_error(status: int, body: Mapping[str, Any], raw: bytes) -> ServerError | None:
    """The error in a reply, `body` being what `json_object` finds in `raw`; None for an answer.

    A body that says nothing of use is an error that may pass, 502.
    """
    error = body.get("error")
    choices = body.get("choices")
    if not error and isinstance(choices, list) and choices and isinstance(choices[0], dict):
        error = choices[0].get("error")
    if not error and body.get("object") == "error":
        error = {key: body.get(key) for key in ("message", "type", "code", "param")}
    if status == 200 and not error:
        return None if body else ServerError(502, raw.decode("utf-8", errors="replace"))
    fields = error if isinstance(error, dict) else {"message": error}
    code, type_ = fields.get("code"), fields.get("type")
    word = " ".join(str(value) for value in (code, type_) if isinstance(value, str))
    text = str(fields.get("message") or error or raw.decode("utf-8", errors="replace"))
    if (numbers := {key: fields[key] for key in ("n_prompt_tokens", "n_ctx") if key in fields}) and text:
        text += f" {numbers}"
    return ServerError(_status(code, word) if status == 200 else status, text, word, str(fields.get("param") or ""))


def _status(code: object, word: str) -> int:
    """The status of an error that came with 200: what its code says, else what its type means."""
    number = int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
    if isinstance(number, int) and 400 <= number < 600:
        return number
    if re.search("rate_?limit|too_many|capacity|overloaded", word, re.IGNORECASE):
        return 429
    if re.search("content|filter|policy|safety|moderation|invalid|context_length|exceed", word, re.IGNORECASE):
        return 400
    return 500


@dataclass(frozen=True, slots=True)
class Answer:
    """The first choice of a reply. `refusal`: why there is no answer, "" when there is one."""

    text: str
    reason: str
    prompt_tokens: int
    completion_tokens: int
    choice: Mapping[str, Any]
    refusal: str = ""

    def completion(self, text: str, logprobs: Mapping[str, float] | None = None) -> Completion:
        """The completion with this reading of the text, and the log-probabilities of its tokens."""
        if self.refusal:
            return refused(self.refusal, self.prompt_tokens, self.completion_tokens)
        return Completion(text, self.reason, self.prompt_tokens, self.completion_tokens, logprobs)


def read_reply(body: Mapping[str, Any], thinking: bool) -> Answer | None:
    """The answer in the body of a chat completion, or of Ollama's /api/chat; None when it is neither."""
    if isinstance(body.get("message"), dict) and "choices" not in body:
        body = _as_chat_completion(body)
    try:
        choice = body["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        reason = reason.casefold() if isinstance(reason, str) else None
        usage = body.get("usage") or {}
        counts = token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))
        text = _text(message.get("content"))
        declined = _text(message.get("refusal"))
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if declined and not text:
        return Answer("", "", *counts, choice, f"the model declines: {declined}")
    if reason in CUT:
        return Answer(text, "length", *counts, choice)
    if not text.strip() and not thinking:  # a parser took the whole answer for reasoning
        text = next(filter(None, (_text(message.get(name)) for name in REASONING_PARTS)), text)
    if reason in STOPPED or (text and reason not in ("content_filter", "safety", "error", "abort")):
        return Answer(text, "stop", *counts, choice)
    return Answer("", "", *counts, choice, f"finish_reason {reason!r}")


def _as_chat_completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """A reply of Ollama's /api/chat in the form of the others."""
    choice = {
        "message": body["message"],
        "finish_reason": body.get("done_reason"),
        "logprobs": {"content": body.get("logprobs")},
    }
    counts = {"prompt_tokens": body.get("prompt_eval_count"), "completion_tokens": body.get("eval_count")}
    return {"choices": [choice], "usage": counts}


def _text(content: object) -> str:
    """The text of a content, which may be a list of parts, without the parts that are reasoning.

    Half a surrogate pair, which no file could hold, becomes "?".
    """
    if isinstance(content, list):
        return "".join(
            _text(part if isinstance(part, str) else part.get("text"))
            for part in content
            if isinstance(part, str) or (isinstance(part, dict) and part.get("type") not in REASONING_PARTS)
        )
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""


def read_scores(
    choices: Sequence[str], tokens: Sequence[int] | None, choice: Mapping[str, Any]
) -> tuple[dict[str, float], str] | None:
    """Log-probabilities of the choices, renormalised over them, and the choice that was drawn ("" for none of them).

    `tokens`: the choices' first token ids, where these were scored; otherwise a token stands for the choice that begins with
    it. `choice`: the entry of the reply's "choices". A choice that the server did not score gets the least of the
    log-probabilities that it sent, and so does one that it calls impossible. None when it scored none of them; ({}, "") when
    it sent a number that is no log-probability.
    """
    try:
        first = choice["logprobs"]["content"][0]
        entries = [(str(entry["token"]), entry["logprob"]) for entry in [*(first.get("top_logprobs") or ()), first]]
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    try:
        logprobs = {token: number for token, value in entries if (number := float(value)) != -math.inf}
    except (TypeError, ValueError, OverflowError):
        return {}, ""
    if not logprobs or not all(map(is_log_probability, logprobs.values())):
        return {}, ""
    begun: dict[str, list[float]] = {name: [] for name in choices}
    for token, value in logprobs.items():
        if name := _begun(choices, tokens, token):
            begun[name].append(value)
    if not any(begun.values()):
        return None
    least = min(logprobs.values())
    known = [_total(values) if values else least for values in begun.values()]
    return renormalised(choices, known), _begun(choices, tokens, str(first["token"]))


def read_token_logprobs(text: str, choice: Mapping[str, Any]) -> dict[str, float] | None:
    """The log-probability of each token of the answer `text`, see `scoring.token_logprobs`; None where the server sent none of use."""
    pieces, logprobs = [], []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        for entry in choice["logprobs"]["content"]:
            written = entry.get("bytes")
            pieces.append(decoder.decode(bytes(written)) if isinstance(written, list) else str(entry["token"]))
            logprobs.append(float(entry["logprob"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return token_logprobs(text, pieces, logprobs)


def _total(logprobs: Sequence[float]) -> float:
    """The log-probability of any of some events that exclude each other."""
    return logprobs[0] if len(logprobs) == 1 else math.log(math.fsum(map(math.exp, logprobs)))


def _begun(choices: Sequence[str], tokens: Sequence[int] | None, token: str) -> str:
    """The choice that a token stands for; "" for none."""
    if tokens is not None:
        names = {f"token_id:{id_}": choice for id_, choice in zip(tokens, choices, strict=True)}
        return names.get(token, "")
    word = token.lstrip(" \n\u2581\u0120")
    return next((choice for choice in choices if word and choice.startswith(word)), "")


@dataclass(frozen=True, slots=True)
class TooLong:
    """A server's refusal of a prompt that does not fit. `room`: tokens left for the answer, 0 when there are none or the
    server does not say; `prompt_tokens`: 0 when it does not say."""

    room: int
    prompt_tokens: int


def read_too_long(error: ServerError) -> TooLong | None:
    """What a refusal says about the prompt's length; None when it was refused for another reason."""
    if error.status not in (400, 413, 422, 500) or not TOO_LONG.search(f"{error.message} {error.word}"):
        return None
    limit, prompt = CONTEXT_LENGTH.search(error.message), PROMPT_LENGTH.search(error.message)
    prompt_tokens = int(next(filter(None, prompt.groups()))) if prompt else 0
    return TooLong(int(limit[1]) - prompt_tokens if limit and prompt_tokens else 0, prompt_tokens)


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
