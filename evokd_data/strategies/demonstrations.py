"""Demonstrations: labelled samples that are shown in prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile, zip_longest
from typing import Any

from evokd_data.digest import derive_random
from evokd_data.records import GenerationRequest, Sample
from evokd_data.strategies import Brief

MAX_WHEN_LABELLING = 24  # demonstrations in a labelling prompt: a shared prefix, so the engine computes it once


def draw_demonstrations(
    brief: Brief, request: GenerationRequest, count: int, candidates: Sequence[Sample] | None = None
) -> list[Mapping[str, Any]]:
    """Samples of the request's target to show when texts are written, as templates see them.

    The first is a seed. The others are drawn from `candidates`; without them, from all earlier samples of the target. Each
    request draws anew: varied demonstrations are the cheapest source of varied texts.
    """
    random = derive_random(request.seed, "demonstrations")
    seeds = seeds_of(brief, request.quota.target)
    chosen: list[Sample] = random.sample(seeds, min(1, count, len(seeds)))
    pool = brief.demonstrations.get(request.quota.target, ()) if candidates is None else candidates
    for index in random.sample(range(len(pool)), min(count, len(pool))):  # indices, because samples are read from disk
        sample = pool[index]
        if len(chosen) < count and sample not in chosen:
            chosen.append(sample)
    return [brief.task.show(sample) for sample in chosen]


def labelling_demonstrations(brief: Brief) -> Sequence[Mapping[str, Any]]:
    """Seeds to show in labelling prompts, evenly over the classes. The same object in every prompt of the round."""
    return _seeds(brief).shown


def seeds_of(brief: Brief, label: str) -> Sequence[Sample]:
    """The seeds of a class, in order; never empty, because every class has one."""
    return _seeds(brief).by_label[label]


@dataclass(frozen=True, slots=True)
class _Seeds:
    """The seeds of a round by class, and those shown in labelling prompts."""

    by_label: Mapping[str, Sequence[Sample]]
    shown: Sequence[Mapping[str, Any]]


@lru_cache(maxsize=1)
def _seeds(brief: Brief) -> _Seeds:
    """Read once a round, not once for every text that is labelled."""
    by_label = {label: list(_leading_seeds(brief.demonstrations[label])) for label in brief.task.labels}
    return _Seeds(by_label, _in_turns(brief, by_label))


def _leading_seeds(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Seeds begin each list of samples: the later samples need not be read."""
    return takewhile(lambda sample: sample.origin.round == 0, samples)


def _in_turns(brief: Brief, by_label: Mapping[str, Sequence[Sample]]) -> Sequence[Mapping[str, Any]]:
    """The first seed of each class, then the second of each, and so on, as templates see them."""
    shown: list[Mapping[str, Any]] = []
    for turn in zip_longest(*by_label.values()):
        shown += [brief.task.show(sample) for sample in turn if sample is not None]
        if len(shown) >= MAX_WHEN_LABELLING:
            break
    return shown[:MAX_WHEN_LABELLING]
