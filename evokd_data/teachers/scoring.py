"""Choices scored by the first token of each: one token of output tells the teacher's probability of every choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evokd_data.errors import TeacherError


def first_tokens(choices: Sequence[str], tokens: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The first token of each choice, given the tokens of each. Raises TeacherError when two begin alike, for then no
    score of one is a score of it alone."""
    for choice, own in zip(choices, tokens, strict=True):
        if not own:
            raise TeacherError(f"the choice {choice!r} has no token in the teacher's vocabulary, so no score either")
    first = tuple(own[0] for own in tokens)
    if len(set(first)) < len(first):
        twice = next(token for token in first if first.count(token) > 1)
        alike = [choice for choice, token in zip(choices, first, strict=True) if token == twice]
        raise TeacherError(
            f"choices {', '.join(map(repr, alike[:3]))} begin with the same token of the teacher's vocabulary: "
            "scores need choices with different first tokens, such as A, B, C"
        )
    return first


def renormalised(choices: Sequence[str], logprobs: Sequence[float]) -> dict[str, float]:
    """Natural log-probabilities over the choices alone."""
    top = max(logprobs)
    total = top + math.log(sum(math.exp(value - top) for value in logprobs))
    return {choice: value - total for choice, value in zip(choices, logprobs, strict=True)}
