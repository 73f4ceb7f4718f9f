"""Which demonstrations help the teacher, found by asking it.

Wang et al., "Large Language Models Are Latent Variable Models: Explaining and Finding Good Demonstrations for In-Context
Learning", NeurIPS 2023 (arXiv 2301.11916), section 3: the best demonstrations are those that make the teacher infer the
task best, and they are chosen by how probable they make it, not at random.

Where we differ: the paper learns tokens that stand for the task with a small model whose weights it can train, and ranks
demonstrations by the probability of these tokens. A served teacher gives no gradients, so the task's own evidence is
scored: a demonstration is as good as the teacher's labels of held samples when it stands for its class, by the
log-probability of the right label where the teacher gives it, by the mistakes it makes elsewhere. Scores of all
candidates of a class are of the same held samples. All asking is journalled, and bounded by a number of calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import zip_longest
from math import isqrt

from evokd_data.digest import derive_random, derive_seed
from evokd_data.records import Prediction, Sample
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.asking import label_prompt, request_key, seeds_of
from evokd_data.tasks import Unreadable

UNREADABLE = 2.0  # mistakes that an answer counts from which nothing can be read


class Useful:
    """The better half of each class's candidates, scored when a request first needs them; `calls` a round at most.

    A class's share of the calls is spent on candidates and held samples alike; below 2 of each nothing is scored, and
    the choice is among all samples. `at_least` demonstrations are left to choose from.
    """

    def __init__(self, brief: Brief, ask: Ask, calls: int, at_least: int) -> None:
        self._brief, self._ask, self._at_least = brief, ask, at_least
        self._share = calls // len(brief.task.labels)
        self._found: dict[str, asyncio.Future[Sequence[Sample]]] = {}

    async def of(self, label: str) -> Sequence[Sample]:
        """Samples of `label` to draw demonstrations from."""
        if label not in self._found:
            self._found[label] = asyncio.ensure_future(self._best(label))
        return await self._found[label]

    async def _best(self, label: str) -> Sequence[Sample]:
        everything = self._brief.demonstrations[label]
        others = [seeds_of(self._brief, other)[0] for other in self._brief.task.labels if other != label]
        held = self._held(isqrt(self._share), {sample.id for sample in others}, label)
        if len(held) < 2:
            return everything
        chance = derive_random(self._brief.seed, self._brief.round, "useful", label)
        rest = [sample for sample in everything if sample.id not in {one.id for one in held}]
        candidates = chance.sample(rest, min(len(rest), self._share // len(held)))
        if len(candidates) < 2:
            return everything
        scores = await asyncio.gather(
            *(self._score(label, place, one, others, held) for place, one in enumerate(candidates))
        )
        ranked = sorted(range(len(candidates)), key=lambda place: (-scores[place], place))
        return [candidates[place] for place in ranked[: max(self._at_least, len(candidates) // 2)]]

    def _held(self, count: int, shown: set[str], label: str) -> list[Sample]:
        """Samples whose labels are to be told, the class's own first, then by turns; the seeds of each before the rest.

        Of the class itself at most half: the others are its candidates.
        """
        turns = []
        for other in (label, *(one for one in self._brief.task.labels if one != label)):
            own = [sample for sample in self._brief.demonstrations[other] if sample.id not in shown]
            turns.append(own[: len(own) // 2] if other == label else own[:count])
        found = {sample.id: sample for turn in zip_longest(*turns) for sample in turn if sample is not None}
        return list(found.values())[:count]

    async def _score(
        self, label: str, place: int, candidate: Sample, others: Sequence[Sample], held: Sequence[Sample]
    ) -> float:
        """Mean over the held samples: log-probability of the right label, or minus the mistakes made."""
        brief = self._brief
        shown = [brief.task.show(sample) for sample in (candidate, *others)]

        async def one(number: int, sample: Sample) -> float:
            prompt = label_prompt(
                brief,
                sample.text,
                shown,
                request_key("label", "useful", label, place, number),
                derive_seed(brief.seed, brief.round, "useful", label, place, number),
            )
            answer = await self._ask(prompt)
            if prompt.variables["codes"]:
                scores = answer.choice_logprobs or {}
                return scores.get(prompt.variables["codes"][sample.target], -UNREADABLE)
            try:
                got = brief.task.read_label(answer.text, sample.text)
            except Unreadable:
                return -UNREADABLE
            return -float(len(brief.task.mistakes(Prediction(sample.id, sample.target, got, 0.0))))

        scores = await asyncio.gather(*(one(number, sample) for number, sample in enumerate(held)))
        return sum(scores) / len(scores)
