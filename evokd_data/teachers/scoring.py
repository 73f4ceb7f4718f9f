"""Scores of choices: the first token of each choice stands for it, so one token of output gives the teacher's probability
of every choice. Scores of an answer's tokens, by their characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evokd_data.errors import TeacherError
from evokd_data.records import is_log_probability

CERTAIN = -1e-6
"""From this log-probability on a token says nothing about what was decided there, and is left out."""


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


def token_logprobs(text: str, pieces: Sequence[str], logprobs: Sequence[float]) -> dict[str, float] | None:
    """ "start:end" of a token's characters in `text` -> its log-probability, see Completion.choice_logprobs.

    `pieces`: what each token of the answer adds to the text, "" where it completes no character. `text` is the answer, or the part
    of it that counts. None when it is no part of it, or when a number is no log-probability.
    """
    position = -"".join(pieces).rfind(text)
    if position > 0 or len(pieces) != len(logprobs) or not all(map(is_log_probability, logprobs)):
        return None
    scores: dict[str, float] = {}
    for piece, value in zip(pieces, logprobs, strict=True):
        start, end = max(0, position), min(len(text), position + max(1, len(piece)))
        position += len(piece)
        if start < end and value < CERTAIN:
            name = f"{start}:{end}"  # two tokens may write one character
            scores[name] = scores.get(name, 0.0) + value
    return scores
