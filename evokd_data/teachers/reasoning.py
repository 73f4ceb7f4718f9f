"""What a model wrote, without the reasoning before it."""

from __future__ import annotations

import re

MARKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
"""How families of models open and close their reasoning."""
CLOSED_ON_A_LINE = re.compile(rf"^[ \t]*(?:{'|'.join(map(re.escape, MARKS.values()))})[ \t]*$", re.MULTILINE)
CLOSED = re.compile("|".join(map(re.escape, MARKS.values())))


def strip_reasoning(text: str, thinking: bool) -> str:
    """The text after the model's reasoning; "" when the reasoning was cut off before its end.

    The chat template may have opened the reasoning, so that the text holds only its closing mark. `thinking`: the model was
    asked to reason. Models that always do close it on a line of its own.
    """
    for opening, closing in MARKS.items():
        if text.lstrip().startswith(opening):
            return strip_reasoning(text.partition(closing)[2].lstrip(), thinking=False)
    closed = (CLOSED if thinking else CLOSED_ON_A_LINE).search(text)
    return text[closed.end() :].lstrip() if closed else text
