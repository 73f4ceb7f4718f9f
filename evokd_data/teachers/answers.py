"""What a model wrote, without what it thought."""

from __future__ import annotations


def without_thoughts(text: str, thinking: bool) -> str:
    """What follows the model's reasoning; nothing when it was cut off before its end.

    `thinking`: the model was asked to reason; then a text counts that only ends a thought which the template began.
    """
    if not text.lstrip().startswith("<think>") and not (thinking and "</think>" in text):
        return text
    return text.partition("</think>")[2].lstrip()
