"""Refusals: prompts that a server or an engine refused alone. A few are rejections; too many say that something is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from evokd_data.errors import TeacherError
from evokd_data.records import Completion

if TYPE_CHECKING:
    from evokd_data.recipe import Recipe

ENOUGH_REFUSED = 20
"""Refusals before their share counts, unless nothing more is to come."""
EXAMPLES = 3


class Refusals:
    """Counts refusals among texts or answers, and keeps a few of the words they came with."""

    def __init__(self) -> None:
        self.count = 0
        self._examples: list[str] = []

    def add(self, why: str) -> None:
        self.count += 1
        if why not in self._examples and len(self._examples) < EXAMPLES:
            self._examples.append(why)

    def require_few(self, recipe: Recipe, decided: int, whole: bool = False) -> None:
        """Raises TeacherError when more than the recipe's share of the texts `decided` so far were refused.

        `whole`: no more are to come. Then a few are too many when they are most of them.
        """
        enough = self.count >= ENOUGH_REFUSED or (whole and 2 * self.count > decided)
        if enough and self.count > recipe.filters.max_refused * decided:
            raise TeacherError(
                f"{recipe.path}: the teacher refused {self.count} of {decided} prompts, more than filters.max_refused "
                f"({recipe.filters.max_refused}) allows: {'; '.join(self._examples)}; mend the server or teacher.dialect and run "
                "again, which asks for them anew, or raise filters.max_refused"
            )


def require_answers(recipe: Recipe, answers: Iterable[Completion]) -> None:
    """Raises TeacherError when too many of these answers, all there are, are refusals."""
    refusals, decided = Refusals(), 0
    for answer in answers:
        decided += 1
        if answer.refusal is not None:
            refusals.add(answer.refusal)
    refusals.require_few(recipe, decided, whole=True)
