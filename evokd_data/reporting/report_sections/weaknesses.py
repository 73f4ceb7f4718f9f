"""The weaknesses that were aimed at: what the student got wrong, the texts written for it, and what became of that mistake.

The student of round r - 2 is wrong on texts of round r - 1; texts of round r are written for it; the student of round r, which
has learned them, predicts the texts of round r + 1. All three are fresh texts. A corrected round has none: its rows are those that a
person relabelled. So what comes after is the next round in which a teacher writes; where round r - 1 is a corrected one, the mistake
is counted on its corrected texts and compared with nothing. The test set is the second witness where it has a confusion matrix: the
students of the rounds r - 1 and r.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evokd_data.reporting.report_sections.run_files import RoundFiles, RunFiles
from evokd_data.reporting.significance import SIGNIFICANCE, fisher_exact
from evokd_data.storage.shards import read_probe, read_rejections, read_table

EXAMPLES = 4
"""Texts shown of each kind."""


@dataclass
class _Written:
    """The texts written for one weakness in one round."""

    kept: int = 0
    rejected: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


def weaknesses(run: RunFiles) -> list[dict[str, Any]]:
    """An entry for each weakness that a round aimed at, in the order of rounds and quotas.

    {"round", "name", "kind", "expected", "got", "wrong": texts, "advice", "asked", "kept", "rejected", "texts", "fresh", "test"};
    `fresh` and `test` are {"before", "after", "verdict"}, either of which is {"round", "missed", "n"} or None; with "corrected": true
    where the texts are those of a corrected round.
    """
    counts = _mistakes(run)
    entries = []
    for round_files in run.rounds:
        asked = Counter[str]()
        for quota in round_files.quotas():
            if quota.get("weakness"):
                asked[quota["weakness"]] += quota["samples"]
        if not asked:
            continue
        written, advice = _written(round_files), _advice(run, round_files, set(asked))
        planned = {weakness["name"]: weakness for weakness in round_files.plan["weaknesses"]}
        for name, samples in asked.items():
            weakness = planned.get(name, {"name": name, "missed": 0, "seen": 0, "wrong": []})
            texts = written[name]
            entries.append(
                {
                    "round": round_files.index,
                    "name": name,
                    **{key: weakness.get(key, "") for key in ("kind", "expected", "got")},
                    "wrong": [str(example.get("text", "")) for example in weakness["wrong"][:EXAMPLES]],
                    "advice": advice.get(name, ""),
                    "asked": samples,
                    "kept": texts.kept,
                    "rejected": texts.rejected,
                    "texts": texts.examples,
                    "fresh": _fresh(run, round_files.index, weakness, counts),
                    "test": _on_test(run, round_files.index, weakness),
                }
            )
    return entries


def untargeted(run: RunFiles) -> list[dict[str, Any]]:
    """For each round that aimed at some weaknesses: how many others its plan names. {"round", "aimed", "others"}."""
    rows = []
    for round_files in run.rounds:
        aimed = {quota["weakness"] for quota in round_files.quotas() if quota.get("weakness")}
        if aimed:
            others = [weakness for weakness in round_files.plan["weaknesses"] if weakness["name"] not in aimed]
            rows.append({"round": round_files.index, "aimed": len(aimed), "others": len(others)})
    return rows


def _mistakes(run: RunFiles) -> dict[int, tuple[Counter[tuple[str, str, str]], Counter[str], int]]:
    """Round -> (mistakes by kind, texts that carry each label, texts) of its probe."""
    counts = {}
    if run.task is None:
        return {}
    for round_files in run.rounds:
        if round_files.folder.probe.exists():
            mistakes, seen = Counter[tuple[str, str, str]](), Counter[str]()
            predictions = read_probe(run.task, round_files.folder.probe)
            for prediction in predictions:
                mistakes.update({(m.kind, m.expected, m.got) for m in run.task.mistakes(prediction)})
                seen.update(label for label in run.task.labels if run.task.carries(prediction.expected, label))
            counts[round_files.index] = mistakes, seen, len(predictions)
    return counts


def _fresh(
    run: RunFiles,
    index: int,
    weakness: Mapping[str, Any],
    counts: Mapping[int, tuple[Counter[tuple[str, str, str]], Counter[str], int]],
) -> dict[str, Any]:
    """The share of fresh texts with the mistake. A mistake that expects no class is counted among all texts."""
    mistake = weakness.get("kind", ""), weakness.get("expected", ""), weakness.get("got", "")

    def share(number: int | None) -> dict[str, Any] | None:
        if number is None or number not in counts:
            return None
        mistakes, seen, texts = counts[number]
        return _share(number, mistakes[mistake], seen[mistake[1]] or texts)

    before = share(index - 1)
    after = share(next((round_files.index for round_files in run.of_teacher if round_files.index > index), None))
    if before and index - 1 in {round_files.index for round_files in run.rounds if round_files.corrections is not None}:
        return {"before": {**before, "corrected": True}, "after": after, "verdict": ""}
    return _compared(before, after)


def _on_test(run: RunFiles, index: int, weakness: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same on the test set, from the confusion matrices; None where there are none."""
    shares = []
    for number in (index - 1, index):
        round_files = run.by_index(number)
        test = round_files.metrics.get("test") if round_files else None
        labels = list(test["per_class"]) if test else []
        expected, got = weakness.get("expected", ""), weakness.get("got", "")
        if not test or "confusion" not in test or expected not in labels or got not in labels:
            return None
        row = test["confusion"][labels.index(expected)]
        shares.append(_share(number, row[labels.index(got)], sum(row)))
    return _compared(*shares)


def _share(number: int, missed: int, count: int) -> dict[str, Any] | None:
    return {"round": number, "missed": missed, "n": count} if count else None


def _compared(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    """`verdict`: "rarer" or "more frequent" only where Fisher's exact test of the two counts has a p below SIGNIFICANCE."""
    verdict = ""
    if before and after:
        p = fisher_exact(after["missed"], after["n"], before["missed"], before["n"])
        falls = after["missed"] / after["n"] < before["missed"] / before["n"]
        verdict = "inside noise" if p >= SIGNIFICANCE else "rarer" if falls else "more frequent"
    return {"before": before, "after": after, "verdict": verdict}


def _written(round_files: RoundFiles) -> Mapping[str, _Written]:
    """Weakness -> the texts written for it in the round."""
    written: dict[str, _Written] = defaultdict(_Written)
    for path in round_files.folder.shard_files():
        for batch in read_table(path).to_batches():
            for row in batch.to_pylist():
                if row["weakness"]:
                    texts = written[row["weakness"]]
                    texts.kept += 1
                    if len(texts.examples) < EXAMPLES:
                        label = row.get("label") or ", ".join(dict.fromkeys(s["type"] for s in row.get("spans") or ()))
                        texts.examples.append({"text": row["text"], "label": label})
    for rejection in read_rejections(round_files.folder.rejection_files()):
        if rejection.origin.weakness:
            written[rejection.origin.weakness].rejected += 1
    return written


def _advice(run: RunFiles, round_files: RoundFiles, names: set[str]) -> dict[str, str]:
    """Weakness -> what the teacher advised the writer, from the journal. It is read up to the last advice: that stands early."""
    advice: dict[str, str] = {}
    if "analyse.j2" in run.inputs["prompts"] and round_files.folder.journal.is_dir():
        for answer in run.answers(round_files.folder.journal):
            if names <= advice.keys():
                break
            if answer["stage"] == "analyse":
                try:
                    advice[answer["key"].partition("/")[2]] = str(json.loads(answer["text"])["advice"]).strip()
                except (ValueError, KeyError, TypeError):
                    continue
    return advice
