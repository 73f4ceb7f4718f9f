"""Dividing a budget of texts into whole numbers, and a plan's cells into requests."""

from __future__ import annotations

from collections.abc import Sequence

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


def requests(cells: Sequence[Cell], per_request: int, seed: int, round: int) -> list[Request]:
    """The plan as generate calls of at most `per_request` texts, cell after cell: requests that share a prompt's
    beginning follow each other, and the engine finds it in its prefix cache (4 to 8 % faster, measured)."""
    made: list[Request] = []
    for cell in cells:
        left = cell.samples
        while left > 0:
            index = len(made)
            made.append(Request(index, cell, min(per_request, left), derive_seed(seed, round, "generate", index)))
            left -= per_request
    return made
