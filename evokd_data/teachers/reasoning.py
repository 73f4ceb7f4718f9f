"""What a model wrote, without the reasoning before it."""

from __future__ import annotations


def strip_reasoning(text: str, thinking: bool) -> str:
    """The text after the model's reasoning; "" when the reasoning was cut off before its end.

    `thinking`: the model was asked to reason. Then the chat template may have opened the reasoning, so that the text holds
    only its closing tag.
    """
    if not text.lstrip().startswith("<think>") and not (thinking and "</think>" in text):
        return text
    return text.partition("</think>")[2].lstrip()
