"""Dividing a budget of texts into whole numbers, and a plan's cells into requests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

from evokd_data.digest import derive_seed
from evokd_data.records import Cell, Request


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


def evenly(aims: Sequence[str], budget: int, turn: int) -> list[Cell]:
    """Every class alike, difficulty left open."""
    shares = divide(budget, [1.0] * len(aims), turn)
    return [Cell(aim, samples) for aim, samples in zip(aims, shares, strict=True) if samples]


def stratified(aims: Sequence[str], budget: int, easy: float, turn: int) -> list[Cell]:
    """The base of a plan: every class alike, each in easy and hard texts."""
    cells = []
    for place, (aim, samples) in enumerate(zip(aims, divide(budget, [1.0] * len(aims), turn), strict=True)):
        simple, hard = divide(samples, [easy, 1 - easy], turn + place)
        cells += [Cell(aim, simple, "easy"), Cell(aim, hard, "hard")]
    return [cell for cell in cells if cell.samples]


class requests(Sequence[Request]):  # noqa: N801 - read as what it makes, like range
    """The plan as generate calls of at most `per_request` texts, cell after cell: requests that share a prompt's
    beginning follow each other, and the engine finds it in its prefix cache (4 to 8 % faster, measured).

    Each is made when it is looked at: a round of a million texts is as large in memory as its cells.
    """

    def __init__(self, cells: Sequence[Cell], per_request: int, seed: int, round: int) -> None:
        self._cells = cells
        self._per_request = per_request
        self._place = seed, round
        self._ends = list(accumulate(-(-cell.samples // per_request) for cell in cells))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect_right(self._ends, index)
        cell = self._cells[number]
        before = self._per_request * (index - (self._ends[number - 1] if number else 0))
        count = min(self._per_request, cell.samples - before)
        return Request(index, cell, count, derive_seed(*self._place, "generate", index))
