"""How far labels were trusted, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RULES = {
    "reject": "A text is kept when it is labelled as it was asked for",
    "relabel": "A text is kept with the label that it is given, whatever it was asked for",
    "intended": "A text is kept with the label that it was asked for",
}
"""Rule of labelling -> what becomes of a text."""


def what_becomes_of_a_text(plan: Mapping[str, Any]) -> str:
    """What becomes of a text by its label, in a sentence."""
    labelling = plan.get("labelling")
    if not labelling:
        return ""
    least = (
        f", if that label is right with a probability of at least {labelling['threshold']:g}"
        if labelling["threshold"]
        else ""
    )
    judges = " The probability is that of both together." if labelling["student_weight"] and least else ""
    return f"{RULES[labelling['rule']]}{least}.{judges}"
