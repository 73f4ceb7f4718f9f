"""What was done and what came of it: two sentences, more where an exam stopped the run or a person corrected rows, the verdict, the curve of the primary metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evokd_data.reporting.primary_metric import PrimaryMetric
from evokd_data.reporting.report_sections.run_files import RunFiles
from evokd_data.reporting.run_summary import bars
from evokd_data.reporting.significance import ROUND_0, SEEDS_ONLY, interval_of_difference, reading_of
from evokd_data.reporting.stopped_run import stopped_in_words
from evokd_data.reporting.verdict_words import READINGS, adoption_in_words, in_words

OUTSIDE_HIGHER, OUTSIDE_LOWER, INSIDE, UNKNOWN = "higher", "lower", "inside", "unknown"
"""Verdicts: outside noise and higher, outside noise and lower, inside noise, not measured."""
SEED_ROUND = "the student of round 0, which knows the seeds alone"


def outcome(run: RunFiles) -> dict[str, Any]:
    """{"sentences": [two or more], "verdict": {"kind", "words"}, "figures": [{"name", "value", "note"}], "remarks": [...]}."""
    verdict, sentence = result(run)
    stopped = run.summary["stopped"]
    if stopped and verdict["kind"] == UNKNOWN:
        verdict = {"kind": UNKNOWN, "words": f"stopped before round {stopped['round']}"}
    return {
        "sentences": [*stopped_in_words(stopped), _what_was_done(run), sentence, *_what_a_person_did(run)],
        "verdict": verdict,
        "figures": _figures(run),
        "remarks": _remarks(run),
    }


def curve(run: RunFiles) -> dict[str, Any] | None:
    """{"metric", "n", "points": one for each scored round, "lines": what students are compared with}; None before round 0 is scored.

    A value has `low` and `high`, its 95 % interval, or null for both.
    """
    if not run.scored:
        return None
    first = run.scored[0].score
    assert first is not None
    best = run.best
    points = []
    for round_files in run.scored:
        score, adoption = round_files.score, round_files.metrics.get("adoption")
        assert score is not None
        points.append(
            {
                "round": round_files.index,
                **_value(score),
                "adopted": adoption["adopted"] if adoption else None,
                "best": best is not None and round_files.index == best.index,
            }
        )
    lines = [
        {"name": name, "teacher": name.startswith("teacher"), **_value(score)} for name, score in bars(run.summary)
    ]
    return {"metric": first.name, "n": run.scored[-1].metrics["test"]["n"], "points": points, "lines": lines}


def rounds_table(run: RunFiles) -> list[dict[str, Any]]:
    """A row for each round that was begun, as `evokd-data show` has it."""
    rows = []
    for round_files in run.rounds:
        entry, score = round_files.entry, round_files.score
        adoption = round_files.metrics.get("adoption")
        rows.append(
            {
                "round": entry["round"],
                "asked": entry["asked"],
                "kept": entry["kept"],
                "rejected": None if entry["rejected"] is None else sum(entry["rejected"].values()),
                **(_value(score) if score else {"value": None, "low": None, "high": None}),
                "adopted": adoption["adopted"] if adoption else None,
                "tokens": entry["tokens"],
                "seconds": entry["seconds"],
            }
        )
    return rows


def _value(score: PrimaryMetric) -> dict[str, float | None]:
    low, high = score.interval or (None, None)
    return {"value": score.value, "low": low, "high": high}


def _what_was_done(run: RunFiles) -> str:
    """The first sentence."""
    seeds = run.by_index(0)
    written = run.of_teacher
    asked = sum(round_files.totals.get("asked", 0) for round_files in written)
    kept = sum(round_files.totals.get("kept", 0) for round_files in written)
    count = f"{seeds.totals['kept']:,} labelled examples" if seeds and seeds.totals else "labelled examples"
    student = f"the small model {run.student_name}"
    if not asked:
        return (
            f"So far {student} has learned {count} only: no round has texts of the large model {run.teacher_name} yet."
        )
    begun = f"{len(written)} round{'s' if len(written) > 1 else ''}"
    return (
        f"In {begun} the large model {run.teacher_name} was asked for {asked:,} texts after the pattern of {count}; {kept:,} of them "
        f"({100 * kept / asked:.0f} %) passed all filters, and {student} learned them."
    )


def _what_a_person_did(run: RunFiles) -> list[str]:
    """A sentence on the corrected rounds; none where there are none."""
    parts = [
        f"{counts['relabel']:,} relabelled, {counts['reject']:,} rejected and {counts['accept']:,} confirmed in round {round_files.index}"
        for round_files in run.rounds
        if (counts := round_files.corrections) is not None
    ]
    if not parts:
        return []
    return [
        f"A person looked at rows of earlier rounds: {'; '.join(parts)}. From then on students learn the new labels, and no rejected row."
    ]


def result(run: RunFiles) -> tuple[dict[str, str], str]:
    """The verdict, and the sentence that says it with its numbers."""
    best = run.best
    if best is None or best.score is None:
        return {"kind": UNKNOWN, "words": "not scored yet"}, "No round is scored yet, so there is no result to judge."
    score, n = best.score, best.metrics["test"]["n"]
    key, name, baseline = _baseline(run)
    reached = f"On {n:,} test texts {score.name} is {score.value:.3f}"
    if best.index == 0:
        words = "no round was adopted" if len(run.scored) > 1 else "round 0 only"
        later = "no later round was made" if run.summary["stopped"] else "no later round is scored yet"
        rest = "no later round was adopted" if len(run.scored) > 1 else later
        return {"kind": INSIDE if len(run.scored) > 1 else UNKNOWN, "words": words}, (
            f"{reached} with the seeds alone (round 0), and {rest}."
        )
    which = "the adopted one" if best.metrics.get("adoption") else "the last one"
    against = f"{reached} in round {best.index}, {which}, against {baseline.value:.3f} of {name}"
    paired = (best.metrics.get("paired") or {}).get(key)
    if not paired and not (score.interval and baseline.interval):
        return {"kind": UNKNOWN, "words": "noise not measured"}, f"{against}; without intervals noise cannot be told."
    low, high = (paired["low"], paired["high"]) if paired else _interval(score, baseline)
    texts = f", {in_words(paired, best.index, key)}" if paired else ""
    difference = f"a difference of {_signed(score.value - baseline.value)} (95 % interval {_signed(low)} to {_signed(high)}{texts})"
    verdict = reading_of(low, high)
    kind = {"higher": OUTSIDE_HIGHER, "lower": OUTSIDE_LOWER}.get(verdict, INSIDE)
    return {"kind": kind, "words": READINGS[verdict]}, f"{against}: {difference}, {READINGS[verdict]}."


def _interval(score: PrimaryMetric, baseline: PrimaryMetric) -> tuple[float, float]:
    """Low and high of the difference, as if the two had read other texts."""
    assert score.interval and baseline.interval
    return interval_of_difference(score.value, score.interval, baseline.value, baseline.interval)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _baseline(run: RunFiles) -> tuple[str, str, PrimaryMetric]:
    """The better student that knows the seeds alone: what the loop has to beat. Its key in the metrics' `paired`, name and score."""
    first = run.scored[0].score
    assert first is not None
    baselines = [(ROUND_0, SEED_ROUND, first)]
    if (others := bars(run.summary)) and others[0][0].startswith("seeds only"):
        kind = others[0][0].removeprefix("seeds only, ")
        baselines.append((SEEDS_ONLY, f"the best simple student on the seeds alone ({kind})", others[0][1]))
    return max(baselines, key=lambda entry: entry[2].value)


def _figures(run: RunFiles) -> list[dict[str, str]]:
    """The few numbers that stand large below the sentences."""
    figures = []
    best = run.best
    if best is not None and best.score is not None:
        score = best.score
        figures.append(
            {"name": f"{score.name}, round {best.index}", "value": f"{score.value:.3f}", "note": score.within}
        )
        first = run.scored[0].score
        if best.index and first is not None:
            figures.append({"name": "round 0, seeds alone", "value": f"{first.value:.3f}", "note": first.within})
    for name, score in bars(run.summary):
        figures.append({"name": name, "value": f"{score.value:.3f}", "note": score.within})
    kept = sum(round_files.totals.get("kept", 0) for round_files in run.of_teacher)
    asked = sum(round_files.totals.get("asked", 0) for round_files in run.of_teacher)
    if asked:
        figures.append({"name": "texts kept", "value": f"{kept:,}", "note": f"of {asked:,} asked for"})
    return figures


def _remarks(run: RunFiles) -> list[str]:
    """What a reader of the verdict must know."""
    remarks = []
    if len(run.scored) > 1:
        remarks.append(
            "The intervals hold for other test texts, not for other random seeds: this is one training run. Several seeds are "
            "compared by evokd-data compare."
        )
    for round_files in run.rounds:
        if warning := round_files.totals.get("warning"):
            remarks.append(f"In round {round_files.index} {warning}.")
    if sentence := adoption_in_words([entry.metrics for entry in run.scored]):
        remarks.append(sentence)
    tests: list[Mapping[str, Any]] = [run.best.metrics["test"]] if run.best else []
    for test in tests:
        remarks += test.get("notes", ())
        if test.get("truncated"):
            remarks.append(
                f"{test['truncated']} test texts are longer than the student reads; it is scored on their beginnings."
            )
    return remarks
