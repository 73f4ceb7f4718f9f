"""Several runs side by side, and the arms of a comparison: a table, and their curves over each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evokd_data.digest import derive_seed
from evokd_data.errors import DataError
from evokd_data.reporting.primary_metric import NAMES
from evokd_data.reporting.report_sections.outcome import curve
from evokd_data.reporting.report_sections.run_files import RunFiles
from evokd_data.reporting.significance import interval_of_difference, paired_test, reading_of, spread
from evokd_data.storage.outcome_files import read_outcomes


def side_by_side(runs: Sequence[RunFiles]) -> dict[str, Any] | None:
    """{"metric", "same_test", "runs": [{"name", "strategy", "seed", "points", "best", "minus_first", ...}]}; None for one run.

    `minus_first` is {"mean", "low", "high", "verdict"}: the score of the adopted round minus that of the first run, with the 95 %
    interval of another draw of test texts, text by text where both runs keep their outcomes; None where there is nothing to compare. The words are those of `significance`.
    """
    if len(runs) < 2:
        return None
    entries = []
    for run in runs:
        shown = curve(run)
        written = run.of_teacher
        entries.append(
            {
                "name": run.summary["name"],
                "strategy": run.inputs["settings"]["strategy"]["name"],
                "seed": run.inputs["settings"]["seed"],
                "teacher": run.teacher_name,
                "student": run.student_name,
                "points": shown["points"] if shown else [],
                "best": next((point for point in shown["points"] if point["best"]), None) if shown else None,
                "asked": sum(round_files.totals.get("asked", 0) for round_files in written),
                "kept": sum(round_files.totals.get("kept", 0) for round_files in written),
                "tokens": sum(round_files.entry["tokens"] or 0 for round_files in written),
                "seconds": sum(round_files.entry["seconds"] or 0 for round_files in run.rounds),
            }
        )
    metrics = [shown["metric"] for run in runs if (shown := curve(run))]
    same_test = len({str(run.inputs["splits"].get("test")) for run in runs}) == 1 and len(set(metrics)) < 2
    for run, entry in zip(runs, entries, strict=True):
        comparable = same_test and entry is not entries[0]
        entry["minus_first"] = (
            _paired(run, runs[0]) or _difference(entry["best"], entries[0]["best"]) if comparable else None
        )
    return {"metric": metrics[0] if metrics else "F1", "same_test": same_test, "runs": entries}


def _paired(run: RunFiles, first: RunFiles) -> dict[str, Any] | None:
    """The best students of two runs compared text by text; None where the outcomes of one are not there, or of other texts."""
    if run.best is None or first.best is None or run.best.score is None:
        return None
    students = [read_outcomes(each.best.folder.test_outcomes) for each in (run, first) if each.best]
    if students[0] is None or students[1] is None or run.labels != first.labels:
        return None
    seed = derive_seed(run.inputs["settings"]["seed"], "paired")
    paired = paired_test(run.best.score.key, students[0], students[1], len(run.labels), seed)
    if paired is None:
        return None
    return {"mean": paired.difference, "low": paired.low, "high": paired.high, "verdict": paired.verdict}


def _difference(point: Mapping[str, Any] | None, first: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not point or not first or point["low"] is None or first["low"] is None:
        return None
    low, high = interval_of_difference(
        point["value"], (point["low"], point["high"]), first["value"], (first["low"], first["high"])
    )
    verdict = reading_of(low, high)
    return {"mean": point["value"] - first["value"], "low": low, "high": high, "verdict": verdict}


def arms(path: Path | None) -> dict[str, Any] | None:
    """{"metric", "n", "rounds", "samples", "arms", "differences"} of the results.json of `evokd-data compare`; None without a path.

    A point of an arm is the mean over its seeds, `low` and `high` are one standard deviation away. Raises DataError for a file that
    holds something else.
    """
    if path is None:
        return None
    try:
        return _arms(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the results.json that evokd-data compare writes") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path}: is no results.json of evokd-data compare ({type(error).__name__}: {error}); give the one it writes"
        ) from None


def _arms(results: Mapping[str, Any]) -> dict[str, Any]:
    entries = []
    for name, arm in results["arms"].items():
        spreads = [spread(scores) for scores in zip(*arm["score_by_round"], strict=True)]
        last = spread(arm[results["metric"]])
        entries.append(
            {
                "name": name,
                "strategy": arm["strategy"],
                "seeds": last.n,
                "mean": last.mean,
                "sd": last.sd,
                "kept": spread(arm["kept"]).mean,
                "tokens": spread(arm["tokens"]).mean,
                "points": [
                    {"round": index, "value": s.mean, "low": s.mean - (s.sd or 0.0), "high": s.mean + (s.sd or 0.0)}
                    for index, s in enumerate(spreads)
                ],
            }
        )
    keys = ("arm", "reference", "n", "mean", "low", "high", "p_holm", "verdict")
    return {
        "metric": NAMES[results["metric"]],
        "n": results["test"]["n"],
        "rounds": results["budget"]["rounds"],
        "samples": results["budget"]["samples_per_round"],
        "arms": entries,
        "differences": [{key: difference[key] for key in keys} for difference in results["differences"]],
    }
