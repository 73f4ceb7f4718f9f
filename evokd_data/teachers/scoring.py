"""Scores of choices: the first token of each choice stands for it, so one token of output gives the teacher's probability
of every choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evokd_data.errors import TeacherError


def first_tokens(choices: Sequence[str], tokens: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The first token id of each choice; `tokens` are the token ids of each.

    Raises TeacherError when a choice has no token, or when two begin with the same one: its probability would be that of
    both together.
    """
    for choice, ids in zip(choices, tokens, strict=True):
        if not ids:
            raise TeacherError(f"the choice {choice!r} has no token in the teacher's vocabulary, so no score either")
    first = tuple(ids[0] for ids in tokens)
    if len(set(first)) < len(first):
        repeated = next(token for token in first if first.count(token) > 1)
        alike = [choice for choice, token in zip(choices, first, strict=True) if token == repeated]
        raise TeacherError(
            f"choices {', '.join(map(repr, alike[:3]))} begin with the same token of the teacher's vocabulary: "
            "scores need choices with different first tokens, such as A, B, C"
        )
    return first


def renormalised(choices: Sequence[str], logprobs: Sequence[float]) -> dict[str, float]:
    """Natural log-probabilities over the choices alone: their probabilities add up to 1."""
    top = max(logprobs)
    total = top + math.log(sum(math.exp(value - top) for value in logprobs))
    return {choice: value - total for choice, value in zip(choices, logprobs, strict=True)}
