"""The budget of a run: what its teacher may still be asked. A run that has spent it ends with what is complete.

Nothing is asked that might exceed the budget: each prompt reserves the most that prompt and answer of its template took so far,
at first what they may take at most. A prompt that does not fit waits for those in flight, whose answers are journalled, and is
then refused. So a run that goes on with a larger budget asks nothing twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from evokd_data.atomic_files import write_json
from evokd_data.errors import BudgetSpent
from evokd_data.recipe import Recipe
from evokd_data.recipe_sections import Budget, Prices
from evokd_data.records import Completion, Prompt
from evokd_data.storage.journal import Journal
from evokd_data.storage.workspace import Workspace, read_json

CHARACTERS_PER_TOKEN = 3
"""Of a prompt that nothing like it was asked before: fewer than most tokenizers need for most languages."""


@dataclass
class Meter:
    """What a run has used, and whether its teacher may be asked once more.

    `prompt_tokens`, `completion_tokens` and `seconds` begin with what earlier processes used.
    """

    budget: Budget = field(default_factory=Budget)
    prices: Prices | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._most: dict[str, tuple[float, float]] = {}
        """Template -> the most tokens that a prompt of it took, and an answer."""
        self._in_flight = 0
        self._reserved = 0.0, 0.0
        """Prompt and completion tokens that the prompts in flight will take."""
        self._changed = asyncio.Event()
        self._spent = ""

    @property
    def elapsed(self) -> float:
        """Seconds of work, earlier processes included."""
        return self.seconds + time.monotonic() - self._started

    async def complete(self, prompt: Prompt, ask: Callable[[Prompt], Awaitable[Completion]]) -> Completion:
        """The answer of `ask`, counted. Raises BudgetSpent instead of asking when the budget might not suffice."""
        reservation = await self._admit(prompt)
        try:
            answer = await ask(prompt)
        finally:
            self._release(reservation)
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        before = self._most.get(prompt.template, (0, 0))
        self._most[prompt.template] = max(before[0], answer.prompt_tokens), max(before[1], answer.completion_tokens)
        return answer

    async def _admit(self, prompt: Prompt) -> tuple[float, float]:
        while True:
            reservation = self._expected(prompt)
            problem = self._spent or self._problem(reservation)
            if not problem:
                self._in_flight += 1
                self._reserved = self._reserved[0] + reservation[0], self._reserved[1] + reservation[1]
                return reservation
            if not self._in_flight:
                self._spent = problem
                raise BudgetSpent(problem)
            self._changed.clear()
            await self._changed.wait()

    def _release(self, reservation: tuple[float, float]) -> None:
        self._in_flight -= 1
        left = self._reserved[0] - reservation[0], self._reserved[1] - reservation[1]
        self._reserved = left if self._in_flight else (0.0, 0.0)  # a sum of thirds of characters drifts
        self._changed.set()

    def _expected(self, prompt: Prompt) -> tuple[float, float]:
        """(prompt tokens, completion tokens) that the answer will take, as far as that can be known."""
        if prompt.template in self._most:
            return self._most[prompt.template]
        characters = sum(len(message.content) for message in prompt.messages)
        return characters / CHARACTERS_PER_TOKEN, prompt.sampling.max_tokens

    def require_left(self, prompt: Prompt | None = None) -> None:
        """Raises BudgetSpent when nothing may be asked any more; with a `prompt`, when it may not be asked."""
        if problem := self._spent or self._problem((0.0, 1.0) if prompt is None else self._expected(prompt)):
            raise BudgetSpent(problem)

    def count_round(self, tokens_before: tuple[int, int], journal: Journal) -> None:
        """Count answers that workers brought back into the round's journal. `tokens_before`: the meter's when the round began.

        Raises BudgetSpent as `require_left` does.
        """
        self.prompt_tokens = tokens_before[0] + journal.prompt_tokens
        self.completion_tokens = tokens_before[1] + journal.completion_tokens
        self.require_left()

    def _problem(self, reservation: tuple[float, float]) -> str:
        """Why this much more may not be asked for; "" when it may."""
        budget = self.budget
        prompt_tokens = self.prompt_tokens + self._reserved[0] + reservation[0]
        completion_tokens = self.completion_tokens + self._reserved[1] + reservation[1]
        if budget.tokens is not None and prompt_tokens + completion_tokens > budget.tokens:
            return f"budget.tokens: {self.prompt_tokens + self.completion_tokens:,} of {budget.tokens:,} are used; raise it to go on"
        if budget.hours is not None and self.elapsed > budget.hours * 3600:
            return f"budget.hours: {self.elapsed / 3600:.2f} of {budget.hours:g} are over; raise it to go on"
        if (
            budget.cost is not None
            and self.prices is not None
            and self.prices.of(prompt_tokens, completion_tokens) > budget.cost
        ):
            used = self.prices.of(self.prompt_tokens, self.completion_tokens)
            return f"budget.cost: {used:.4f} of {budget.cost:g} dollars are spent; raise it to go on"
        return ""


@contextmanager
def metered(recipe: Recipe, workspace: Workspace, first_own_round: int = 0) -> Iterator[Meter]:
    """The meter of a run, with what its folder tells of earlier processes. With `budget.hours` it writes the time back."""
    meter = Meter(recipe.budget, recipe.prices)
    for folder in workspace.rounds():
        if folder.index >= first_own_round:
            if folder.generated.exists():
                totals = read_json(folder.generated)
                meter.prompt_tokens += totals["prompt_tokens"]
                meter.completion_tokens += totals["completion_tokens"]
                meter.seconds += totals["seconds"]
            elif folder.journal.is_dir():
                with Journal(folder.journal) as journal:
                    meter.prompt_tokens += journal.prompt_tokens
                    meter.completion_tokens += journal.completion_tokens
            if folder.metrics.exists():
                meter.seconds += read_json(folder.metrics)["seconds"]
    if workspace.teacher_test_journal.is_dir():
        with Journal(workspace.teacher_test_journal) as journal:
            meter.prompt_tokens += journal.prompt_tokens
            meter.completion_tokens += journal.completion_tokens
    if workspace.spent.exists():
        meter.seconds = max(meter.seconds, read_json(workspace.spent)["seconds"])
    try:
        yield meter
    finally:
        if recipe.budget.hours is not None:
            write_json(workspace.spent, {"seconds": round(meter.elapsed, 1)})
