"""How far labels were trusted, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RULES = {
    "reject": "A text is kept when it is labelled as it was asked for",
    "relabel": "A text is kept with the label that it is given, whatever it was asked for",
    "intended": "A text is kept with the label that it was asked for",
}
"""Rule of labelling -> what becomes of a text."""


def enumerated(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def first_texts(plan: Mapping[str, Any]) -> str:
    """What the first texts of round 1 showed where they corrected the exam, in a sentence; else ""."""
    found = (plan.get("exam") or {}).get("first_texts")
    if not found or found["temperature"] is None:
        return ""
    return (
        f"Of the first {found['texts']} texts it labelled {found['teacher_as_asked']} as they were asked for, the seeds-only student "
        f"{found['student_as_asked']}. So its probabilities are flattened, and the student's count for more."
    )


def asked_again(plan: Mapping[str, Any]) -> str:
    """What the exam on the texts of an earlier round showed, in a sentence; "" where none was taken."""
    again = (plan.get("exam") or {}).get("again")
    if not again:
        return ""
    ways = [
        f"{again[key]} the same label {how}"
        for key, how in (
            ("opposite_order", "with its demonstrations in the opposite order"),
            ("second_form", "in its second form"),
        )
        if again[key] is not None
    ]
    ways.append(f"{again['questions_as_asked']} the label that they were asked for")
    bound = (
        f" So it is right on at most {again['at_most']:.2f} of such texts."
        if again["opposite_order"] is not None
        else ""
    )
    return f"Asked again about {again['texts']} texts of round {again['round']}, it gave {enumerated(ways)}.{bound}"


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
