"""The student: its confusion matrix in each round, and the F1 of each class over the rounds."""

from __future__ import annotations

from typing import Any

from evokd_data.reporting.report_sections.run_files import RunFiles


def student(run: RunFiles) -> dict[str, Any] | None:
    """{"name", "rounds", "labels", "confusions", "classes", "best", "compared"}; None before a round is scored.

    `confusions` holds, for each scored round, [expected, predicted, count] by index; it is empty for spans. `classes` has a row
    for each class with its F1 in each of `rounds`. `best` is the round to show first: the adopted one, where rounds were `compared`.
    """
    if not run.scored:
        return None
    tests = [round_files.metrics["test"] for round_files in run.scored]
    labels = list(tests[-1]["per_class"])
    best = run.best
    return {
        "name": run.student_name,
        "kind": str(run.inputs["student"].get("kind", "")),
        "rounds": [round_files.index for round_files in run.scored],
        "best": best.index if best else run.scored[-1].index,
        "compared": bool(run.scored[-1].metrics.get("adoption")),
        "labels": labels,
        "confusions": [_cells(test["confusion"]) for test in tests if "confusion" in test],
        "classes": [
            {
                "name": label,
                "support": tests[-1]["per_class"][label]["support"],
                "f1": [test["per_class"][label]["f1"] for test in tests],
                "precision": tests[-1]["per_class"][label]["precision"],
                "recall": tests[-1]["per_class"][label]["recall"],
            }
            for label in labels
        ],
    }


def _cells(confusion: list[list[int]]) -> list[list[int]]:
    """The cells of a matrix that are not 0: [row, column, count]."""
    return [[i, j, count] for i, row in enumerate(confusion) for j, count in enumerate(row) if count]
