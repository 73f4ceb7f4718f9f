"""The exam again: before round 2, how far the teacher can be trusted is estimated anew on the texts of round 1. Writes exam.json.

The first exam knows the seeds alone. Here nobody knows the right labels, so only what needs none is used. At most QUESTIONS texts that
were labelled in round 1, evenly over the labels they were asked for, are labelled up to three times: in the chosen form, in the chosen
form with its demonstrations in the opposite order, and in the form that came second. That is at most 60 prompts, journalled in round 2.

- Of two different labels for one text at least one is wrong. So in the two orders together the teacher is right on at most
  (1 + share of equal labels) / 2 of the texts, whatever the texts are; `at_most` takes the upper end of the share's interval. Where its
  probabilities claim more, their temperature is raised until they claim that much; and below SURE a label does not count against what
  the text was asked for (rule "relabel" becomes "reject").
- A teacher is blind to the texts when its labels agree no more often than their frequencies alone would have it, in the other order,
  and are no more often than by chance what the texts were asked for, among the questions and in all of round 1. Then the run stops.
- The agreement with the second form, the share labelled as asked for, class by class, and how flat the probabilities are, are told.

Agreement proves nothing right: a teacher that is sure and wrong agrees with itself. So this exam lowers trust and never raises it. A
teacher that is always right gives one label in every order, and nothing changes.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evokd_data.digest import derive_random, derive_seed
from evokd_data.generation.refusals import require_answers
from evokd_data.recipe import OFF, Recipe
from evokd_data.records import LabelForm, Labelling, Rejection, Sample
from evokd_data.reporting.exam_words import BLIND, REFUSED, SURE
from evokd_data.reporting.label_trust import enumerated
from evokd_data.seeds import FEW
from evokd_data.stages.exam import EXAM, labelling_of
from evokd_data.stages.plan import latest_exam, make_brief
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.strategies import POOL, Ask, Brief
from evokd_data.strategies.demonstrations import labelling_demonstrations
from evokd_data.strategies.labelling import DECIMALS, can_be_scored, label_prompt, read_probabilities
from evokd_data.strategies.prompts import prompt_key
from evokd_data.strategies.trust import (
    SIGNIFICANCE,
    calibrate,
    chance_of_so_many,
    flatness,
    temperature_for,
    wilson_interval,
)
from evokd_data.tasks import Unreadable

QUESTIONS = 20
"""Texts of round 1 that are asked about, each in up to WAYS ways."""
WAYS = 3
ROUND = 2
"""The exam is taken again before this round."""
FLAT = 0.95
"""With more of the entropy of equal probabilities, the teacher's say next to nothing."""
LABELLED = ("label_disagreement", "label_uncertain", "label_tie")
"""Rejections of texts that had a label."""

Texts = Mapping[str, Sequence[str]]
"""Label that texts were asked for -> the texts."""


def needs_second_exam(recipe: Recipe, workspace: Workspace, index: int) -> bool:
    """Whether the exam is taken again before round `index`: a task with one label a text, whose first exam was taken."""
    return (
        index == ROUND
        and recipe.teacher_trust != OFF
        and can_be_scored(recipe.task)
        and latest_exam(workspace, index) is not None
        and any(labelled_texts(recipe, workspace, index - 1).values())
    )


def labelled_texts(recipe: Recipe, workspace: Workspace, index: int) -> Texts:
    """The texts of a round that the teacher wrote and labelled, by the label they were asked for, in index order."""
    texts: dict[str, list[str]] = {label: [] for label in recipe.task.labels}
    for fate in _fates(recipe, workspace, index):
        texts[fate.origin.intended].append(fate.text)
    return texts


def _fates(recipe: Recipe, workspace: Workspace, index: int) -> list[Sample | Rejection]:
    folder = workspace.round(index)
    fates: list[Sample | Rejection] = list(ShardedSamples(recipe.task, folder.shard_files()))
    fates += [rejection for rejection in read_rejections(folder.rejection_files()) if rejection.reason in LABELLED]
    fates = [fate for fate in fates if fate.origin.intended in recipe.task.labels and fate.origin.strategy != POOL]
    return sorted(fates, key=lambda fate: (fate.origin.request, fate.origin.position))


def questions(recipe: Recipe, texts: Texts, most: int = QUESTIONS) -> list[tuple[str, str]]:
    """(label asked for, text) of at most `most` texts: one of each label, then a second of each, and so on."""
    labels = [label for label in texts if texts[label]]
    derive_random(recipe.seed, "second exam").shuffle(labels)
    shuffled = {label: list(texts[label]) for label in labels}
    for label in labels:
        derive_random(recipe.seed, "second exam", label).shuffle(shuffled[label])
    turns = max((len(own) for own in shuffled.values()), default=0)
    chosen = [
        (label, shuffled[label][turn]) for turn in range(turns) for label in labels if turn < len(shuffled[label])
    ]
    return chosen[:most]


async def second_exam(recipe: Recipe, workspace: Workspace, index: int, ask: Ask) -> Mapping[str, Any]:
    """The content of the round's exam.json, read when it is there: that of the first exam with "again", "corrected", and perhaps another
    verdict."""
    folder = workspace.round(index)
    if not folder.exam.exists():
        first = latest_exam(workspace, index)
        assert first is not None
        labelling = labelling_of(recipe, first)
        asked_for, texts = zip(*questions(recipe, labelled_texts(recipe, workspace, index - 1)), strict=True)
        brief = make_brief(recipe, workspace, index, replace(labelling, scored=True))
        shown = labelling_demonstrations(brief)
        rows = await _label(recipe, brief, texts, shown, "chosen", ask)
        reordered = await _label(recipe, brief, texts, shown[::-1], "opposite", ask) if len(shown) > 1 else None
        second = None
        if choice := first.get("choice"):
            form = LabelForm(**choice["second"])
            other = make_brief(recipe, workspace, index, replace(labelling, form=form, scored=True))
            second = await _label(recipe, other, texts, labelling_demonstrations(other), "second", ask)
        again = _measured(labelling, recipe.task.classes, asked_for, rows, reordered, second)
        again |= {"round": index - 1, "as_asked": _as_asked(recipe, workspace, index - 1, labelling)}
        write_checked_json(folder.exam, _content(recipe, first, labelling, again, rows))
    return read_json(folder.exam)


async def _label(
    recipe: Recipe, brief: Brief, texts: Sequence[str], shown: Sequence[Mapping[str, Any]], way: str, ask: Ask
) -> list[tuple[float, ...]]:
    """The teacher's probability of each class for each text, () where its answer could not be read."""
    prompts = [
        label_prompt(
            brief, text, shown, prompt_key(EXAM, "again", way, number), derive_seed(brief.seed, EXAM, way, number)
        )
        for number, text in enumerate(texts)
    ]
    answers = await asyncio.gather(*map(ask, prompts))
    require_answers(recipe, answers)
    rows: list[tuple[float, ...]] = []
    for text, answer in zip(texts, answers, strict=True):
        try:
            rows.append(read_probabilities(brief, answer, text))
        except Unreadable:
            rows.append(())
    return rows


def _measured(
    labelling: Labelling,
    classes: Sequence[str],
    asked_for: Sequence[str],
    rows: Sequence[tuple[float, ...]],
    reordered: Sequence[tuple[float, ...]] | None,
    second: Sequence[tuple[float, ...]] | None,
) -> dict[str, Any]:
    """What the answers say: {"texts", "opposite_order", "second_form", "questions_as_asked", "confidence", "flatness", "at_most",
    "by_frequency"}. The first three after "texts" count equal labels, and are None for a way that was not asked.

    `by_frequency`: how many labels were equal in the other order if the labels' frequencies alone decided.
    """
    labels = _labels(rows, classes)
    readable = [calibrate(row, (), labelling.temperature) for row in rows if row]
    other_order = None if reordered is None else _labels(reordered, classes)
    at_most, by_frequency = 1.0, None
    if other_order is not None:
        at_most = (1 + wilson_interval(_equal(labels, other_order), len(labels))[1]) / 2
        frequencies, others = Counter(filter(None, labels)), Counter(filter(None, other_order))
        by_frequency = sum(count * others[label] for label, count in frequencies.items()) / len(labels)
    return {
        "texts": len(labels),
        "opposite_order": None if other_order is None else _equal(labels, other_order),
        "second_form": None if second is None else _equal(labels, _labels(second, classes)),
        "questions_as_asked": _equal(labels, asked_for),
        "confidence": round(math.fsum(map(max, readable)) / len(readable), DECIMALS) if readable else None,
        "flatness": round(flatness(readable), DECIMALS) if readable else None,
        "at_most": round(at_most, DECIMALS),
        "by_frequency": by_frequency,
    }


def _labels(rows: Sequence[tuple[float, ...]], classes: Sequence[str]) -> list[str]:
    """The likeliest class of each row; "" where there is none."""
    return [classes[max(range(len(row)), key=row.__getitem__)] if row else "" for row in rows]


def _equal(labels: Sequence[str], others: Sequence[str]) -> int:
    return sum(bool(label) and label == other for label, other in zip(labels, others, strict=True))


def _as_asked(
    recipe: Recipe, workspace: Workspace, index: int, labelling: Labelling
) -> dict[str, dict[str, int]] | None:
    """{label: {"n", "agreed"}}: of the round's texts that were asked for it and have a label, those that were labelled so. None where
    texts keep the label they were asked for, whatever the teacher says."""
    if labelling.rule == "intended":
        return None
    counts = {label: {"n": 0, "agreed": 0} for label in recipe.task.labels}
    for fate in _fates(recipe, workspace, index):
        if isinstance(fate, Rejection) and fate.reason != "label_disagreement":
            continue  # its rejection does not say which label it was given
        counts[fate.origin.intended]["n"] += 1
        counts[fate.origin.intended]["agreed"] += isinstance(fate, Sample) and fate.target == fate.origin.intended
    return counts


def _content(
    recipe: Recipe,
    first: Mapping[str, Any],
    labelling: Labelling,
    again: dict[str, Any],
    rows: Sequence[tuple[float, ...]],
) -> dict[str, Any]:
    """exam.json: the first exam with what was measured again and what follows from it."""
    temperature = temperature_for([row for row in rows if row], again["at_most"], labelling.temperature)
    corrected: dict[str, Any] = {}
    if temperature != labelling.temperature:
        corrected["temperature"] = temperature
    if first["rule"] == "relabel" and again["at_most"] < SURE:
        corrected["rule"] = "reject"
    content = {**first, "rule": corrected.get("rule", first["rule"]), "again": again}
    content["corrected"] = {**first.get("corrected", {}), **corrected}
    if _is_blind(again, 1 / len(recipe.task.classes)):
        content["verdict"] = BLIND
    sentence = message(again, corrected, content, labelling)
    if content["verdict"] in REFUSED and content["verdict"] == first["verdict"]:
        sentence = f"{first['message']}; {sentence}"  # a run that was forced through round 1 may be asked to stop now
    return {**content, "message": sentence}


def _is_blind(again: Mapping[str, Any], chance: float) -> bool:
    """Whether nothing says that the teacher's labels depend on the texts."""
    count = again["texts"]
    counts = (again["as_asked"] or {}).values()
    asked, agreed = sum(entry["n"] for entry in counts), sum(entry["agreed"] for entry in counts)
    if count < FEW or again["opposite_order"] is None:
        return False
    return all(
        chance_of_so_many(equal, number, min(1.0, share)) > SIGNIFICANCE
        for equal, number, share in (
            (again["opposite_order"], count, again["by_frequency"] / count),
            (again["questions_as_asked"], count, chance),
            (agreed, asked, chance),
        )
    )


def message(
    again: Mapping[str, Any], corrected: Mapping[str, Any], content: Mapping[str, Any], labelling: Labelling
) -> str:
    """What the exam found on the texts and what it changes, in one sentence. `content` is that of exam.json."""
    count = again["texts"]
    ways = []
    if again["opposite_order"] is not None:
        ways.append(f"{again['opposite_order']} the same with its demonstrations in the opposite order")
    if again["second_form"] is not None:
        second = LabelForm(**content["choice"]["second"]).name
        sure = f"the chosen form is better with a probability of {content['choice']['sure']:.2f}"
        ways.append(f"{again['second_form']} the same when asked by {second} ({sure})")
    ways.append(f"{again['questions_as_asked']} as they were asked for")
    shown = f"asked again about {count} texts of round {again['round']}, the teacher labels {enumerated(ways)}"
    if again["flatness"] is not None and again["flatness"] > FLAT:
        shown += ", with probabilities that are nearly equal"
    if content["verdict"] == BLIND:
        return f"{shown}: its labels say nothing of the texts"
    changes = []
    if "temperature" in corrected:
        changes.append(
            f"its probabilities are flattened (temperature {labelling.temperature:g} to {corrected['temperature']:g}), because it is "
            f"right on at most {again['at_most']:.2f} of such texts and claims {again['confidence']:.2f}"
        )
    if "rule" in corrected:
        changes.append(
            f"a text must be labelled as it was asked for (rule relabel to reject), because it is right on at most {again['at_most']:.2f}"
        )
    if not changes:
        return f"{shown}; nothing changes in how labels are trusted"
    return f"{shown}; from round {again['round'] + 1} on {' and '.join(changes)}"
