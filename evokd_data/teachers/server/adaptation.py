"""What a server turned out not to know, and how bodies are written for it from then on.

A server says so by refusing a request. The same request is sent again without what was refused, and so are all others. What was
left out stands in the log and in the round's environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.records import Message
from evokd_data.teachers.chat import merge_system
from evokd_data.teachers.server.dialects import LIMIT, NEW_LIMIT, Body
from evokd_data.teachers.server.replies import ServerError

OPTIONAL = (
    "seed",
    "temperature",
    "top_p",
    "chat_template_kwargs",
    "logprobs",
    "top_logprobs",
    "response_format",
    "think",
    "truncate",
    "shift",
)
"""What a request may do without: its constraint is in the prompt's words, too, and answers without scores are labels."""
UNSUPPORTED = re.compile(
    r"unsupported|not[ _](?:be[ _])?support|not permitted|unknown|unrecognized|unexpected|forbidden|unavailable|not available|"
    r"not allowed",
    re.IGNORECASE,
)
SYSTEM_REFUSED = re.compile(
    r"system (?:role|message|prompt|instruction)s?\b.{0,60}\bnot\b.{0,20}(?:support|enabl|allow)|no system (?:role|message)|"
    r"roles must alternate|does not support 'system'|developer instruction is not enabled|only (?:user|support).{0,20}assistant",
    re.IGNORECASE,
)
SYSTEM_FOLDED, NEW_NAME = "system messages are put into the first user message", f"{LIMIT} is called {NEW_LIMIT}"


class Adaptation:
    """Grows while a server is spoken to."""

    def __init__(self) -> None:
        self._left_out: set[str] = set()
        self.folds_system = False
        self._new_limit = False

    def describe(self) -> list[str]:
        """What is done otherwise than the dialect says."""
        notes = [SYSTEM_FOLDED] * self.folds_system + [NEW_NAME] * self._new_limit
        return [*notes, *(f"{name} is left out" for name in sorted(self._left_out))]

    def apply(self, body: Mapping[str, Any]) -> Body:
        """The body as this server takes it; the same body when it is so already."""
        adapted = {key: value for key, value in body.items() if key not in self._left_out}
        if "options" in adapted:
            adapted["options"] = {key: value for key, value in body["options"].items() if key not in self._left_out}
        if self._new_limit and LIMIT in adapted:
            adapted[NEW_LIMIT] = adapted.pop(LIMIT)
        if self.folds_system:
            adapted["messages"] = fold_system(body["messages"])
        return adapted

    def learn(self, error: ServerError, body: Mapping[str, Any]) -> bool:
        """Whether the server refused something that can be left out, and `apply` now leaves it out of the body."""
        if not (400 <= error.status < 500 or error.status == 500):
            return False
        has_system = any(message["role"] == "system" for message in body.get("messages", ()))
        if has_system and SYSTEM_REFUSED.search(error.message):
            self.folds_system = True
        elif error.status == 500 or not UNSUPPORTED.search(f"{error.message} {error.word}"):
            return False
        elif LIMIT in body and _names(error, LIMIT):
            self._new_limit = True
        else:
            self._left_out |= {name for name in OPTIONAL if _names(error, name)}
        return self.apply(body) != body


def _names(error: ServerError, parameter: str) -> bool:
    """Whether the error is about this parameter. A name that is a word of English counts in quotes only: it may be a text's."""
    written = parameter if "_" in parameter else f"['\"`]{parameter}['\"`]"
    return error.parameter == parameter or bool(re.search(rf"(?<![\w.]){written}(?!\w)", error.message))


def fold_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The messages of a body, the system's at the head of the first user's."""
    turns = merge_system([Message(message["role"], message["content"]) for message in messages])
    return [{"role": turn.role, "content": turn.content} for turn in turns]
