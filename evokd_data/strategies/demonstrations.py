"""Demonstrations: labelled samples that are shown in prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile, zip_longest
from typing import Any

from evokd_data.digest import derive_random
from evokd_data.records import GenerationRequest, Sample
from evokd_data.strategies import Brief
from evokd_data.tasks import Task

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
    indices = random.sample(range(len(pool)), min(count, len(pool)))  # indices, because samples are read from disk
    return [
        brief.task.show(sample) for sample in without_repeats([*chosen, *(pool[index] for index in indices)])[:count]
    ]


def without_repeats(samples: Iterable[Sample]) -> list[Sample]:
    """The samples whose texts differ from all texts before them by more than case and white space: a text that is shown twice counts
    twice with the teacher."""
    by_text: dict[str, Sample] = {}
    for sample in samples:
        by_text.setdefault(" ".join(sample.text.casefold().split()), sample)
    return list(by_text.values())


def draw_turns(
    brief: Brief,
    request: GenerationRequest,
    position: int,
    count: int,
    contrasts: int,
    candidates: Sequence[Sample] | None = None,
) -> list[Mapping[str, Any]]:
    """Samples to show as turns when one text is written: `contrasts` seeds of other labels, then `count` of the label's own.

    The others are drawn from the label's neighbours, one seed each; a quota that contrasts with a label shows seeds of that one alone,
    and so where the border between the two runs. The label's own are seeds, too, unless there are `candidates`: a teacher that follows its
    own texts drifts away from the real ones (docs/results/general-teachers). The last one is a seed: what stands nearest to the request
    is followed most. Each text draws anew.
    """
    random = derive_random(request.seed, "turns", position)
    quota = request.quota
    if quota.contrast in brief.task.labels:
        of_contrast = seeds_of(brief, quota.contrast)
        contrasted = random.sample(of_contrast, min(len(of_contrast), contrasts))
    else:
        others = brief.neighbours.get(quota.target) or [label for label in brief.task.labels if label != quota.target]
        contrasted = [
            random.choice(seeds_of(brief, label)) for label in random.sample(others, min(len(others), contrasts))
        ]
    seeds = seeds_of(brief, quota.target)
    last = random.choice(seeds)
    pool = seeds if candidates is None else candidates
    indices = random.sample(range(len(pool)), min(count, len(pool)))  # indices, because samples are read from disk
    # What stands last is chosen first: of a text that is drawn twice, the turn nearest to the request stays. A text with spans of
    # several types can be drawn for each of them.
    own = without_repeats([*([last] if count else []), *(pool[index] for index in indices)])[:count]
    contrasts_alone = without_repeats([*own, *contrasted])[len(own) :]
    return [brief.task.show(sample) for sample in (*contrasts_alone, *own[1:], *own[:1])]


def seeds_have_lines(brief: Brief) -> bool:
    """Whether a seed has several lines."""
    return _seeds(brief).multiline


def labelling_demonstrations(brief: Brief) -> Sequence[Mapping[str, Any]]:
    """Seeds to show in labelling prompts, evenly over the classes. The same object in every prompt of the round."""
    return _seeds(brief).shown


def permuted_demonstrations(brief: Brief, vote: int) -> Sequence[Mapping[str, Any]]:
    """The same in another order for each vote after the first. The same object in all prompts of that vote."""
    return labelling_demonstrations(brief) if vote == 0 else _permutation(brief, vote)


@lru_cache(maxsize=64)
def _permutation(brief: Brief, vote: int) -> Sequence[Mapping[str, Any]]:
    shown = list(labelling_demonstrations(brief))
    derive_random(brief.seed, "demonstrations", vote).shuffle(shown)
    return shown


def seeds_of(brief: Brief, label: str) -> Sequence[Sample]:
    """The seeds of a class, in order; never empty, because every class has one."""
    return _seeds(brief).by_label[label]


@dataclass(frozen=True, slots=True)
class _Seeds:
    """The seeds of a round by class, and those shown in labelling prompts."""

    by_label: Mapping[str, Sequence[Sample]]
    multiline: bool
    shown: Sequence[Mapping[str, Any]]


@lru_cache(maxsize=1)
def _seeds(brief: Brief) -> _Seeds:
    """Read once a round, not once for every text that is labelled."""
    by_label = {label: list(_leading_seeds(brief.demonstrations[label])) for label in brief.task.labels}
    multiline = any("\n" in seed.text.strip() for seeds in by_label.values() for seed in seeds)
    return _Seeds(by_label, multiline, in_turns(brief.task, by_label, brief.labelling.form.demonstrations))


def _leading_seeds(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Seeds begin each list of samples: the later samples need not be read."""
    return takewhile(lambda sample: sample.origin.round == 0, samples)


def in_turns(task: Task, by_label: Mapping[str, Sequence[Sample]], most: int) -> Sequence[Mapping[str, Any]]:
    """The first sample of each class, then the second of each, and so on, at most `most`, as templates see them."""
    samples = (sample for turn in zip_longest(*by_label.values()) for sample in turn if sample is not None)
    return [task.show(sample) for sample in without_repeats(samples)[:most]]
