"""Control tokens: the vocabulary entries that structure a chat, such as <|im_end|>. A text that spells one is a text.

A chat template writes turns as control tokens, and a tokenizer finds them wherever their spelling stands. So a user's text with
"<|im_end|>" in it would end its own turn and could begin a forged one. Here the spelling in a message is replaced by a *mask*
before the template is rendered, and encoded as ordinary text afterwards.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from evokd_data.records import Message

TAG_LIKE = re.compile(r"\W.*\w.*\W", re.DOTALL)
"""How a token looks that a template writes as structure: <｜User｜>, [INST], </think>. Words and white space are none."""

SPELLED = re.compile(
    r"<[|｜][^\s<>|｜]{1,64}[|｜]?>|<[^\s<>|｜]{1,64}[|｜]>|\[\|[^\s\[\]|]{1,64}\|\]"  # <|im_end|>, <｜User｜>, <|turn>, [|user|]
    r"|</?(?:s|bos|eos|pad|unk|mask|sop|eop|think|tool_call|tool_response|(?:start|end)_of_\w{1,32}|unused\d+|extra_id_\d+"
    r"|seed:\w{1,32}|SPECIAL_\d+|(?:BOS|EOS|PAD|UNK)_TOKEN)>"
    r"|\[/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|gMASK|sMASK|CLS|SEP|MASK"
    r"|PAD|UNK)\]|<<\/?SYS>>"
)
"""The control tokens of the families of models, for a server whose vocabulary is not at hand."""
JOINER = "\u200d"


@lru_cache(maxsize=256)  # prompts of one template share a long message
def neutralised(text: str) -> str:
    """The text with a zero-width joiner after the first character of every control token that it spells.

    A server tokenizes the whole prompt at once: it cannot be told which part of it is a message.
    """
    return SPELLED.sub(lambda match: match[0][0] + JOINER + match[0][1:], text)


def restored(text: str) -> str:
    """An answer without the joiners that it copied from a neutralised text."""
    return re.sub(f"(?<=[<\\[]){JOINER}", "", text) if JOINER in text else text


def control_tokens(tokenizer: Any, template: str) -> dict[str, int | None]:
    """Spelling -> id of the added tokens that are marked as special, or that the chat template writes as tags.

    Tokens for white space or HTML, which texts are full of, are none.
    """
    added = {token.content: (id_, token) for id_, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    special = {str(token): None for token in getattr(tokenizer, "all_special_tokens", ()) if str(token) not in added}
    return special | {
        content: id_
        for content, (id_, token) in added.items()
        if token.special or (TAG_LIKE.fullmatch(content) and content in template)
    }


def any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    """A pattern of these texts, the longest first; it matches nothing when there are none."""
    longest_first = sorted(filter(None, spellings), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")


class Mask:
    """Stands for the control tokens in some messages: a number between two words that none of the messages contains.

    The words are letters, because a template may write a message as JSON.
    """

    def __init__(self, pattern: re.Pattern[str], messages: Sequence[Message]) -> None:
        self._pattern = pattern
        contents = [message.content for message in messages]
        words = (f"qXz{number}qXz" for number in itertools.count())
        self._word = next(word for word in words if not any(word in content for content in contents))
        self._mask = re.compile(f"{self._word}([0-9]+){self._word}")
        self._spellings: list[str] = []

    def hide(self, text: str) -> str:
        """The text with masks in place of control tokens."""

        def masked(match: re.Match[str]) -> str:
            self._spellings.append(match[0])
            return f"{self._word}{len(self._spellings) - 1}{self._word}"

        return self._pattern.sub(masked, text)

    def hides_in(self, text: str) -> bool:
        """Whether the text has a mask in it."""
        return self._mask.search(text) is not None

    def restore(self, text: str) -> str:
        """The text with the control tokens' spellings in place of masks."""
        return self._mask.sub(lambda match: self._spellings[int(match[1])], text)

    def restore_cut(self, text: str) -> list[str]:
        """The restored text in pieces, none of which holds a masked spelling whole: each is cut after its first character."""
        pieces = [""]
        for position, part in enumerate(self._mask.split(text)):
            if position % 2 == 0:
                pieces[-1] += part
                continue
            spelling = self._spellings[int(part)]
            while self._pattern.search(spelling):
                cut = self._pattern.search(spelling).start() + 1  # type: ignore[union-attr]
                pieces[-1] += spelling[:cut]
                pieces.append("")
                spelling = spelling[cut:]
            pieces[-1] += spelling
        return pieces


def without_control_tokens(tokenizer: Any, spellings: Iterable[str]) -> Any:
    """A copy of a `tokenizers.Tokenizer` to which these spellings are ordinary text. All other added tokens stay."""
    from tokenizers import Tokenizer

    control = set(spellings)
    state = json.loads(tokenizer.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] in control
    plain = Tokenizer.from_str(json.dumps(state))
    plain.encode_special_tokens = True
    plain.no_truncation()
    plain.no_padding()
    return plain
