"""The results of a comparison as Markdown tables, for its own page and for the card of a data set that names it.

The results are what `compare.collect` returns and results.json holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evokd_data.reporting.primary_metric import NAMES
from evokd_data.reporting.significance import spread


def tables(results: Mapping[str, Any], escape: Callable[[str], str] = str) -> list[str]:
    """Lines: what was compared, the arms, their differences, and for what the intervals hold. `escape` is applied to names."""
    budget, test, name_of = results["budget"], results["test"], NAMES[results["metric"]]
    lines = [
        (
            f"{budget['rounds']} rounds of {budget['samples_per_round']} texts to be kept at most, the same for every arm; "
            f"scored on one test set of {test['n']} texts (digest {test['digest'][:12]}), {name_of} after the last round."
        ),
        "",
        f"| arm | strategy | seeds | {name_of}, mean | sd | samples kept, mean | teacher tokens, mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arm in results["arms"].items():
        score = spread(arm[results["metric"]])
        sd = "-" if score.sd is None else f"{score.sd:.4f}"
        samples, tokens = spread(arm["kept"]).mean, spread(arm["tokens"]).mean
        lines.append(
            f"| {escape(name)} | {escape(arm['strategy'])} | {score.n} | {score.mean:.4f} | {sd} | {samples:.0f} | {tokens:.0f} |"
        )
    lines += student_lines(results, escape)
    if results["differences"]:
        lines += [
            "",
            (
                f"Differences in {name_of}, paired by seed (95 % interval: Student's t over the paired differences; p: paired t "
                "test, and corrected for all arms after Holm; Wilcoxon's signed-rank test beside it):"
            ),
            "",
            "| arm | minus | seeds | difference | 95 % interval | p | p, Holm | p, signed rank | reading |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for d in results["differences"]:
            bounds = "-" if d["low"] is None else f"{d['low']:+.4f} to {d['high']:+.4f}"
            ps = " | ".join("-" if d[key] is None else f"{d[key]:.3f}" for key in ("p", "p_holm", "p_signed_rank"))
            lines.append(
                f"| {escape(d['arm'])} | {escape(d['reference'])} | {d['n']} | {d['mean']:+.4f} | {bounds} | {ps} | {d['verdict']} |"
            )
    lines += [
        "",
        (
            "An arm is called higher or lower only where the interval leaves out zero. Intervals hold for random seeds "
            "(seed draws, requests, training) with this teacher, student and test set; not for other data."
        ),
    ]
    return lines


def student_lines(results: Mapping[str, Any], escape: Callable[[str], str] = str) -> list[str]:
    """What the student of each arm costs, where arms have different ones."""
    facts = results.get("students")
    if facts is None:
        return []
    return [
        "",
        (
            "The students: parameters and weights on the disk, those of a base model included; the seconds of the last round's training, "
            "'-' for a student that learns nothing; "
            f"latency of one text at a time as `predict` answers it, {facts['measurements']} times each in turns within one process, on "
            f"{facts['threads']} threads. What else ran on the machine is in these times; their ratios say more than they do."
        ),
        "",
        "| arm | kind | base model | parameters | weights | training | p50 | p99 |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        *(
            f"| {escape(name)} | {escape(row['kind'])} | {escape(row['model'] or '-')} | {millions(row['parameters'])} | "
            f"{row['bytes'] / 1e6:.1f} MB | {seconds(row['training_seconds'])} | {row['p50_ms']:.3f} ms | {row['p99_ms']:.3f} ms |"
            for name, row in facts["arms"].items()
        ),
    ]


def seconds(duration: float | None) -> str:
    """The seconds of a training, such as "1.5 s"; "-" for None."""
    return "-" if duration is None else f"{duration:.1f} s"


def millions(parameters: int) -> str:
    """A number of parameters, such as "22.71 M"."""
    return f"{parameters / 1e6:.2f} M"
