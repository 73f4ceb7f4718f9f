"""Messages to token ids, by a model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from evokd_data.errors import TeacherError
from evokd_data.records import Message
from evokd_data.teachers.logs import one_line


class Chat:
    """Messages to token ids, by the model's chat template.

    A template that refuses or drops a system message gets it at the head of the first user message.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        template = getattr(tokenizer, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        self._switch = isinstance(template, str) and "enable_thinking" in template
        probe = "be brief, 7341"
        try:
            if probe not in self._render((Message("user", probe),), False):
                raise ValueError("it leaves the user's message out")
        except Exception as error:
            raise TeacherError(
                f"teacher.model: {model!r} has no usable chat template ({one_line(str(error))}); "
                "take the instruction-tuned model of the family"
            ) from error
        try:
            self._system = probe in self._render((Message("system", probe), Message("user", "?")), False)
        except Exception:  # whatever the template's author chose to raise
            self._system = False
        # The same prompt is asked more than once when labels are voted on.
        self.encode = lru_cache(maxsize=256)(self._encode)

    def _encode(self, messages: tuple[Message, ...], thinking: bool) -> tuple[int, ...]:
        return self.tokens(self._render(messages if self._system else _folded(messages), thinking))

    def _render(self, messages: Sequence[Message], thinking: bool) -> str:
        options = {"enable_thinking": thinking} if self._switch else {}
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **options)

    def tokens(self, text: str) -> tuple[int, ...]:
        # Not verbose: of a prompt too long for the model the tokenizer would warn on the terminal.
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if system and rest and rest[0].role == "user":
        rest[0] = Message("user", f"{system}\n\n{rest[0].content}")
    return rest
