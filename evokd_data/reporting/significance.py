"""Comparing arms over random seeds: means, standard deviations, paired differences with intervals and tests. Pure functions.

Arms are paired by seed: the same seed draws the same seed set and, where arms have the same prompts, the same requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (`sd`, with n - 1; None for one value) of `n` values."""

    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """`arm` minus `reference`, paired by seed.

    `low` and `high` are the 95 % confidence interval of the mean difference (Student's t). `p` is that of the paired t
    test, `p_signed_rank` that of Wilcoxon's signed-rank test. `p_holm` is `p` corrected for all arms that are compared
    with the reference (Holm 1979). `verdict` is "higher" or "lower" only when the interval does not contain zero.
    """

    arm: str
    reference: str
    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_signed_rank: float | None
    p_holm: float | None
    verdict: str


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of at least one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Spread(len(values), mean, None)
    return Spread(len(values), mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)))


Interval = tuple[float, float]


def interval_of_difference(value: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """95 % interval of `value - other`, from the 95 % interval of each (MOVER: Newcombe 1998; Zou and Donner 2008).

    It takes the two for independent. Scores of two students on the same texts rise and fall together, so for them it is rather
    too wide than too narrow.
    """
    difference = value - other
    low = math.hypot(value - interval[0], other_interval[1] - other)
    high = math.hypot(interval[1] - value, other - other_interval[0])
    return difference - low, difference + high


def fisher_exact(hits: int, count: int, other_hits: int, other_count: int) -> float:
    """The two-sided p of Fisher's exact test: whether `hits` of `count` and `other_hits` of `other_count` may be one share."""
    total, all_hits = count + other_count, hits + other_hits

    def ways(first: int) -> int:
        return math.comb(count, first) * math.comb(other_count, all_hits - first)

    possible = range(max(0, all_hits - other_count), min(count, all_hits) + 1)
    rarest = sum(number for first in possible if (number := ways(first)) <= ways(hits))
    return rarest / math.comb(total, all_hits)


def differences(scores: Mapping[str, Mapping[int, float]], reference: str) -> list[Difference]:
    """The difference of every other arm from `reference`. `scores`: arm -> seed -> score. Seeds of one arm only are ignored."""
    return _with_holm([_difference(arm, reference, scores) for arm in scores if arm != reference])


def _difference(arm: str, reference: str, scores: Mapping[str, Mapping[int, float]]) -> Difference:
    seeds = sorted(scores[arm].keys() & scores[reference].keys())
    arm_scores, reference_scores = ([scores[name][seed] for seed in seeds] for name in (arm, reference))
    paired = [score - other for score, other in zip(arm_scores, reference_scores, strict=True)]
    if len(paired) < 2:
        mean = paired[0] if paired else math.nan
        return Difference(arm, reference, len(paired), mean, None, None, None, None, None, "too few seeds")
    n, mean, sd = len(paired), spread(paired).mean, spread(paired).sd
    if sd == 0:
        verdict = "equal" if mean == 0 else ("higher" if mean > 0 else "lower")
        return Difference(arm, reference, n, mean, mean, mean, None, None, None, verdict)
    from scipy import stats

    test = stats.ttest_rel(arm_scores, reference_scores)
    low, high = map(float, test.confidence_interval(CONFIDENCE))
    verdict = "higher" if low > 0 else "lower" if high < 0 else "not distinguishable"
    p, p_signed_rank = float(test.pvalue), float(stats.wilcoxon(paired).pvalue)
    return Difference(arm, reference, n, mean, low, high, p, p_signed_rank, None, verdict)


def _with_holm(uncorrected: list[Difference]) -> list[Difference]:
    """The differences with `p_holm`, in the same order."""
    ordered = sorted((d for d in uncorrected if d.p is not None), key=lambda d: d.p or 0.0)
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, difference in enumerate(ordered):
        largest = max(largest, min(1.0, (difference.p or 0.0) * (len(ordered) - rank)))
        corrected[difference.arm] = largest
    return [replace(d, p_holm=corrected.get(d.arm)) for d in uncorrected]
