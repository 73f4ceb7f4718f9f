"""Messages to token ids, by a model's own chat template, and the ids of an answer to text."""

from __future__ import annotations

import json
import re
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
        from tokenizers import Tokenizer  # 20 ms that a mere `check` need not wait for
        from tokenizers.decoders import ByteLevel

        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "_tokenizer", None)
        self._fast: Any = backend if isinstance(backend, Tokenizer) else None
        if self._fast is not None:  # what a tokenizer.json may ask for, and transformers undoes at each call
            self._fast.no_truncation()
            self._fast.no_padding()
        self._bytes = self._fast is not None and isinstance(self._fast.decoder, ByteLevel)
        self._cuts = _cuts(self._fast) if self._fast is not None else None
        # What all prompts of a stage begin with is the longest part of most.
        self._part = lru_cache(maxsize=256)(self._whole)
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
        if self._cuts is not None:
            return tuple(token for part in self._cuts.split(text) if part for token in self._part(part))
        return self._whole(text)

    def _whole(self, text: str) -> tuple[int, ...]:
        if self._fast is not None:
            return tuple(self._fast.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        # Not verbose: of a prompt too long for the model the tokenizer would warn on the terminal.
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    @property
    def decodes(self) -> bool:
        """Whether `text` can be used: the tokenizer is one of the tokenizers library."""
        return self._fast is not None

    def text(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """The answer's text as it goes on from the prompt, without special tokens, all of it at once.

        What decoding token by token gives: bytes at the end that make no whole character are left out.
        """
        from tokenizers.decoders import DecodeStream

        if not answer:
            return ""
        if self._bytes:  # of which each is what it is, whatever stands before
            whole: str | None = self._fast.decode(list(answer))
        else:
            whole = DecodeStream(ids=list(prompt), skip_special_tokens=True).step(self._fast, list(answer))
        if whole is None or whole.endswith("\ufffd"):
            stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
            whole = "".join(stream.step(self._fast, token) or "" for token in answer)
        return whole


# Pre-tokenizers to which the beginning of a text is as good as any place after an added token.
PLACELESS = {"ByteLevel", "Split", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit", "BertPreTokenizer"}


def _cuts(tokenizer: Any) -> re.Pattern[str] | None:
    """Where a text may be cut and its parts be encoded alone: around each added token. None: it may not.

    The tokenizers library itself cuts there first, at the longest of those that begin leftmost, and then treats what is
    between as texts of their own; unless white space around a token goes with it, or it must be a word, or a
    pre-tokenizer looks where in the text it is.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    first = [token for token in added if not token.normalized]
    described = json.loads(tokenizer.pre_tokenizer.__getstate__()) if tokenizer.pre_tokenizer else {"pretokenizers": []}
    steps = described.get("pretokenizers", [described])
    if (
        not first
        or tokenizer.encode_special_tokens
        or any(token.lstrip or token.rstrip or token.single_word for token in first)
        or not all(step.get("type") in PLACELESS for step in steps)
    ):
        return None
    longest_first = sorted((token.content for token in first), key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if system and rest and rest[0].role == "user":
        rest[0] = Message("user", f"{system}\n\n{rest[0].content}")
    return rest
