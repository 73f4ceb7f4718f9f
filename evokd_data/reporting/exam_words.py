"""What the teacher's exam showed, in words: the verdict, what follows for the texts, and why the student has a say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evokd_data.records import LabelForm
from evokd_data.seeds import FEW
from evokd_data.strategies.trust import SIGNIFICANCE, chance_of_so_many

USEFUL, UNCERTAIN, CHANCE, ADDS_NOTHING = "useful", "uncertain", "no better than chance", "adds nothing"
BLIND, BELOW_SEEDS = "blind to the texts", "knows less than the seeds"
"""Verdicts. With those of REFUSED a run stops."""
REFUSED = (CHANCE, ADDS_NOTHING, BLIND, BELOW_SEEDS)
EASY = 0.95
"""From this accuracy of the seeds-only student on, no teacher can show that it adds something: nothing is left to add."""
SURE = 0.9
"""From this accuracy on, at the lower end of its interval, a label counts whatever was asked for."""
NO_LABELS = "spell out task.noun, label_names and label_descriptions"
NOT_STOPPED = "this does not stop the run, and a round is not adopted where real texts show that it is worse"
"""What follows where the exam cannot tell."""
REMEDY = f"{NO_LABELS}, give more seeds or seeds that are harder to tell apart, take a larger teacher, or set teacher_trust: force to go on"
"""What can be done about a verdict that stops a run."""


def message(content: Mapping[str, Any]) -> str:
    """The verdict in plain words. `content` is that of exam.json."""
    return f"{finding(content)}; {NOT_STOPPED}" if content["verdict"] == UNCERTAIN else finding(content)


def finding(content: Mapping[str, Any]) -> str:
    """What the exam shows, in plain words, without what follows. `content` is that of exam.json."""
    chosen, verdict = content["chosen"], content["verdict"]
    form = LabelForm(**chosen["form"]).name
    shown = f"{chosen['accuracy']:.2f} ({chosen['low']:.2f} to {chosen['high']:.2f}, {content['questions']} seeds)"
    if content.get("alone"):
        alone = "1 is" if content["alone"] == 1 else f"{content['alone']} are"
        shown += f", or more often: {alone} alone in a class, whose example the exam could not show"
    if verdict == USEFUL:
        measure = "accuracy" if "pool" in content else "micro-F1"
        return (
            f"the teacher labels the seeds with {measure} {shown}, asked by {form}{_worth_beside_the_student(content)}"
        )
    student = content["student"]["accuracy"] if "student" in content else 0.0
    if verdict == UNCERTAIN and (content["questions"] < FEW or not _beats_chance(content)):
        return f"{content['questions']} seeds are too few to say how well the teacher labels: it is right on {shown}, asked by {form}"
    if verdict == UNCERTAIN:
        return (
            f"the seeds are too easy to say what the teacher adds: a small student that has learned the other seeds alone is right on "
            f"{student:.2f} of them, the teacher on {shown}, asked by {form}; give seeds that are harder to tell apart, or see first "
            "whether the student of round 0 is good enough"
        )
    if verdict == ADDS_NOTHING and "pool" not in content:
        return (
            f"the teacher's labels add nothing to the seeds: a small student that has learned the other seeds alone does better than the teacher "
            f"on significantly more seeds than it does worse; its micro-F1 is {student:.2f}, the teacher's {shown}"
        )
    if verdict == ADDS_NOTHING:
        return (
            f"the teacher's labels add nothing to the seeds: a small student that has learned the other seeds alone is right on "
            f"{student:.2f} of them, the teacher on {shown}{_together(content)}"
        )
    return f"the teacher labels the seeds no better than chance ({content['chance']:.2f}): it is right on {shown}"


def _beats_chance(content: Mapping[str, Any]) -> bool:
    right = round(content["chosen"]["accuracy"] * content["questions"])
    return chance_of_so_many(right, content["questions"], content["chance"]) <= SIGNIFICANCE


def _worth_beside_the_student(content: Mapping[str, Any]) -> str:
    """Why a teacher that is right less often than the seeds-only student is of use."""
    chosen = content["chosen"]
    if "pool" not in content or not chosen["student_weight"] or chosen["accuracy"] >= content["student"]["accuracy"]:
        return ""
    return (
        f"; a small student that has learned the other seeds alone is right on {content['student']['accuracy']:.2f}, and both together, whose labels "
        f"are used, on {content['pool']['accuracy']:.2f}"
    )


def _together(content: Mapping[str, Any]) -> str:
    """What both together reach, where their labels would be used."""
    if "pool" not in content or not content["chosen"]["student_weight"]:
        return ""
    return f"; both together are right on {content['pool']['accuracy']:.2f}, which is not surely more than that student alone"


def rule_in_words(content: Mapping[str, Any], disagreement: str, confidence: float) -> str:
    """What `filters.label_disagreement` makes of a text whose label is not the one that was asked for, and why, in a sentence.

    `disagreement` and `confidence` are the recipe's `filters.label_disagreement` and `filters.label_confidence`.
    """
    if disagreement != "auto":
        return (
            f"filters.label_disagreement is {disagreement}: such a text {_FATES[disagreement]}, whatever the exam shows"
        )
    least = f"; a label counts from a probability of {confidence:g} on (filters.label_confidence)" if confidence else ""
    rule = content["rule"]
    if "pool" not in content:
        return (
            f"filters.label_disagreement: auto is {rule} for spans: a text without the span that was asked for "
            f"{_FATES[rule]}{least}"
        )
    pool = content["pool"]
    reaches = "reaches" if rule == "relabel" else "does not reach"
    whose = "of teacher and student together" if content["chosen"]["student_weight"] else "of the teacher"
    return (
        f"filters.label_disagreement: auto is {rule} here: a text that is labelled otherwise than it was asked for {_FATES[rule]}, "
        f"because labels {whose} are right on {pool['accuracy']:.2f} of the seeds, and the lower end of that interval, {pool['low']:.2f}, "
        f"{reaches} {SURE:.2f}{least}"
    )


_FATES = {
    "relabel": "is kept with the label that it is given",
    "reject": "is dropped",
    "intended": "is kept with the label that was asked for",
}


def mixture_in_words(content: Mapping[str, Any]) -> str:
    """Why the seeds-only student has a say in the labels, or none, where the shares alone do not show it; else ""."""
    if "pool" not in content:
        return ""
    chosen, pool = content["chosen"], content["pool"]
    if content.get("alone") == content["questions"]:
        return "the seeds-only student and the teacher count alike in the labels: with one seed a class the exam cannot weigh them"
    if not chosen["student_weight"]:
        return (
            "the seeds-only student has no say in the labels: with it they fit the seeds worse than the teacher's alone"
        )
    if pool["accuracy"] >= chosen["accuracy"]:
        return ""
    fit = "better" if pool["log_likelihood"] > chosen["score"] else "as well, within one standard error"
    return (
        f"labels are made of the teacher's and the seeds-only student's probabilities, though such labels are right on fewer seeds "
        f"({pool['accuracy']:.2f}) than the teacher's own ({chosen['accuracy']:.2f}): texts are kept by probability, and the joint "
        f"probabilities fit the seeds {fit} (mean log-probability of the right label {pool['log_likelihood']:.2f}, of the teacher's own "
        f"{chosen['score']:.2f})"
    )
