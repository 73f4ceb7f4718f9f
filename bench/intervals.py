"""How often the 95 % intervals of scores hold the true score, by simulation; writes docs/intervals.md.

    python bench/intervals.py            # some minutes

A student errs in each class (or type) with a probability drawn near the one in the table; its errors prefer some classes. The true
score is that of the student on infinitely many texts with the test set's share of each class. Beside it the bootstrap that the
intervals of version 1 were made with: texts drawn again, whatever their class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from evokd_data.records import Outcome
from evokd_data.reporting.significance import interval_of_difference, paired_test
from evokd_data.tasks import measures, span_measures
from evokd_data.tasks.measures import margins, precision_recall_f1

PAGE = Path(__file__).parents[1] / "docs" / "intervals.md"
SIMULATED = 200
SIMULATED_PAIRS = 500
RESAMPLES = 500
HEADER = """# Coverage of the intervals

By `python bench/intervals.py`: the share of {n} simulated test sets whose 95 % interval holds the true score, and in brackets how
often the interval left out its own estimate. *Plain* is the bootstrap over all texts that metrics of version 1 had. On infinitely many
simulations a sound interval has 0.95.

"""
PAIRS = """## Two students on one test set

How often, of {n} simulated pairs, the first student is called higher or lower than the second: text by text (the verdict of report and
card), by the intervals of the two scores as if they had read other texts, and by McNemar's exact test at 0.05. Where both are equally
good that is a mistake, and 0.05 is the most it should be; where one is better it is the power. Both find three texts in five
equally hard, as students of one recipe do.
"""


def student(classes: int, accuracy: float, random: np.random.Generator) -> np.ndarray:
    """(C, C): how likely each class is answered with each."""
    rows = []
    for index in range(classes):
        right = np.clip(accuracy + random.normal(0, 0.25 * min(0.2, 1 - accuracy)), 0.02, 0.9995)
        rows.append(np.insert(random.dirichlet(np.full(classes - 1, 0.5)) * (1 - right), index, right))
    return np.array(rows)


def macro_f1(counts: np.ndarray) -> float:
    return float(precision_recall_f1(*margins(counts))[2].mean())


def plain(counts: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    total = int(counts.sum())
    drawn = random.multinomial(total, counts.ravel() / total, size=RESAMPLES).reshape(-1, *counts.shape)
    right, predicted, expected = drawn.diagonal(axis1=1, axis2=2), drawn.sum(axis=1), drawn.sum(axis=2)
    f1 = precision_recall_f1(right.astype(float), predicted.astype(float), expected.astype(float))[2]
    low, high = np.percentile(f1.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] - 1e-9 <= value <= interval[1] + 1e-9


def classification(classes: int, texts: int, accuracy: float, random: np.random.Generator) -> list[str]:
    """Cells of a row: coverage for accuracy, for macro-F1, and for macro-F1 by the plain bootstrap."""
    covered, own = np.zeros(3), np.zeros(3)
    for seed in range(SIMULATED):
        likely = student(classes, accuracy, random)
        counts = np.array([random.multinomial(texts, row) for row in likely])
        intervals = (*measures.intervals(counts, seed), plain(counts, random))
        true = (likely.trace() / classes, macro_f1(likely * texts), macro_f1(likely * texts))
        estimates = (counts.trace() / counts.sum(), macro_f1(counts), macro_f1(counts))
        for index, interval in enumerate(intervals):
            covered[index] += holds(interval, true[index])
            own[index] += not holds(interval, estimates[index])
    return [
        f"{share:.2f} ({left_out:.2f})" for share, left_out in zip(covered / SIMULATED, own / SIMULATED, strict=True)
    ]


def spans(texts: int, types: int, quality: float, random: np.random.Generator) -> np.ndarray:
    """(texts, 3, T): right, predicted, expected. Spans of one text are right or wrong together, some are taken for another type."""
    counts = np.zeros((texts, 3, types))
    for text, number in enumerate(random.poisson(1.2, texts)):
        of_text = random.beta(quality * 6, (1 - quality) * 6)
        for type_ in random.integers(0, types, number):
            right = random.random() < of_text
            counts[text, :, type_] += (right, right, 1)
            if not right and random.random() < 0.5:
                counts[text, 1, random.integers(types)] += 1
    return counts


def tagging(texts: int, types: int, quality: float, random: np.random.Generator) -> list[str]:
    """Cells of a row: coverage for micro-F1, for macro-F1 over the types that occur, and for micro-F1 by the plain bootstrap."""
    population = spans(20_000, types, quality, random).sum(axis=0)
    f1 = precision_recall_f1(*population)[2]
    micro = float(precision_recall_f1(*population.sum(axis=1, keepdims=True))[2][0])
    covered, own = np.zeros(3), np.zeros(3)
    simulated = 0
    while simulated < SIMULATED:
        counts = spans(texts, types, quality, random)
        sums = counts.sum(axis=0)
        if not sums[2].any():
            continue
        simulated += 1
        drawn = random.multinomial(texts, np.full(texts, 1 / texts), size=RESAMPLES)
        resampled = (drawn @ counts.reshape(texts, -1)).reshape(-1, 3, types).sum(axis=2).T
        low, high = np.percentile(precision_recall_f1(*resampled)[2], [2.5, 97.5])
        intervals = (*span_measures.intervals(counts, simulated), (float(low), float(high)))
        estimate = float(precision_recall_f1(*sums.sum(axis=1, keepdims=True))[2][0])
        macro = float(precision_recall_f1(*sums)[2].mean())
        true, estimates = (micro, float(f1[sums[2] > 0].sum() / types), micro), (estimate, macro, estimate)
        for index, interval in enumerate(intervals):
            covered[index] += holds(interval, true[index])
            own[index] += not holds(interval, estimates[index])
    return [
        f"{share:.2f} ({left_out:.2f})" for share, left_out in zip(covered / SIMULATED, own / SIMULATED, strict=True)
    ]


def two_students(
    classes: int, texts: int, accuracies: tuple[float, float], random: np.random.Generator
) -> tuple[list[Outcome], list[Outcome]]:
    """What two students answer to the same `texts` of each class. Of three texts in five both find the same as hard as the other."""
    students: tuple[list[Outcome], list[Outcome]] = ([], [])
    for label in range(classes):
        for _ in range(texts):
            together, first, second = random.random(3)
            for outcomes, accuracy, alone in zip(students, accuracies, (first, second), strict=True):
                if (together / 0.6 if together < 0.6 else alone) < accuracy:
                    outcomes.append(Outcome((label,), (label,), (label,)))
                else:
                    wrong = (label + 1 + int(random.integers(classes - 1))) % classes
                    outcomes.append(Outcome((label,), (wrong,), ()))
    return students


def verdicts(classes: int, texts: int, accuracies: tuple[float, float], random: np.random.Generator) -> list[str]:
    """Cells of a row: how often the first student is called higher or lower text by text, by its own interval, and by McNemar's test."""
    outside = np.zeros(3)
    for seed in range(SIMULATED_PAIRS):
        first, second = two_students(classes, texts, accuracies, random)
        paired = paired_test("macro_f1", first, second, classes, seed)
        assert paired is not None
        scores = []
        for outcomes in (first, second):
            expected, predicted = np.array([(outcome.expected[0], outcome.predicted[0]) for outcome in outcomes]).T
            counts = measures.confusion(expected, predicted, classes)
            scores += [macro_f1(counts), measures.intervals(counts, seed)[1]]
        low, high = interval_of_difference(*scores)
        outside += (paired.verdict != "not distinguishable", low > 0 or high < 0, paired.p < 0.05)
    return [f"{share:.2f}" for share in outside / SIMULATED_PAIRS]


def pairs() -> list[str]:
    """The section on two students."""
    random = np.random.default_rng(1)
    lines = [PAIRS.format(n=SIMULATED_PAIRS), "| classes | texts of each | right: first, second | text by text | by their own intervals | McNemar |", "|---:|---:|---|---:|---:|---:|"]  # fmt: skip
    for accuracies in ((0.8, 0.8), (0.95, 0.95), (0.9, 0.8)):
        for classes in (2, 7):
            for texts in (10, 30, 100):
                cells = " | ".join(verdicts(classes, texts, accuracies, random))
                lines.append(f"| {classes} | {texts} | {accuracies[0]}, {accuracies[1]} | {cells} |")
                print(lines[-1], file=sys.stderr)
    return lines


def main() -> None:
    random = np.random.default_rng(0)
    lines = ["## Classification", "", "| classes | texts of each | share right | accuracy | macro-F1 | macro-F1, plain |", "|---:|---:|---:|---|---|---|"]  # fmt: skip
    for classes in (2, 7, 20):
        for texts in (1, 2, 5, 20, 100):
            for accuracy in (0.6, 0.9, 0.98):
                cells = " | ".join(classification(classes, texts, accuracy, random))
                lines.append(f"| {classes} | {texts} | {accuracy} | {cells} |")
                print(lines[-1], file=sys.stderr)
    lines += ["", "## Spans", "", "| types | texts | share right | micro-F1 | macro-F1 of the types that occur | micro-F1, plain |", "|---:|---:|---:|---|---|---|"]  # fmt: skip
    for types in (1, 5):
        for texts in (2, 5, 20, 100):
            for quality in (0.6, 0.95):
                cells = " | ".join(tagging(texts, types, quality, random))
                lines.append(f"| {types} | {texts} | {quality} | {cells} |")
                print(lines[-1], file=sys.stderr)
    lines += ["", *pairs()]
    PAGE.write_text(HEADER.format(n=SIMULATED) + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
