"""Messages to token ids, by a model's own chat template, and the token ids of an answer to text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from evokd_data.errors import TeacherError
from evokd_data.records import Message
from evokd_data.teachers.control_tokens import Mask, any_of, control_tokens, without_control_tokens
from evokd_data.teachers.logs import single_line

CACHE_SIZE = 256

POSITION_INDEPENDENT = {
    "ByteLevel",
    "Split",
    "Digits",
    "Punctuation",
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
}
"""Pre-tokenizers that treat the beginning of a text like any position after an added token."""


class ChatTokenizer:
    """Turns messages into token ids by the model's chat template, and token ids into text.

    `tokenizer` is one of transformers; `model` is named in errors. When the template refuses or drops a system message, it
    is put at the head of the first user message. Control tokens come from the template alone: spelled out in a message they
    are ordinary text. Raises TeacherError when there is no usable template.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        from tokenizers import Tokenizer  # takes 20 ms, which a mere `check` does not wait for
        from tokenizers.decoders import ByteLevel

        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "_tokenizer", None)
        self._fast: Any = backend if isinstance(backend, Tokenizer) else None
        if self._fast is not None:  # a tokenizer.json may ask for both; transformers undoes them at each call
            self._fast.no_truncation()
            self._fast.no_padding()
        self._is_byte_level = self._fast is not None and isinstance(self._fast.decoder, ByteLevel)
        self._separators = _separators(self._fast) if self._fast is not None else None
        # Tokens are cached per segment of a text, because prompts of one template share a long prefix.
        self._encode_segment = lru_cache(maxsize=CACHE_SIZE)(self._encode_whole)
        template = getattr(tokenizer, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        self._has_thinking_switch = isinstance(template, str) and "enable_thinking" in template
        probe = "be brief, 7341"
        try:
            if probe not in self._render((Message("user", probe),), False):
                raise ValueError("it leaves the user's message out")
        except Exception as error:
            raise TeacherError(
                f"teacher.model: {model!r} has no usable chat template ({single_line(str(error))}); "
                "take the instruction-tuned model of the family"
            ) from error
        try:
            self._has_system_role = probe in self._render((Message("system", probe), Message("user", "?")), False)
        except Exception:  # the template's author decides what is raised
            self._has_system_role = False
        control = control_tokens(tokenizer, f"{template}{self._written_by_the_template()}")
        self._control = any_of(control)
        self._splits_at_control = self._separators is not None and all(map(self._separators.fullmatch, control))
        self._control_ids = {id_ for id_ in control.values() if id_ is not None}
        # Made when a message spells a control token: a large vocabulary takes a second.
        self._plain_tokenizer = cache(lambda: without_control_tokens(self._fast, control))
        # When labels are voted on, the same prompt is asked several times.
        self.encode = lru_cache(maxsize=CACHE_SIZE)(self._encode)

    def _written_by_the_template(self) -> str:
        """What the template writes around messages, of all roles where it has them."""
        turns = [Message("system", "?"), Message("user", "?"), Message("assistant", "?"), Message("user", "?")]
        return self._render(turns if self._has_system_role else turns[1:], False)

    def _encode(self, messages: tuple[Message, ...], thinking: bool) -> tuple[int, ...]:
        turns = messages if self._has_system_role else merge_system(messages)
        if not any(self._control.search(message.content) for message in turns):
            return self.encode_prompt(self._render(turns, thinking))
        mask = Mask(self._control, turns)
        turns = [Message(message.role, mask.hide(message.content)) for message in turns]
        return self._encode_masked(self._render(turns, thinking), mask)

    def _render(self, messages: Sequence[Message], thinking: bool) -> str:
        options = {"enable_thinking": thinking} if self._has_thinking_switch else {}
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **options)

    @property
    def marks_turns(self) -> bool:
        """Whether control tokens part the turns. Otherwise ordinary text does, and a message can hold the same text."""
        return bool(self._control.search(self._render((Message("user", "?"),), False)))

    def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """Token ids of a prompt that the template rendered: control tokens in it are control tokens."""
        if self._separators is not None:
            segments = self._separators.split(prompt)
            return tuple(token for segment in segments if segment for token in self._encode_segment(segment))
        return self._encode_whole(prompt)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without special tokens around it; those that it spells out are ordinary text."""
        if not self._control.search(text):
            return self.encode_prompt(text)
        mask = Mask(self._control, (Message("user", text),))
        return self._encode_masked(mask.hide(text), mask)

    def _encode_masked(self, prompt: str, mask: Mask) -> tuple[int, ...]:
        """Token ids of a prompt whose messages have masks in place of control tokens."""
        if self._separators is None or not self._splits_at_control:
            return self._encode_cut(prompt, mask)
        ids: list[int] = []
        for segment in filter(None, self._separators.split(prompt)):
            if not mask.hides_in(segment):
                ids += self._encode_segment(segment)
                continue
            plain = self._plain_tokenizer().encode(mask.restore(segment), add_special_tokens=False).ids
            # A vocabulary may hold a control token as an ordinary piece, too.
            ids += plain if self._control_ids.isdisjoint(plain) else self._encode_cut(segment, mask)
        return tuple(ids)

    def _encode_cut(self, prompt: str, mask: Mask) -> tuple[int, ...]:
        """The same where the prompt cannot be split at its control tokens: each spelling is cut, and the pieces encoded alone."""
        return tuple(token for piece in mask.restore_cut(prompt) for token in self._encode_whole(piece))

    def _encode_whole(self, text: str) -> tuple[int, ...]:
        if self._fast is not None:
            return tuple(self._fast.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        # Not verbose: the tokenizer would warn on the terminal about a prompt that is too long for the model.
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    @property
    def can_decode(self) -> bool:
        """Whether `decode` can be used: the tokenizer is one of the tokenizers library."""
        return self._fast is not None

    def pieces(self, prompt: Sequence[int], answer: Sequence[int]) -> list[str]:
        """What each of the answer's tokens adds to the text; "" where its bytes complete no character. Together they are `decode`'s."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(ids=[] if self._is_byte_level else list(prompt), skip_special_tokens=True)
        return [stream.step(self._fast, token) or "" for token in answer]

    def decode(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """The text with which the answer's tokens continue the prompt, without special tokens, decoded at once.

        Equals decoding token by token: bytes at the end that form no whole character are left out.
        """
        from tokenizers.decoders import DecodeStream

        if not answer:
            return ""
        if self._is_byte_level:  # each token means the same bytes, whatever precedes it
            text: str | None = self._fast.decode(list(answer))
        else:
            text = DecodeStream(ids=list(prompt), skip_special_tokens=True).step(self._fast, list(answer))
        if text is None or text.endswith("\ufffd"):
            stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
            text = "".join(stream.step(self._fast, token) or "" for token in answer)
        return text


def _separators(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern of the added tokens, at which a text may be split and its segments encoded alone; None: it may not.

    The tokenizers library itself splits there first, at the longest of the tokens that begin leftmost, and treats the
    segments as independent texts. There are exceptions: a token that takes white space around it along, a token that must
    be a word, and a pre-tokenizer that depends on the position in the text.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    tokens = [token for token in added if not token.normalized]
    state = json.loads(tokenizer.pre_tokenizer.__getstate__()) if tokenizer.pre_tokenizer else {"pretokenizers": []}
    steps = state.get("pretokenizers", [state])
    if (
        not tokens
        or tokenizer.encode_special_tokens
        or any(token.lstrip or token.rstrip or token.single_word for token in tokens)
        or not all(step.get("type") in POSITION_INDEPENDENT for step in steps)
    ):
        return None
    longest_first = sorted((token.content for token in tokens), key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def merge_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages without the system role: its text goes to the head of the first message, if that is the user's."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    turns = [message for message in messages if message.role != "system"]
    if system and turns and turns[0].role == "user":
        turns[0] = Message("user", f"{system}\n\n{turns[0].content}")
    return turns
