"""The strategy contract. A strategy is a published method of making samples: one file each, named after its paper."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from evokd_data.records import (
    Completion,
    Draft,
    GenerationRequest,
    LabelForm,
    Labelling,
    Origin,
    Prompt,
    Quota,
    Sample,
    Sampling,
    Weakness,
)
from evokd_data.tasks import Task
from evokd_data.templates import Templates

STRATEGIES = {
    "attrprompt": "evokd_data.strategies.attrprompt:AttrPrompt",
    "auggpt": "evokd_data.strategies.auggpt:AugGPT",
    "eda": "evokd_data.strategies.eda:EDA",
    "evokd": "evokd_data.strategies.evokd:EvoKD",
    "llmda": "evokd_data.strategies.llmda:LLMDA",
    "none": "evokd_data.strategies.none:NoGeneration",
    "proggen": "evokd_data.strategies.proggen:ProgGen",
    "static": "evokd_data.strategies.static:Static",
    "sungen": "evokd_data.strategies.sungen:SunGen",
    "zerogen": "evokd_data.strategies.zerogen:ZeroGen",
}

POOL = "pool"
"""The strategy's name in the origin of the user's own texts, which were not written for the round."""

WRAPPERS = {"pool": "evokd_data.strategies.pooling:WithPool"}
"""Section of the recipe -> the class that wraps the recipe's strategy when the section is there."""

Ask = Callable[[Prompt], Awaitable[Completion]]
"""Answers one prompt: from the journal when the journal has the answer, else from the teacher."""

DEFAULT_LABELLING = Labelling(LabelForm("names", turns=False, demonstrations=24))
"""Where nothing was measured: a label's name under demonstrations in the system message, which every template can show."""

TextProblem = tuple[str, str]
"""(reason of a rejection, its detail) that needs nothing but the text."""
NO_PROBLEM: TextProblem = ("", "")

CheckTexts = Callable[[Sequence[str], Sequence[Origin]], Sequence[TextProblem]]
"""The problem of each text of one request, given where the texts come from; NO_PROBLEM for a text that may be labelled."""


def no_problems(texts: Sequence[str], origins: Sequence[Origin]) -> list[TextProblem]:
    """Every text may be labelled: where no filters are at work."""
    return [NO_PROBLEM for _ in texts]


Write = Callable[[GenerationRequest], Awaitable[Sequence[Draft]]]
"""Turns one request into its drafts."""


@dataclass(frozen=True, slots=True, eq=False)  # there is one brief for each round: compared by identity
class Brief:
    """All that a strategy knows when it plans and writes a round. It holds neither dev nor test, so their texts cannot leak.

    `demonstrations` are the samples of all earlier rounds that may be shown to the teacher, by label, in index order: the
    seeds come first, because they are round 0's. `budget` is the number of texts to ask for. `pool` are real texts chosen to
    be labelled; they count towards the budget. `soft_labels`: samples keep the probability of each class. `neighbours`: the classes
    most like each class, the nearest first; empty where nobody compared them. `earlier` are the samples of all earlier rounds, in index
    order. `check_texts` says which texts are dropped whatever their label: no label is asked for them. It knows test and dev by
    signatures alone.
    """

    task: Task
    templates: Templates
    sampling: Sampling
    round: int
    seed: int
    budget: int
    demonstrations: Mapping[str, Sequence[Sample]]
    weaknesses: Sequence[Weakness] = ()
    pool: Sequence[str] = ()
    labelling: Labelling = DEFAULT_LABELLING
    soft_labels: bool = False
    neighbours: Mapping[str, Sequence[str]] = field(default_factory=dict)
    earlier: Sequence[Sample] = ()
    check_texts: CheckTexts = no_problems


class Strategy(Protocol):
    """A strategy is a frozen dataclass whose fields are the recipe's `strategy` table."""

    name: ClassVar[str]

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        """Names of the prompt templates it renders: their digests belong to the round's identity."""

    @property
    def per_request(self) -> int:
        """The number of texts asked for in one generate call."""

    def accepts(self, task: Task) -> str | None:
        """Why this strategy cannot work on the task, or None when it can."""

    def allot(self, brief: Brief) -> Sequence[Quota]:
        """The plan: how the budget is spent. The quotas' samples sum to `brief.budget`; without quotas nothing is written."""

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """A coroutine function that turns one request into its drafts, at most `request.count`, in order.

        Requests run concurrently and in any order. The drafts of one request must not depend on another request, except
        through answers that both get from `ask`.
        """
