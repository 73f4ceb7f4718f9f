"""Useful demonstrations: those that help the teacher most, measured by asking it.

Wang et al., "Large Language Models Are Latent Variable Models: Explaining and Finding Good Demonstrations for In-Context
Learning", NeurIPS 2023 (arXiv 2301.11916), section 3: the best demonstrations are those from which the teacher infers the
task best. They are chosen by how probable they make the task, not at random.

Where we differ: the paper learns tokens that stand for the task, with a small model whose weights it can train, and ranks
demonstrations by the probability of these tokens. A served teacher gives no gradients, so we score the evidence of the task
itself. The teacher labels validation samples while the demonstration stands for its class. The score is the log-probability
of the right label, or minus the number of mistakes where the teacher gives no probabilities. All candidates of a class are
scored on the same validation samples. Every call is journalled, and the number of calls is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import zip_longest
from math import isqrt

from evokd_data.digest import derive_random, derive_seed
from evokd_data.records import Prediction, Sample
from evokd_data.strategies import Ask, Brief
from evokd_data.strategies.demonstrations import seeds_of, without_repeats
from evokd_data.strategies.labelling import label_prompt, read_answer
from evokd_data.strategies.prompts import prompt_key
from evokd_data.tasks import Unreadable

UNREADABLE = 2.0  # mistakes that an unreadable answer counts as


class UsefulDemonstrations:
    """The better half of each class's candidates, scored when a request first needs them, with at most `calls` a round.

    A class's share of the calls is divided evenly between candidates and validation samples. With fewer than 2 of either
    nothing is scored, and all samples are candidates. At least `at_least` demonstrations are left to choose from.
    """

    def __init__(self, brief: Brief, ask: Ask, calls: int, at_least: int) -> None:
        self._brief, self._ask, self._at_least = brief, ask, at_least
        self._calls_per_class = calls // len(brief.task.labels)
        self._best_of: dict[str, asyncio.Future[Sequence[Sample]]] = {}

    async def of(self, label: str) -> Sequence[Sample]:
        """Samples of `label` to draw demonstrations from."""
        if label not in self._best_of:
            self._best_of[label] = asyncio.ensure_future(self._best(label))
        return await self._best_of[label]

    async def _best(self, label: str) -> Sequence[Sample]:
        samples = self._brief.demonstrations[label]
        companions = [seeds_of(self._brief, other)[0] for other in self._brief.task.labels if other != label]
        validation = self._validation_samples(isqrt(self._calls_per_class), {seed.id for seed in companions}, label)
        if len(validation) < 2:
            return samples
        chance = derive_random(self._brief.seed, self._brief.round, "useful", label)
        validation_ids = {sample.id for sample in validation}
        eligible = [sample for sample in samples if sample.id not in validation_ids]
        candidates = chance.sample(eligible, min(len(eligible), self._calls_per_class // len(validation)))
        if len(candidates) < 2:
            return samples
        scores = await asyncio.gather(
            *(self._score(label, i, candidate, companions, validation) for i, candidate in enumerate(candidates))
        )
        ranked = sorted(range(len(candidates)), key=lambda i: (-scores[i], i))
        return [candidates[i] for i in ranked[: max(self._at_least, len(candidates) // 2)]]

    def _validation_samples(self, count: int, companion_ids: set[str], label: str) -> list[Sample]:
        """Samples for the teacher to label: the class's own first, then by turns; the seeds of each class before others.

        At most half of the class's own samples: the others are its candidates.
        """
        turns = []
        for validated in (label, *(other for other in self._brief.task.labels if other != label)):
            samples = [sample for sample in self._brief.demonstrations[validated] if sample.id not in companion_ids]
            turns.append(samples[: len(samples) // 2] if validated == label else samples[:count])
        by_id = {sample.id: sample for turn in zip_longest(*turns) for sample in turn if sample is not None}
        return list(by_id.values())[:count]

    async def _score(
        self,
        label: str,
        candidate_index: int,
        candidate: Sample,
        companions: Sequence[Sample],
        validation: Sequence[Sample],
    ) -> float:
        """Mean over the validation samples: log-probability of the right label, or minus the number of mistakes.

        `companions` are the demonstrations of the other classes, one each.
        """
        brief = self._brief
        shown = [brief.task.show(sample) for sample in without_repeats((candidate, *companions))]

        async def score_on(index: int, sample: Sample) -> float:
            prompt = label_prompt(
                brief,
                sample.text,
                shown,
                prompt_key("label", "useful", label, candidate_index, index),
                derive_seed(brief.seed, brief.round, "useful", label, candidate_index, index),
            )
            answer = await self._ask(prompt)
            answers = prompt.variables["answers"]
            if answers and answer.choice_logprobs:
                return answer.choice_logprobs.get(answers[sample.target], -UNREADABLE)
            try:
                predicted = (
                    read_answer(brief, answer.text, sample.text)
                    if answers
                    else brief.task.read_label(answer.text, sample.text)
                )
            except Unreadable:
                return -UNREADABLE
            return -float(len(brief.task.mistakes(Prediction(sample.id, sample.target, predicted, 0.0))))

        scores = await asyncio.gather(*(score_on(index, sample) for index, sample in enumerate(validation)))
        return sum(scores) / len(scores)
