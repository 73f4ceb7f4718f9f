"""What the teacher's answer says about a label: probabilities calibrated, and pooled with a second opinion. Pure functions.

Classes are indices; probabilities sum to 1. A text that was written for a label and is labelled so in a separate call is not the work
of two independent witnesses: the same teacher misunderstands both times, and the text resembles the seed it was written after. With a
general teacher of 0.5B the one-coin model of Dawid and Skene (1979) expected .97 of such labels to be right where .52 to .75 were. So
the second opinion comes from elsewhere: from the student that knows the user's seeds alone. A logarithmic pool of both was right more
often than either on all seven cells that were measured (TREC .61 and .52 -> .71; SNIPS .89 and .84 -> .93; 150 texts each).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

SIGNIFICANCE = 0.05
"""A count that chance brings about with no smaller probability shows nothing."""
SMALLEST = 1e-6
"""No class is ever impossible: neither opinion is sure enough to rule one out."""
OFF_TARGET = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of texts that may be something else than was asked for: general teachers of 0.5B and 1.5B had .16 to .51."""
NEGLIGIBLE = 1e-3
"""A difference of log-likelihoods that two runs may have on two threads."""


def calibrate(
    probabilities: Sequence[float], prior: Sequence[float] = (), temperature: float = 1.0
) -> tuple[float, ...]:
    """Divide out the teacher's own preference for classes, then soften or sharpen.

    `prior`: its mean probability of each class over many texts (batch calibration, Zhou et al. 2023, arXiv 2309.17249); empty: none.
    `temperature` above 1 flattens (Guo et al. 2017).
    """
    logits = [math.log(max(value, SMALLEST)) for value in probabilities]
    if prior:
        logits = [logit - math.log(max(mean, SMALLEST)) for logit, mean in zip(logits, prior, strict=True)]
    return _softmax([logit / temperature for logit in logits])


def pool(probabilities: Sequence[float], second: Sequence[float], weight: float) -> tuple[float, ...]:
    """A logarithmic opinion pool (Genest and Zidek 1986): the log-probabilities of both, the second ones `weight` times."""
    logits = [
        math.log(max(first, SMALLEST)) + weight * math.log(max(other, SMALLEST))
        for first, other in zip(probabilities, second, strict=True)
    ]
    return _softmax(logits)


def certain_label(label: int, classes: int, accuracy: float) -> tuple[float, ...]:
    """The probabilities that a label without any stands for, from a teacher of this accuracy: the other classes alike."""
    other = (1 - accuracy) / max(1, classes - 1)
    return tuple(accuracy if index == label else other for index in range(classes))


def fit_temperature(readings: Sequence[tuple[int, Sequence[float]]], strength: float = 4.0) -> float:
    """The temperature, 0.25 to 8, under which the right classes of (right class, probabilities) are most likely.

    A normal prior on its logarithm around 0, worth `strength` texts, keeps a few seeds from saying much.
    """

    def loss(log_temperature: float) -> float:
        return -log_likelihood(readings, math.exp(log_temperature)) + strength * log_temperature**2 / 2

    return round(math.exp(_minimum(loss, math.log(0.25), math.log(8.0))), 4)


def fit_prior(readings: Sequence[tuple[bool, float]], strength: float = 1.0) -> tuple[float, float]:
    """The prior of (right, wrong), see `calibrate`, under which (is right, probability) of some answers are most likely.

    A normal prior on its log-odds around 0, worth `strength` answers, keeps a few from saying much.
    """

    def loss(log_odds: float) -> float:
        share = 1 / (1 + math.exp(-log_odds))
        rows = [(0 if right else 1, calibrate((value, 1 - value), (share, 1 - share))) for right, value in readings]
        return -log_likelihood(rows) + strength * log_odds**2 / 2

    share = round(1 / (1 + math.exp(-_minimum(loss, -8.0, 8.0))), 4)
    return share, round(1 - share, 4)


def _minimum(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum has it: a golden-section search, without any randomness."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def log_likelihood(readings: Sequence[tuple[int, Sequence[float]]], temperature: float = 1.0) -> float:
    """The sum of the log-probabilities of the right classes."""
    return math.fsum(math.log(max(calibrate(row, (), temperature)[right], 1e-12)) for right, row in readings)


def count_right(rows: Sequence[Sequence[float]], truths: Sequence[int]) -> int:
    """How many rows of probabilities have their largest at the right class. A row may be ()."""
    return sum(
        bool(row) and max(range(len(row)), key=row.__getitem__) == truth
        for row, truth in zip(rows, truths, strict=True)
    )


def wilson_interval(right: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): it stays within 0 and 1, and is wide when `count` is small. (0, 1) for none."""
    if not count:
        return 0.0, 1.0
    share = right / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def chance_of_so_many(right: int, count: int, share: float) -> float:
    """The probability of at least `right` of `count` when each succeeds with probability `share`."""
    from scipy.special import bdtrc

    return float(bdtrc(right - 1, count, share)) if right else 1.0


def paired_difference(scores: Sequence[float], earlier: Sequence[float]) -> tuple[float, float]:
    """(mean difference, its standard error) of two scores of the same texts, in the same order."""
    differences = [after - before for after, before in zip(scores, earlier, strict=True)]
    mean = math.fsum(differences) / len(differences) if differences else 0.0
    if len(differences) < 2:
        return mean, 0.0
    variance = math.fsum((value - mean) ** 2 for value in differences) / (len(differences) - 1)
    return mean, math.sqrt(variance / len(differences))


def probability_of_lead(scores: Sequence[float], others: Sequence[float]) -> float:
    """How probable it is that the texts' `scores` are higher in the long run than `others`, of the same texts in the same order: by
    the normal distribution of their mean difference. 0.5 when nothing tells them apart."""
    mean, error = paired_difference(scores, others)
    if not error:
        return 0.5 if not mean else float(mean > 0)
    return 0.5 * (1 + math.erf(mean / error / math.sqrt(2)))


def temperature_for(rows: Sequence[Sequence[float]], confidence: float, least: float) -> float:
    """The temperature, from `least` up to 8, at which the mean of the rows' largest probabilities is no more than `confidence`:
    `least` itself where it is no more already, 8 where no temperature brings it so low."""

    def mean_confidence(temperature: float) -> float:
        return math.fsum(max(calibrate(row, (), temperature)) for row in rows) / len(rows)

    if not rows or mean_confidence(least) <= confidence:
        return least
    low, high = math.log(least), math.log(max(least, 8.0))
    for _ in range(60):  # the higher the temperature, the less sure: bisection finds the one crossing
        middle = (low + high) / 2
        low, high = (middle, high) if mean_confidence(math.exp(middle)) > confidence else (low, middle)
    return round(math.exp(high), 4)


def temperature_of_requests(
    opinions: Sequence[tuple[int, Sequence[float], Sequence[float]]], weight: float, least: float, strength: float = 4.0
) -> tuple[float, float]:
    """(temperature, share of texts that are something else than was asked for) under which what was asked for is likeliest.

    `opinions` are (class asked for, the teacher's probabilities, the student's) of texts; the teacher's are calibrated and pooled with the
    student's as labels are, by `weight`. A text is something else with a probability of 0.05 to 0.6; then it is of each class alike.
    The temperature is at least `least`, in steps of the square root of 2 up to 8: the teacher wrote the texts, so they speak for it more
    than it deserves, and only against it are they believed. A normal prior on its logarithm around `least`, worth `strength` texts.
    """
    best = -math.inf, least, OFF_TARGET[0]
    for step in range(1 + max(0, math.floor(2 * math.log2(8 / least)))):
        temperature = round(least * 2 ** (step / 2), 4)
        asked = [
            pool(calibrate(teacher, (), temperature), student, weight)[index] for index, teacher, student in opinions
        ]
        prior = strength * math.log(temperature / least) ** 2 / 2
        for share in OFF_TARGET:
            classes = len(opinions[0][1]) if opinions else 1
            fit = math.fsum(math.log((1 - share) * value + share / classes) for value in asked) - prior
            if fit > best[0] + NEGLIGIBLE:
                best = fit, temperature, share
    return best[1:]


def flatness(rows: Sequence[Sequence[float]]) -> float:
    """The mean entropy of the rows as a share of what equal probabilities would have: 1 says nothing, 0 is certain."""
    most = math.log(len(rows[0])) if rows and len(rows[0]) > 1 else 1.0
    return math.fsum(-value * math.log(value) for row in rows for value in row if value > 0) / most / max(1, len(rows))


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    largest = max(logits)
    exponentials = [math.exp(logit - largest) for logit in logits]
    total = math.fsum(exponentials)
    return tuple(value / total for value in exponentials)
