"""Rules: one decision for all samples like one. How many rows a rule touches is known before it is applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import regex

from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.errors import DataError
from evokd_data.generation.near_duplicates import SHINGLE
from evokd_data.normal_form import normal_form
from evokd_data.records import Sample
from evokd_data.settings import short
from evokd_data.storage.corrections import RowKey

MAX_PATTERN = 200
"""Characters of a phrase or a regular expression."""
MATCH_S = 0.05
"""Seconds that a regular expression may take for one text; some would take years."""
MAX_NEAREST = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """Which undecided rows are meant; all that is given must hold.

    `label`: the row has this label, or a span of this type. `intended`: whether its label is the one that was asked for ("equal",
    "differs"). `student`: whether the student that had not learned it predicted its label ("equal", "differs"). `phrase`: its text holds
    this, whatever the case. `regex`: a regular expression is in its text. `like` with `nearest`: it is one of so many rows whose
    wording is nearest to this row's, by the Jaccard similarity of character 5-grams.
    """

    label: str | None = None
    intended: str | None = None
    student: str | None = None
    phrase: str | None = None
    regex: str | None = None
    like: RowKey | None = None
    nearest: int = 0

    @classmethod
    def of(cls, value: Any) -> Rule:
        """The rule in a JSON object. Raises DataError, which quotes what is wrong."""
        if not isinstance(value, dict) or not value.keys() <= set(cls.__slots__):
            raise DataError(f"rule: {short(value)} is none; it may hold {', '.join(cls.__slots__)}")
        given = {key: item for key, item in value.items() if item not in (None, "", 0)}
        for key in ("label", "phrase", "regex"):
            if key in given and not (isinstance(given[key], str) and len(given[key]) <= MAX_PATTERN):
                raise DataError(
                    f"rule: {key}: {short(given[key])} is no text of at most {MAX_PATTERN} characters; shorten it"
                )
        for key in ("intended", "student"):
            if given.get(key, "equal") not in ("equal", "differs"):
                raise DataError(f"rule: {key}: {short(given[key])} is neither 'equal' nor 'differs'; give one of them")
        nearest = given.get("nearest", 0)
        if type(nearest) is not int or not 0 <= nearest <= MAX_NEAREST:
            raise DataError(f"rule: nearest: {short(nearest)} is no number up to {MAX_NEAREST}; give one")
        if not given.keys() & {"label", "intended", "student", "phrase", "regex", "like"}:
            raise DataError(
                "rule: holds nothing, and would mean every sample; give a label, a phrase or another condition"
            )
        if "like" in given:
            given["like"] = row_key(given["like"])
        return cls(**given)


def row_key(value: Any) -> RowKey:
    """A row as JSON has it: [round, id]. Raises DataError."""
    if not isinstance(value, list) or [type(part) for part in value] != [int, str]:
        raise DataError(f"row: {short(value)} is not [round, id]; reload the page")
    return value[0], value[1]


def matching_rows(review: ReviewedRun, rule: Rule) -> list[RowKey]:
    """The undecided rows that a rule means: in index order, or those nearest in wording first. Raises DataError for a regular
    expression that is none, or that takes too long."""
    decided = review.decisions()
    pattern = _compiled(rule.regex)
    phrase = rule.phrase.casefold() if rule.phrase else ""
    matches = []
    for sample in review.samples:
        key = (sample.origin.round, sample.id)
        if key in decided or not _fits(review, rule, key, sample) or phrase not in sample.text.casefold():
            continue
        if pattern is not None and not _searches(pattern, sample.text, rule):
            continue
        matches.append((key, sample.text))
    if rule.like is None or not rule.nearest:
        return [key for key, _ in matches]
    grams = _grams(review.sample(rule.like).text)
    ranked = sorted(matches, key=lambda match: -_jaccard(grams, _grams(match[1])))
    return [key for key, _ in ranked[: rule.nearest]]


def _fits(review: ReviewedRun, rule: Rule, key: RowKey, sample: Sample) -> bool:
    task = review.task
    if rule.label is not None and not task.carries(sample.target, rule.label):
        return False
    if rule.intended is not None and agrees_with_intended(review, sample) != (rule.intended == "equal"):
        return False
    return rule.student is None or agrees_with_student(review, key) == (rule.student == "equal")


def agrees_with_intended(review: ReviewedRun, sample: Sample) -> bool | None:
    """Whether the label, or a span's type, is what the text was asked for; None where nothing was."""
    intended = sample.origin.intended
    return review.task.carries(sample.target, intended) if intended else None


def agrees_with_student(review: ReviewedRun, key: RowKey) -> bool | None:
    """Whether the student predicted the row's target before it learned the row; None where there is no prediction."""
    prediction = review.predictions.get(key)
    return None if prediction is None else not review.task.mistakes(prediction)


def _compiled(expression: str | None) -> regex.Pattern[str] | None:
    try:
        return regex.compile(expression) if expression else None
    except regex.error as error:
        raise DataError(f"rule: regex: {short(expression)} is no regular expression ({error}); correct it") from None


def _searches(pattern: regex.Pattern[str], text: str, rule: Rule) -> bool:
    try:
        return pattern.search(text, timeout=MATCH_S) is not None
    except TimeoutError:
        raise DataError(
            f"rule: regex: {short(rule.regex)} takes too long on {short(text)}; write a simpler one"
        ) from None


def _grams(text: str) -> set[str]:
    form = normal_form(text)
    return {form[start : start + SHINGLE] for start in range(max(1, len(form) - SHINGLE + 1))}


def _jaccard(grams: set[str], others: set[str]) -> float:
    return len(grams & others) / max(1, len(grams | others))


def suspicious_first(review: ReviewedRun) -> list[RowKey]:
    """All rows in the order in which a person should look: first what the student, before it learned them, predicted otherwise, the
    surest first; then what is labelled otherwise than it was asked for; then the rest."""
    doubts = {key: _doubt(review, key, sample) for key, sample in zip(review.index_of, review.samples, strict=True)}
    return sorted(doubts, key=lambda key: (-doubts[key], review.index_of[key]))


def _doubt(review: ReviewedRun, key: RowKey, sample: Sample) -> float:
    if agrees_with_student(review, key) is False:
        return 1 + review.predictions[key].confidence
    return float(agrees_with_intended(review, sample) is False)
