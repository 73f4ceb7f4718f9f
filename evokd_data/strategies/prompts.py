"""How a strategy makes a prompt: its key, and the description of the task that all prompts of a round share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from evokd_data.records import Constraint, Prompt, Sampling
from evokd_data.strategies import Brief


def prompt_key(template: str, *path: int | str) -> str:
    """A prompt's place in the round, such as "label/000012/3".

    `template/<index>` belongs to one request alone. `template/<name>` is shared by all requests. Names are never numeric:
    one that is gets a "=" before it.
    """
    head, *tail = path
    head = f"={head}" if isinstance(head, str) and head.isdecimal() else head
    return "/".join([template, *(f"{part:06d}" if isinstance(part, int) else part for part in (head, *tail))])


def make_prompt(
    brief: Brief,
    key: str,
    template: str,
    variables: Mapping[str, Any],
    *,
    turns: Sequence[Mapping[str, Any]] = (),
    seed: int,
    constraint: Constraint | None,
    sampling: Sampling | None = None,
) -> Prompt:
    """The template rendered with `variables` and, between its messages, `turns`: demonstrations as turns of the chat.

    Without `sampling` the teacher samples as the recipe says.

    Raises RecipeError when the template cannot be rendered.
    """
    messages = brief.templates.render(template, variables, turns)
    return Prompt(key, template, messages, seed, sampling or brief.sampling, constraint, variables)


@lru_cache(maxsize=1)
def task_variables(brief: Brief) -> Mapping[str, Any]:
    """The task as templates see it.

    All prompts of a round get the very same object: templates and journal recognise it by identity, and so render and
    encode what depends on it once.
    """
    return brief.task.describe()
