"""What was rejected and why, what the run took, and how varied its texts are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from evokd_data.generation.filters import REASONS
from evokd_data.recipe_sections import Prices
from evokd_data.records import token_count
from evokd_data.reporting.report_sections.run_files import RoundFiles, RunFiles
from evokd_data.reporting.shown_rows import rejections as shown_rejections
from evokd_data.settings import build

EXAMPLES = 5
"""Rejected texts shown of each reason, from the newest rounds."""
DIVERSITY = ("n", "distinct_2", "similarity", "vendi")


def rejections(run: RunFiles) -> dict[str, Any] | None:
    """{"asked", "kept", "reasons": [{"reason", "meaning", "count", "by_round", "examples"}], "rounds"}, the most frequent first.

    An example is {"round", "text", "intended", "detail"}; of a duplicate the detail is the text that it repeats. None when no
    round asked for texts.
    """
    rounds = [round_files for round_files in run.of_teacher if round_files.totals]
    if not rounds:
        return None
    counts = Counter[str]()
    for round_files in rounds:
        counts.update(round_files.totals["rejected"])
    examples = _examples(run, rounds, counts)
    return {
        "asked": sum(round_files.totals["asked"] for round_files in rounds),
        "kept": sum(round_files.totals["kept"] for round_files in rounds),
        "rounds": [round_files.index for round_files in rounds],
        "reasons": [
            {
                "reason": reason,
                "meaning": REASONS.get(reason, ""),
                "count": count,
                "by_round": [round_files.totals["rejected"].get(reason, 0) for round_files in rounds],
                "examples": examples[reason],
            }
            for reason, count in counts.most_common()
        ],
    }


def _examples(run: RunFiles, rounds: list[RoundFiles], counts: Counter[str]) -> dict[str, list[dict[str, Any]]]:
    examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for reason in counts.keys() & REASONS.keys():
        for round_files in reversed(rounds):
            missing = EXAMPLES - len(examples[reason])
            if missing and round_files.totals["rejected"].get(reason):
                shown = shown_rejections(run.workspace, round_files.folder, missing, reason)
                examples[reason] += [{"round": round_files.index, **row} for row in shown if row["text"]]
    return examples


def spending(run: RunFiles) -> dict[str, Any]:
    """{"rounds": [{"round", "prompt_tokens", "completion_tokens", "generate_s", "train_s", "cost_usd"}], "total", "priced"}.

    Seconds are those of the process that finished the stage. `cost_usd` is None where the recipe has no prices. What the teacher's own
    score on the test set took stands last, with None as its round and no time.
    """
    rows = []
    for round_files in run.rounds:
        totals, metrics = round_files.totals, round_files.metrics
        if totals:
            rows.append(
                {
                    "round": round_files.index,
                    "prompt_tokens": totals["prompt_tokens"],
                    "completion_tokens": totals["completion_tokens"],
                    "generate_s": totals["seconds"],
                    "train_s": metrics.get("seconds"),
                    "cost_usd": totals.get("cost_usd"),
                }
            )
    if run.workspace.teacher_test_journal.is_dir():
        rows.append(_teacher_test(run))
    keys = ("prompt_tokens", "completion_tokens", "generate_s", "train_s", "cost_usd")
    numbers = {key: [row[key] for row in rows if row[key] is not None] for key in keys}
    total = {key: sum(values) if values else None for key, values in numbers.items()}
    return {"rounds": rows, "total": total, "priced": bool(numbers["cost_usd"])}


def _teacher_test(run: RunFiles) -> dict[str, Any]:
    """The tokens of the teacher's test, at the prices of the recipe."""
    answers = list(run.answers(run.workspace.teacher_test_journal))
    tokens = {
        key: sum(token_count(answer[key]) for answer in answers) for key in ("prompt_tokens", "completion_tokens")
    }
    table = run.recipe.get("prices")
    prices = build(Prices, table, "prices")[0] if isinstance(table, Mapping) else None
    cost = round(prices.of(**tokens), 6) if prices else None
    return {"round": None, **tokens, "generate_s": None, "train_s": None, "cost_usd": cost}


def variety(run: RunFiles) -> list[dict[str, Any]]:
    """A row for each round whose texts were measured: diversity, and how well a detector tells them from real texts."""
    rows = []
    for round_files in run.rounds:
        measured, detector = round_files.metrics.get("diversity"), round_files.metrics.get("detector")
        if round_files.index and measured:
            rows.append(
                {
                    "round": round_files.index,
                    **{key: measured.get(key) for key in DIVERSITY},
                    **{key: (detector or {}).get(key) for key in ("auc", "sd", "reason")},
                }
            )
    return rows
