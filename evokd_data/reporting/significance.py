"""Comparing arms over random seeds: means, spreads, paired differences with intervals and tests. Pure.

Arms are paired by seed: the same seed draws the same seed set and, where the arms share prompts, the same requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """`sd` is the sample standard deviation (n - 1); None for one value."""

    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """`arm` minus `reference`, paired by seed.

    `low` and `high` bound the mean difference at 95 % (Student's t over the paired differences); `p` is of the paired
    t test, `p_signed_rank` of Wilcoxon's signed-rank test, `p_holm` is `p` corrected for all arms compared with the
    reference (Holm 1979). `verdict` is "higher" or "lower" only when the interval leaves out zero.
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


def differences(scores: Mapping[str, Mapping[int, float]], reference: str) -> list[Difference]:
    """Every other arm against `reference`; `scores` are arm -> seed -> score. Only seeds both arms have are paired."""
    found = [_difference(arm, own, reference, scores[reference]) for arm, own in scores.items() if arm != reference]
    return _holm(found)


def _difference(arm: str, own: Mapping[int, float], reference: str, other: Mapping[int, float]) -> Difference:
    paired = [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]
    if len(paired) < 2:
        mean = paired[0] if paired else math.nan
        return Difference(arm, reference, len(paired), mean, None, None, None, None, None, "too few seeds")
    made = spread(paired)
    assert made.sd is not None
    if made.sd == 0:
        verdict = "equal" if made.mean == 0 else ("higher" if made.mean > 0 else "lower")
        return Difference(arm, reference, made.n, made.mean, made.mean, made.mean, None, None, None, verdict)
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, made.n - 1)) * made.sd / math.sqrt(made.n)
    low, high = made.mean - half, made.mean + half
    verdict = "higher" if low > 0 else "lower" if high < 0 else "not distinguishable"
    return Difference(
        arm,
        reference,
        made.n,
        made.mean,
        low,
        high,
        float(stats.ttest_1samp(paired, 0.0).pvalue),
        float(stats.wilcoxon(paired).pvalue),
        None,
        verdict,
    )


def _holm(found: list[Difference]) -> list[Difference]:
    from dataclasses import replace

    order = sorted((d for d in found if d.p is not None), key=lambda d: d.p or 0.0)
    corrected: dict[str, float] = {}
    largest = 0.0
    for place, difference in enumerate(order):
        largest = max(largest, min(1.0, (difference.p or 0.0) * (len(order) - place)))
        corrected[difference.arm] = largest
    return [replace(d, p_holm=corrected.get(d.arm)) for d in found]
