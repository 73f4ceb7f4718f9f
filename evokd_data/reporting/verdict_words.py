"""A comparison of two students, in words: for the report and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.reporting.significance import ROUND_0, SEEDS_ONLY

READINGS = {"higher": "outside noise: higher", "lower": "outside noise: lower", "not distinguishable": "inside noise"}
"""Verdict -> how reports and cards say it."""
NAMES = {ROUND_0: "round 0", SEEDS_ONLY: "the seeds-only student"}
"""What a round is compared with -> how reports and cards call it."""


def in_words(paired: Mapping[str, Any], index: int, baseline: str) -> str:
    """On which texts the student of round `index` and the `baseline` (a key of `significance`) of a `PairedTest` differ, as words in a
    sentence."""
    return (
        f"texts that only round {index} has right: {paired['only_first']}, only {NAMES[baseline]}: {paired['only_second']}; "
        f"McNemar's p {paired['p']:.3f}"
    )


def adoption_in_words(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Which rounds were adopted though no text could be compared, and which were not because they were doubted (see `stages.adopt`): a
    sentence for each; "" where there is none. `metrics` are those of the scored rounds, in their order."""
    adoptions = [
        (index, adoption)
        for index, adoption in enumerate(content.get("adoption") for content in metrics)
        if adoption and adoption.get("against") is not None
    ]
    sentences = []
    if unseen := [
        str(index) for index, adoption in adoptions if adoption["adopted"] and adoption.get("difference") is None
    ]:
        sentences.append(
            f"Adopted without a comparison: {_rounds(unseen)}. Each seed has a label that no other has; with a second seed for "
            "each label, or with a dev set, rounds can be compared."
        )
    if doubted := [str(index) for index, adoption in adoptions if adoption.get("doubted") and not adoption["adopted"]]:
        sentences.append(
            f"Not adopted: {_rounds(doubted)}. The seeds-only student labels the texts, or those of a round before that was not adopted, "
            "as they were asked for significantly more often than the teacher, and no comparison shows that they help all the same."
        )
    return " ".join(sentences)


def _rounds(indices: Sequence[str]) -> str:
    return f"{'round' if len(indices) == 1 else 'rounds'} {', '.join(indices)}"


def paired_sentence(first: Mapping[str, Any], index: int, metrics: Mapping[str, Any]) -> str:
    """The student of round `index` against the better one that knows the seeds alone, as a sentence after a blank; "" where that is
    not measured. `first` are the metrics of round 0."""
    tests = metrics.get("paired") or {}
    baselines = {ROUND_0: first["test"], SEEDS_ONLY: first.get("seeds_only")}
    scores = {key: primary_metric(baseline).value for key, baseline in baselines.items() if baseline and key in tests}
    if not scores:
        return ""
    best = max(scores, key=scores.__getitem__)
    test = tests[best]
    return (
        f" Round {index} minus {NAMES[best]}: {test['difference']:+.3f} (95 % interval {test['low']:+.3f} to {test['high']:+.3f}), "
        f"{READINGS[test['verdict']]}; {in_words(test, index, best)}."
    )
