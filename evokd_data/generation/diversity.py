"""How varied a round's texts are, and how easily they are told from real ones. Pure; numpy and the standard library.

Four measures of variety, over at most `SAMPLE` texts drawn by a seed, for all of them change with the number of texts:

distinct_1, _2, _3   different n-grams of words among all of them (Li et al. 2016, arXiv 1510.03055): repeated wording
similarity           mean Jaccard similarity of two texts' character 5-grams, the likeness that the near-duplicate filter
                     goes by (Broder 1997): repeated texts
vendi                the effective number of different texts (Friedman and Dieng 2023, arXiv 2210.02410), 1 when all are one,
                     n when none shares anything: exp of the entropy of the eigenvalues of the texts' similarities. It stands
                     in for self-BLEU, which compares each text with its nearest few n-grams only and has no unit.

The detector (Antoun et al., "From Text to Source", 2023, arXiv 2309.13322) is a linear classifier of generated against
real texts; its area under the ROC curve on texts it was not fitted to is 0.5 when they cannot be told apart, 1 when each
can. It sees wording, not truth: a low value says nothing of the labels.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from evokd_data.digest import derive_random
from evokd_data.generation.near_duplicates import SHINGLE, normal
from evokd_data.writing_systems import CHARACTER_IS_WORD

SAMPLE = 400  # texts of one measure: eigenvalues of a 400 x 400 matrix take a tenth of a second
BUCKETS = 2048
BEGINNING = 1000
LEAST = 20  # real texts, and generated ones, below which a detector's score means nothing
FOLDS = 5
DECAY = 1.0

Floats = NDArray[np.float64]

_WORD = re.compile(rf"[{CHARACTER_IS_WORD}]|[^\W_]+")


def drawn(texts: Sequence[str], seed: int, most: int = SAMPLE) -> list[str]:
    """At most `most` of the texts, in their order."""
    places = sorted(derive_random(seed, "texts").sample(range(len(texts)), min(most, len(texts))))
    return [texts[place] for place in places]


def diversity(texts: Sequence[str], seed: int) -> dict[str, Any] | None:
    """{"n", "distinct_1", "distinct_2", "distinct_3", "similarity", "vendi"}; None of fewer than two texts."""
    chosen = drawn(texts, seed)
    if len(chosen) < 2:
        return None
    words = [_WORD.findall(normal(text)) for text in chosen]
    return {
        "n": len(chosen),
        **{f"distinct_{n}": _rounded(distinct(words, n)) for n in (1, 2, 3)},
        "similarity": _rounded(similarity(chosen)),
        "vendi": _rounded(vendi(chosen)),
    }


def distinct(words: Iterable[Sequence[str]], n: int) -> float | None:
    """Different n-grams divided by n-grams; None when no text has n words."""
    counts = Counter(tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1))
    return len(counts) / counts.total() if counts else None


def similarity(texts: Sequence[str]) -> float:
    """Mean over all pairs of the Jaccard similarity of their character 5-grams, exact."""
    numbers: dict[str, int] = {}
    sets = []
    for text in texts:
        form = normal(text)
        grams = {form[i : i + SHINGLE] for i in range(max(1, len(form) - SHINGLE + 1))}
        sets.append(np.array(sorted(numbers.setdefault(gram, len(numbers)) for gram in grams)))
    total = 0.0
    holds = np.zeros(len(numbers), dtype=bool)
    for place, own in enumerate(sets):
        holds[own] = True
        for other in sets[:place]:
            common = int(holds[other].sum())
            total += common / (len(own) + len(other) - common)
        holds[own] = False
    return total / (len(sets) * (len(sets) - 1) / 2)


def vendi(texts: Sequence[str]) -> float:
    """exp(-sum of e log e) over the eigenvalues e of K / n, K the cosines of the texts' hashed character n-grams."""
    vectors = hashed(texts)
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(texts))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def hashed(texts: Sequence[str]) -> Floats:
    """(N, BUCKETS): words, and runs of 2 to 4 characters as they are written, hashed; rows of length 1. Of a long text its
    first `BEGINNING` characters."""
    rows = np.zeros((len(texts), BUCKETS))
    for row, text in zip(rows, (text[:BEGINNING] for text in texts), strict=True):
        names = [f"w {word.casefold()}" for word in _WORD.findall(text)]
        names += [f"c{text[i : i + size]}" for size in (2, 3, 4) for i in range(len(text) - size + 1)]
        for name, count in Counter(names or [""]).items():
            row[crc32(name.encode()) % BUCKETS] += math.sqrt(count)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def detector(generated: Sequence[str], real: Sequence[str], seed: int) -> dict[str, Any]:
    """{"auc", "sd", "generated", "real", "reason"}: mean and standard deviation over folds, and of how many texts.

    As many of either kind, at most `SAMPLE`. `auc` is None, and `reason` says why, where there are too few.
    """
    found: dict[str, Any] = {"auc": None, "sd": None, "generated": len(generated), "real": len(real), "reason": None}
    few = [name for name, texts in (("generated", generated), ("real", real)) if len(texts) < LEAST]
    if few:
        return {**found, "reason": f"fewer than {LEAST} {' and '.join(few)} texts"}
    count = min(SAMPLE, len(generated), len(real))
    both = (drawn(generated, seed, count), drawn(real, seed + 1, count))
    vectors = np.hstack([hashed([*both[0], *both[1]]), np.ones((2 * count, 1))])
    sign = np.repeat([1.0, -1.0], count)
    fold = np.concatenate([np.random.default_rng([seed, side]).permutation(count) % FOLDS for side in (0, 1)])
    areas = []
    for number in range(FOLDS):
        known, held = fold != number, fold == number
        own = vectors[known]
        # Ridge regression on the sign, by its dual: a system as large as the texts, not as the features.
        dual = np.linalg.solve(own @ own.T + DECAY * np.eye(len(own)), sign[known])
        areas.append(area_under_curve(vectors[held] @ (own.T @ dual), sign[held] > 0))
    return {
        **found, "generated": count, "real": count,
        "auc": _rounded(float(np.mean(areas))), "sd": _rounded(float(np.std(areas, ddof=1))),
    }  # fmt: skip


def area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and a negative in which the positive scores higher; a tie counts one half."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
