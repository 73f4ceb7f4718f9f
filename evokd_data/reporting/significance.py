"""Comparing students: arms over random seeds, paired by seed; two students on one test set, paired by text. Pure functions.

Of arms these are means, standard deviations, paired differences with intervals and tests: the same seed draws the same seed set and,
where arms have the same prompts, the same requests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evokd_data.records import Outcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
ROUND_0, SEEDS_ONLY = "round 0", "seeds_only"
"""The students of a run with which a round's is compared text by text: keys of `paired` in its metrics."""


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


def reading_of(low: float, high: float) -> str:
    """What an interval of a difference says: "higher" or "lower" only where it leaves out zero."""
    return "higher" if low > 0 else "lower" if high < 0 else "not distinguishable"


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
    verdict = reading_of(low, high)
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


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The score of one student minus that of another, on the same `n` test texts.

    `low` and `high` are the 95 % interval of the difference in the primary metric, by a bootstrap that draws texts with the outcomes
    of both students. `only_first` and `only_second` count the texts that one student has wholly right and the other has not; `p` is
    that of McNemar's exact test of these two counts. `verdict` is "higher" or "lower" only when the interval leaves out zero.
    """

    n: int
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p: float
    verdict: str


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided p of McNemar's exact test: whether texts that only one of two students has right may as well be the other's."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def paired_test(
    key: str, first: Sequence[Outcome], second: Sequence[Outcome], classes: int, seed: int
) -> PairedTest | None:
    """Compare two students on the texts that both have read, in the same order. None when the texts are not the same, or there are none.

    `key` names the metric: macro_f1 over all `classes`, or micro_f1. `seed` draws the bootstrap. There is more to draw from than the
    texts: half a text that only the first student has right and half one that only the second has, shared out over the classes as
    the texts are. Without them a few texts on which the students differ would be taken for a certainty (docs/intervals.md).
    """
    if not first or [outcome.expected for outcome in first] != [outcome.expected for outcome in second]:
        return None
    from evokd_data.tasks.bootstrap import percentile_interval

    texts = Counter(zip(first, second, strict=True))
    observed = _sums(texts, classes)
    estimates = _f1(key, observed[None])[0]
    drawn = _f1(key, _resamples(texts, classes, seed))
    difference = float(estimates[0] - estimates[1])
    low, high = percentile_interval(drawn[:, 0] - drawn[:, 1], difference)
    rights = Counter[tuple[bool, bool]]()
    for pair, number in texts.items():
        rights[_is_right(pair[0]), _is_right(pair[1])] += number
    only_first, only_second = rights[True, False], rights[False, True]
    verdict = reading_of(low, high)
    p = mcnemar_exact(only_first, only_second)
    return PairedTest(len(first), difference, low, high, only_first, only_second, p, verdict)


def _is_right(outcome: Outcome) -> bool:
    return outcome.expected == outcome.predicted == outcome.right


def _table(pair: tuple[Outcome, Outcome], classes: int) -> Floats:
    """(2, 3, C): for each student right, predicted and expected, by class."""
    import numpy as np

    kinds = [positions for outcome in pair for positions in (outcome.right, outcome.predicted, outcome.expected)]
    counts = [np.bincount(np.asarray(positions, dtype=np.int64), minlength=classes) for positions in kinds]
    return np.array(counts, dtype=float).reshape(2, 3, classes)


def _sums(texts: Mapping[tuple[Outcome, Outcome], int], classes: int) -> Floats:
    import numpy as np

    return np.sum([number * _table(pair, classes) for pair, number in texts.items()], axis=0)


def _f1(key: str, counts: Floats) -> Floats:
    """(R, 2) scores of both students from (R, 2, 3, C) counts."""
    from evokd_data.tasks.measures import precision_recall_f1

    if key == "micro_f1":
        counts = counts.sum(axis=3, keepdims=True)
    return precision_recall_f1(counts[:, :, 0], counts[:, :, 1], counts[:, :, 2])[2].mean(axis=2)


def _resamples(texts: Mapping[tuple[Outcome, Outcome], int], classes: int, seed: int) -> Floats:
    """(R, 2, 3, C) counts of resamples. Texts with one label are drawn class by class: a resample without a class would count it as 0."""
    import numpy as np

    from evokd_data.tasks.bootstrap import BLOCK_CELLS, HALF_AN_ERROR, RESAMPLES

    one_label = all(len(outcome.expected) == len(outcome.predicted) == 1 for pair in texts for outcome in pair)
    strata: dict[tuple[int, ...], list[tuple[Outcome, Outcome]]] = {}
    for pair in texts:
        strata.setdefault(pair[0].expected if one_label else (), []).append(pair)
    random = np.random.default_rng(seed)
    counts = np.zeros((RESAMPLES, 2, 3, classes))
    for pairs in strata.values():
        numbers = np.array([texts[pair] for pair in pairs], dtype=float)
        tables = np.array([_table(pair, classes) for pair in pairs])
        expected = tables[:, 0, 2]
        total, of_label = int(numbers.sum()), numbers @ expected
        added, weights = [], [*numbers]
        for label in np.flatnonzero(of_label):
            spans = of_label[label] / (numbers @ (expected[:, label] > 0))
            first_right = _only_one_right(label, classes, spans, one_label)
            added += [first_right, first_right[::-1]]
            weights += [HALF_AN_ERROR * total / sum(texts.values()) * of_label[label] / of_label.sum()] * 2
        probabilities = np.array(weights) / sum(weights)
        drawn_from = np.concatenate([tables, np.array(added).reshape(-1, *tables.shape[1:])])
        block = max(1, BLOCK_CELLS // len(weights))
        for start in range(0, RESAMPLES, block):
            rows = slice(start, min(start + block, RESAMPLES))
            drawn = random.multinomial(total, probabilities, size=rows.stop - start).astype(float)
            counts[rows] += (drawn @ drawn_from.reshape(len(drawn_from), -1)).reshape(-1, *counts.shape[1:])
    return counts


def _only_one_right(label: int, classes: int, spans: float, one_label: bool) -> Floats:
    """(2, 3, C): a text of a class that the first student has right and the second has not. A wrong label goes into every other class
    alike; a wrong span stays of its type."""
    import numpy as np

    table = np.zeros((2, 3, classes))
    table[:, 2, label] = spans
    table[0, :2, label] = spans
    if one_label and classes > 1:
        table[1, 1] = np.where(np.arange(classes) == label, 0.0, spans / (classes - 1))
    else:
        table[1, 1, label] = spans
    return table
