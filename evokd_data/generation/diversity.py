"""How varied a round's texts are, and how well a classifier separates them from real ones. Pure functions.

Four measures of variety, over at most `SAMPLE` texts drawn by a seed, because all of them change with the number of texts:

distinct_1, _2, _3   different n-grams of words divided by all n-grams (Li et al. 2016, arXiv 1510.03055): repeated wording
similarity           mean Jaccard similarity of two texts' character 5-grams, the measure of the near-duplicate filter
                     (Broder 1997): repeated texts
vendi                the effective number of different texts (Friedman and Dieng 2023, arXiv 2210.02410): exp of the entropy
                     of the eigenvalues of the texts' similarities. 1 when all texts are equal, n when no two share
                     anything. It replaces self-BLEU, which compares a text with its nearest few n-grams only and has no unit.

The detector (Antoun et al., "From Text to Source", 2023, arXiv 2309.13322) is a linear classifier of generated against
real texts. Its area under the ROC curve on texts it was not fitted to is 0.5 when the two cannot be separated, and 1 when
they can be separated completely. It judges wording, not truth: a low value says nothing about the labels.
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
from evokd_data.generation.near_duplicates import SHINGLE
from evokd_data.normal_form import normal_form
from evokd_data.writing_systems import CHARACTER_IS_WORD

SAMPLE = 400  # texts of one measure: eigenvalues of a 400 x 400 matrix take a tenth of a second
BUCKETS = 2048
BEGINNING = 1000
LEAST = 20  # real texts, and generated ones, below which a detector's score means nothing
FOLDS = 5
DETECTOR_VERSION = 2
"""Changes with the detector's definition: scores of different versions cannot be compared."""

Floats = NDArray[np.float64]

_WORD = re.compile(rf"[{CHARACTER_IS_WORD}]|[^\W_]+")


def sample_texts(texts: Sequence[str], seed: int, limit: int = SAMPLE) -> list[str]:
    """At most `limit` of the texts, drawn by the seed, in their order."""
    indices = derive_random(seed, "texts").sample(range(len(texts)), min(limit, len(texts)))
    return [texts[index] for index in sorted(indices)]


def diversity(texts: Sequence[str], seed: int) -> dict[str, Any] | None:
    """{"n", "distinct_1", "distinct_2", "distinct_3", "similarity", "vendi"}; None for fewer than two texts."""
    chosen = sample_texts(texts, seed)
    if len(chosen) < 2:
        return None
    words = [_WORD.findall(normal_form(text)) for text in chosen]
    return {
        "n": len(chosen),
        **{f"distinct_{n}": _rounded(distinct(words, n)) for n in (1, 2, 3)},
        "similarity": _rounded(similarity(chosen)),
        "vendi": _rounded(vendi(chosen)),
    }


def distinct(words: Iterable[Sequence[str]], n: int) -> float | None:
    """Different n-grams divided by all n-grams, from the words of each text; None when no text has n words."""
    counts = Counter(tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1))
    return len(counts) / counts.total() if counts else None


def similarity(texts: Sequence[str]) -> float:
    """Mean over all pairs of the Jaccard similarity of their character 5-grams, computed exactly."""
    numbers: dict[str, int] = {}
    sets = []
    for text in texts:
        form = normal_form(text)
        grams = {form[i : i + SHINGLE] for i in range(max(1, len(form) - SHINGLE + 1))}
        sets.append(np.array(sorted(numbers.setdefault(gram, len(numbers)) for gram in grams)))
    total = 0.0
    contains = np.zeros(len(numbers), dtype=bool)
    for index, grams_of_text in enumerate(sets):
        contains[grams_of_text] = True
        for other in sets[:index]:
            common = int(contains[other].sum())
            total += common / (len(grams_of_text) + len(other) - common)
        contains[grams_of_text] = False
    return total / (len(sets) * (len(sets) - 1) / 2)


def vendi(texts: Sequence[str]) -> float:
    """exp(-sum of e log e) over the eigenvalues e of K / n, where K holds the cosines of the texts' `hashed_features`."""
    vectors = hashed_features(texts)
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(texts))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def hashed_features(texts: Sequence[str]) -> Floats:
    """(N, BUCKETS), rows of length 1: hashed words without case, and hashed runs of 2 to 4 characters with case.

    Only the first `BEGINNING` characters of a text count.
    """
    rows = np.zeros((len(texts), BUCKETS))
    for row, text in zip(rows, (text[:BEGINNING] for text in texts), strict=True):
        names = [f"w {word.casefold()}" for word in _WORD.findall(text)]
        names += [f"c{text[i : i + size]}" for size in (2, 3, 4) for i in range(len(text) - size + 1)]
        for name, count in Counter(names or [""]).items():
            row[crc32(name.encode()) % BUCKETS] += math.sqrt(count)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def detector(generated: Sequence[str], real: Sequence[str], seed: int) -> dict[str, Any]:
    """{"version", "auc", "sd", "generated", "real", "reason"}.

    Mean and standard deviation over FOLDS folds of the area under the ROC curve of a logistic regression, and the number of
    texts of either kind. The same number of both is used, at most `SAMPLE`. With fewer than LEAST texts of a kind `auc` and
    `sd` are None and `reason` says why.
    """
    few = [name for name, texts in (("generated", generated), ("real", real)) if len(texts) < LEAST]
    if few:
        reason = f"fewer than {LEAST} {' and '.join(few)} texts"
        return _detector_result(None, None, len(generated), len(real), reason)
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    count = min(SAMPLE, len(generated), len(real))
    texts = [*sample_texts(generated, seed, count), *sample_texts(real, seed + 1, count)]
    vectors = hashed_features(texts)
    is_generated = np.repeat([True, False], count)
    fold = np.concatenate([np.random.default_rng([seed, side]).permutation(count) % FOLDS for side in (0, 1)])
    areas = []
    for index in range(FOLDS):
        training, test = fold != index, fold == index
        # liblinear's trust-region Newton method uses neither random numbers nor threads: equal texts give equal scores.
        classifier = LogisticRegression(solver="liblinear", random_state=0).fit(
            vectors[training], is_generated[training]
        )
        areas.append(roc_auc_score(is_generated[test], classifier.decision_function(vectors[test])))
    return _detector_result(float(np.mean(areas)), float(np.std(areas, ddof=1)), count, count, None)


def _detector_result(
    auc: float | None, sd: float | None, generated: int, real: int, reason: str | None
) -> dict[str, Any]:
    return {
        "version": DETECTOR_VERSION, "auc": _rounded(auc), "sd": _rounded(sd), "generated": generated, "real": real,
        "reason": reason,
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
