"""Dividing a budget of texts into whole numbers, and a plan's quotas into requests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

from evokd_data.digest import derive_seed
from evokd_data.records import GenerationRequest, Quota


def divide(budget: int, weights: Sequence[float], turn: int = 0) -> list[int]:
    """`budget` split in proportion to `weights`, in whole numbers that sum to it (largest remainder).

    Equal remainders are served from place `turn` on, so that over rounds nobody is always the one left out.
    """
    total = sum(weights)
    if not weights or total <= 0:
        return [0] * len(weights)
    exact = [budget * weight / total for weight in weights]
    shares = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], (i - turn) % len(weights)))
    for i in order[: budget - sum(shares)]:
        shares[i] += 1
    return shares


def evenly(labels: Sequence[str], budget: int, turn: int) -> list[Quota]:
    """Every class alike, difficulty left open."""
    shares = divide(budget, [1.0] * len(labels), turn)
    return [Quota(label, samples) for label, samples in zip(labels, shares, strict=True) if samples]


def stratified(labels: Sequence[str], budget: int, easy: float, turn: int) -> list[Quota]:
    """The base of a plan: every class alike, each in easy and hard texts."""
    quotas = []
    for place, (label, samples) in enumerate(zip(labels, divide(budget, [1.0] * len(labels), turn), strict=True)):
        simple, hard = divide(samples, [easy, 1 - easy], turn + place)
        quotas += [Quota(label, simple, "easy"), Quota(label, hard, "hard")]
    return [quota for quota in quotas if quota.samples]


class requests(Sequence[GenerationRequest]):  # noqa: N801 - read as what it makes, like range
    """The plan as generate calls of at most `per_request` texts, quota after quota: requests that share a prompt's
    beginning follow each other, and the engine finds it in its prefix cache (4 to 8 % faster, measured).

    Each is made when it is looked at: a round of a million texts is as large in memory as its quotas.
    """

    def __init__(self, quotas: Sequence[Quota], per_request: int, seed: int, round: int) -> None:
        self._quotas = quotas
        self._per_request = per_request
        self._place = seed, round
        self._ends = list(accumulate(-(-quota.samples // per_request) for quota in quotas))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> GenerationRequest: ...
    @overload
    def __getitem__(self, index: slice) -> list[GenerationRequest]: ...
    def __getitem__(self, index: int | slice) -> GenerationRequest | list[GenerationRequest]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect_right(self._ends, index)
        quota = self._quotas[number]
        before = self._per_request * (index - (self._ends[number - 1] if number else 0))
        count = min(self._per_request, quota.samples - before)
        return GenerationRequest(index, quota, count, derive_seed(*self._place, "generate", index))
