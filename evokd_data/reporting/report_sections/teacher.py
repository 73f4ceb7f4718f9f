"""The teacher: its exam on the seeds, its own score on the test set, and how it labelled what it was asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evokd_data.records import LabelForm
from evokd_data.reporting.label_trust import what_becomes_of_a_text
from evokd_data.reporting.primary_metric import NAMES
from evokd_data.reporting.report_sections.run_files import RoundFiles, RunFiles
from evokd_data.storage.shards import read_table
from evokd_data.storage.workspace import read_json
from evokd_data.strategies.trust import wilson_interval

LABELLED = re.compile(r"labelled (.+) \(\d\.\d\d\)", re.DOTALL)
"""What `strategies.labelling` writes into the detail of a rejection."""
JUDGED = ("label_disagreement", "label_uncertain", "label_tie")
"""Reasons of rejections whose text has a label."""
NO_SPAN = "no span"

Pair = tuple[str, str]
"""Label asked for, label given."""


def teacher(run: RunFiles) -> dict[str, Any]:
    """{"name", "engine", "exam", "rule", "test", "matrix"}; the last three and the exam may be None."""
    plans = [round_files.plan for round_files in run.rounds if round_files.plan.get("labelling")]
    return {
        "name": run.teacher_name,
        "engine": str(run.inputs["teacher"].get("engine", "")),
        "exam": _exam(run),
        "rule": what_becomes_of_a_text(plans[-1]) if plans else "",
        "test": _test(run.summary["teacher"]),
        "labels_asked_for": "label.j2" in run.inputs["prompts"],
        "matrix": _matrix(run),
    }


def told_once(messages: Sequence[str]) -> str:
    """What all exams said, as sentences. A forced run's second exam begins with what the first one said: that is told once."""
    repeated = (any(later.startswith(message) for later in messages[i:]) for i, message in enumerate(messages, start=1))
    return ". ".join(message for message, again in zip(messages, repeated, strict=True) if not again)


def _exam(run: RunFiles) -> dict[str, Any] | None:
    """The last exam, with what each exam said: its verdict, the forms that were tried, and each class with a Wilson interval."""
    exams = [round_files for round_files in run.rounds if round_files.folder.exam.exists()]
    if not exams:
        return None
    content = read_json(exams[-1].folder.exam)
    chosen = content["chosen"]
    others = [
        {"name": name, **{key: content[part].get(key) for key in ("accuracy", "low", "high")}}
        for part, name in (("student", "seeds-only student"), ("pool", "both together"))
        if part in content
    ]
    return {
        "round": exams[0].index,
        "questions": content["questions"],
        "chance": content["chance"],
        "verdict": content["verdict"],
        "message": told_once([read_json(taken.folder.exam)["message"] for taken in exams]),
        "form": LabelForm(**chosen["form"]).name,
        "scores": [{"name": "teacher", **{key: chosen[key] for key in ("accuracy", "low", "high")}}, *others],
        "forms": [
            {
                "name": f"{LabelForm(**form['form']).name}{_first_alone(form, content)}",
                "accuracy": form["accuracy"],
                "score": form["score"],
                "chosen": form["form"] == chosen["form"],
            }
            for form in content["forms"]
        ],
        "classes": [
            {"name": name, **counts, **_share(counts["right"], counts["n"])}
            for name, counts in chosen.get("per_class", {}).items()
        ],
    }


def _first_alone(form: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    questions = form.get("questions", content["questions"])
    return f" (first {questions} seeds)" if questions < content["questions"] else ""


def _share(right: int, count: int) -> dict[str, float | None]:
    """{"share", "low", "high"} of a count, with Wilson's interval."""
    low, high = wilson_interval(right, count)
    return {"share": right / count if count else None, "low": low, "high": high}


def _test(scores: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The teacher's metrics on the test set: a row for each way of asking and metric."""
    rows = []
    for key, name in (("with_seeds", "seeds shown"), ("zero_shots", "no examples")):
        for metric, title in NAMES.items():
            if scores and metric in scores[key]:
                low, high = scores[key].get("intervals", {}).get(metric) or (None, None)
                rows.append(
                    {"name": name, "metric": title, "n": scores["n"], "value": scores[key][metric], "low": low, "high": high}
                )  # fmt: skip
    return rows


def _matrix(run: RunFiles) -> dict[str, Any] | None:
    """{"labels", "columns", "cells": [[asked, given, kept, rejected]], "totals", "asked", "agreed", "share", "low", "high"}.

    `cells` name labels by their index, `totals` are the texts of each row. A text with spans counts for each type in it. None when no text was asked for by label.
    """
    columns = [*run.labels, NO_SPAN] if run.has_spans else run.labels
    row_of = {label: index for index, label in enumerate(run.labels)}
    column_of = {label: index for index, label in enumerate(columns)}
    kept, rejected = Counter[Pair](), Counter[Pair]()
    totals = Counter[str]()
    asked = agreed = 0
    for round_files in run.rounds:
        rejects = round_files.plan.get("labelling", {}).get("rule") == "reject"
        for label, given in _kept_pairs(round_files):
            asked, agreed = asked + 1, agreed + (rejects or label in given)
            totals[label] += 1
            kept.update((label, other) for other in given or (NO_SPAN,))
        for label, other in _rejected_pairs(round_files):
            asked, agreed = asked + 1, agreed + (label == other)
            if other:
                totals[label] += 1
                rejected[label, other] += 1
    if not asked:
        return None
    cells = [
        [row_of[label], column_of[given], kept[label, given], rejected[label, given]]
        for label, given in sorted(kept.keys() | rejected.keys())
        if label in row_of and given in column_of
    ]
    return {
        "labels": run.labels,
        "columns": columns,
        "cells": cells,
        "totals": [totals[label] for label in run.labels],
        "asked": asked,
        "agreed": agreed,
        **_share(agreed, asked),
    }


def _kept_pairs(round_files: RoundFiles) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(label asked for, labels given) of the samples that were asked for by label. In a corrected round a person gave them."""
    is_of_teacher = round_files.index and "corrections" not in round_files.plan
    for path in round_files.folder.shard_files() if is_of_teacher else ():
        table = read_table(path)
        names = [name for name in ("intended", "label", "spans") if name in table.column_names]
        for row in _rows(table.select(names).to_batches()):
            if row["intended"]:
                given = (row["label"],) if "label" in row else tuple(dict.fromkeys(s["type"] for s in row["spans"]))
                yield row["intended"], given


def _rejected_pairs(round_files: RoundFiles) -> Iterator[Pair]:
    """(label asked for, label given) of the rejected texts that had been labelled; "" for a label that is not recorded."""
    for path in round_files.folder.rejection_files():
        for row in _rows(read_table(path).select(["intended", "reason", "detail"]).to_batches()):
            if row["intended"] and row["reason"] in JUDGED:
                labelled = LABELLED.search(row["detail"])
                yield row["intended"], labelled[1] if labelled else ""


def _rows(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()
