"""Tables, on stdout, or on stderr where stdout is for results that programs read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evokd_data.cli.echo import echo
from evokd_data.printable import printable_line
from evokd_data.records import LabelForm
from evokd_data.reporting.primary_metric import NAMES, primary_metric
from evokd_data.reporting.report_sections.outcome import result
from evokd_data.reporting.report_sections.run_files import RunFiles
from evokd_data.reporting.run_summary import bars
from evokd_data.reporting.stopped_run import stopped_in_words
from evokd_data.reporting.verdict_words import adoption_in_words
from evokd_data.tasks.untested import untested_by


def reasons(rejected: Mapping[str, int]) -> str:
    """Counts by reason as text, such as "near_duplicate 4, truncated 1"."""
    return ", ".join(f"{reason} {count}" for reason, count in rejected.items()) or "0"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, to_stderr: bool = False) -> None:
    """Print a table on stdout, or on stderr where stdout is for results that programs read. Numbers are right-aligned. When the
    output is not a terminal the table is 160 characters wide. A table without rows is one line."""
    console = _console(to_stderr)
    if not rows:
        console.print(Text(f"{printable_line(title)}: none"))
        return
    rich_table = Table(
        title=Text(printable_line(title), style="table.title"),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for index, column in enumerate(columns):
        numeric = all(row[index] is None or isinstance(row[index], int | float) for row in rows)
        rich_table.add_column(Text(printable_line(column)), justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        rich_table.add_row(*(Text("-" if cell is None else printable_line(str(cell))) for cell in row))
    console.print(rich_table)


def _console(to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(highlight=False, stderr=to_stderr, width=None if stream.isatty() else 160)


def round_cells(entry: Mapping[str, Any]) -> list[object]:
    """A round as a row of `rounds_table`."""
    test = (entry["metrics"] or {}).get("test")
    score = primary_metric(test) if test else None
    revision = entry["revision"]
    return [
        entry["round"],
        entry["kept"],
        None if entry["rejected"] is None else reasons(entry["rejected"]),
        f"{score.value:.3f}" if score else None,
        (score and score.within) or None,
        adopted(entry),
        entry["tokens"],
        None if entry["seconds"] is None else round(entry["seconds"]),
        f"{revision['tag']} {revision['commit'][:10]}" if revision else None,
    ]


def adopted(entry: Mapping[str, Any]) -> str | None:
    """Whether the round's student was adopted; None when it was not compared."""
    adoption = (entry["metrics"] or {}).get("adoption")
    return None if adoption is None else "yes" if adoption["adopted"] else f"no: round {adoption['best']} stays"


def score_name(entries: Sequence[Mapping[str, Any]]) -> str:
    """The heading of the column with scores: "macro-F1" or "micro-F1"; "F1" when no round is scored yet."""
    return next((primary_metric(e["metrics"]["test"]).name for e in entries if (e["metrics"] or {}).get("test")), "F1")


REASONS_FROM = 130
"""Characters: a narrower terminal gets the number of rejections without the reasons, which `show --rejections` has."""


def _adopted_in_words(files: RunFiles) -> str:
    """What adoption is decided by, where the table makes one wonder: a round that was adopted without a comparison, or not adopted because it was
    doubted, or one with a lower score than the round before."""
    sentences = [adoption_in_words([entry.metrics for entry in files.scored])]
    scored = [(entry.score.value, entry.metrics.get("adoption")) for entry in files.scored if entry.score is not None]
    for (before, _), (after, adoption) in pairwise(scored):
        if adoption and adoption["adopted"] and after < before:
            by = "the dev set" if adoption.get("by") == "dev" else "the seeds"
            sentences.append(
                f"A round is adopted when its student is not clearly worse on {by}; the test set decides nothing."
            )
            break
    return " ".join(filter(None, sentences))


def _aimed_at_nothing(files: RunFiles) -> str:
    """That the rounds which may aim at weaknesses aimed at none, and why where their plans show it; "" where one did, and for a strategy
    that never does."""
    strategy = files.inputs["settings"].get("strategy")
    if not isinstance(strategy, Mapping) or not strategy.get("targeted"):
        return ""
    by_rephrasing = strategy.get("init_rounds", 0) if strategy.get("init") == "auggpt" else 0
    first = max(2, strategy.get("targeted_from", 2), by_rephrasing + 1)
    may_aim = [entry for entry in files.of_teacher if entry.index >= first and entry.totals]
    if not may_aim or any(quota.get("weakness") for entry in may_aim for quota in entry.quotas()):
        return ""
    if any(weakness.get("rate") for entry in may_aim for weakness in entry.plan["weaknesses"]):
        return "No round aimed at a weakness."
    return "No round aimed at a weakness: no student got a new text wrong whose label can be trusted."


def rounds_table(files: RunFiles, *, to_stderr: bool = False) -> None:
    """Print the rounds of a run. A column in which no round has a value is left out. Above it: why the run stopped, where an exam
    stopped it. Below it, where there is a test set: what adoption is decided by, where the scores make one wonder; whether no round aimed at a
    weakness; the report's sentence on whether the rounds helped; and which classes the test set has no example of."""
    run = files.summary
    for sentence in stopped_in_words(run["stopped"]):
        echo(sentence, err=to_stderr)
    columns = (
        "round", "kept", "rejected", score_name(run["rounds"]), "95 % interval", "adopted", "tokens", "s", "revision",
    )  # fmt: skip
    rows = [round_cells(entry) for entry in run["rounds"]]
    if _console(to_stderr).width < REASONS_FROM:
        for row, entry in zip(rows, run["rounds"], strict=True):
            row[2] = None if entry["rejected"] is None else sum(entry["rejected"].values())
    blank = [None] * (len(columns) - 5)
    others: list[list[object]] = [
        [name, None, None, f"{score.value:.3f}", score.within, *blank] for name, score in bars(run)
    ]
    cells = [*others, *rows]
    filled = [index for index in range(len(columns)) if any(row[index] is not None for row in cells)]
    table(run["name"], [columns[i] for i in filled], [[row[i] for i in filled] for row in cells], to_stderr=to_stderr)
    if not files.scored:
        return
    _, verdict = result(files)
    for sentence in (
        _adopted_in_words(files),
        _aimed_at_nothing(files),
        verdict,
        untested_by(files.scored[-1].metrics["test"]),
    ):
        if sentence:
            echo(sentence, err=to_stderr)


def exam_tables(content: Mapping[str, Any], filters: Any) -> None:
    """Print an exam: its forms, the chosen one marked; its classes; then the verdict, and what follows for texts whose label is in
    doubt. `filters` are the recipe's."""
    from evokd_data.reporting.exam_words import REFUSED, REMEDY, mixture_in_words, rule_in_words

    chosen = content["chosen"]
    forms = [
        ["*" if form["form"] == chosen["form"] else "", form["form"]["answer"], "turns" if form["form"]["turns"] else "system",
         form["form"]["demonstrations"], f"{form['accuracy']:.3f}", form.get("questions", content["questions"]), f"{form['score']:.3f}"]
        for form in content["forms"]
    ]  # fmt: skip
    title = f"how the teacher is asked, {content['questions']} seeds, each left out of the demonstrations"
    table(title, ("", "answers", "demonstrations in", "at most", "right", "of", "score"), forms)
    score = (
        "the mean log-probability of the right label, the higher the better; on few seeds it tells more than the share that is right, "
        "so it chooses the form (*)"
    )
    if "pool" not in content:
        score = "micro-F1 over the spans; of the forms that were asked all seeds, the best is chosen (*)"
    echo(f"score: {score}")
    if choice := content.get("choice"):
        echo(
            f"the chosen form is better than the second, {LabelForm(**choice['second']).name}, with a probability of {choice['sure']:.2f}"
        )
    if "student" in content:
        rows: list[list[object]] = [["teacher", *_with_interval(chosen)],
                ["seeds-only student", *_with_interval(content["student"])]]  # fmt: skip
        if chosen["student_weight"]:
            rows.append(["both together", *_with_interval(content["pool"])])
        measure = "share" if "pool" in content else "micro-F1"
        table("who labels the seeds right", ("", measure, "95 % interval"), rows)
        names = ", and the labels by the words they are called by" if "pool" in content else ""
        echo(f"seeds-only student: a small model that has learned the other seeds{names}")
    if "per_class" in chosen:
        classes = [[name, counts["right"], counts["n"]] for name, counts in chosen["per_class"].items()]
        table("the teacher by class", ("class", "right", "of"), classes)
    echo(f"{content['verdict']}: {content['message']}")
    if content["verdict"] in REFUSED:
        echo(REMEDY)
        return
    for sentence in (
        mixture_in_words(content),
        rule_in_words(content, filters.label_disagreement, filters.label_confidence),
    ):
        if sentence:
            echo(sentence)


def _with_interval(accuracy: Mapping[str, Any]) -> tuple[str, str | None]:
    """An exam that an earlier version took has none for the student."""
    interval = f"{accuracy['low']:.3f} to {accuracy['high']:.3f}" if "low" in accuracy else None
    return f"{accuracy['accuracy']:.3f}", interval


def plan_table(plan: Mapping[str, Any]) -> None:
    """Print a plan: its weaknesses, then its quotas."""
    weaknesses = [
        [w["name"], w["missed"], w["seen"], "; ".join(str(s.get("text")) for s in w["wrong"][:2])]
        for w in plan["weaknesses"]
    ]
    table(f"round {plan.get('round', '')}: weaknesses", ("weakness", "missed", "of", "for example"), weaknesses)
    quotas = [
        [
            c["target"] or f"(pool) {c.get('text')}",
            c["samples"],
            *(c.get(key) for key in ("difficulty", "contrast", "weakness")),
        ]
        for c in plan["cells"]
    ]
    table("texts asked for", ("target", "texts", "difficulty", "to look like", "weakness"), quotas)


def metrics_tables(title: str, metrics: Mapping[str, Any]) -> None:
    """Print the metrics of one student on one set of texts: scores with intervals, each class, and notes."""
    intervals = metrics.get("intervals", {})
    rows = [
        [
            name,
            f"{metrics[key]:.3f}",
            f"{intervals[key][0]:.3f} to {intervals[key][1]:.3f}" if key in intervals else None,
        ]
        for key, name in NAMES.items()
        if key in metrics
    ]
    table(f"{title}: {metrics['n']} texts", ("metric", "score", "95 % interval"), rows)
    classes = [
        [name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), row["support"]]
        for name, row in metrics["per_class"].items()
    ]
    table("by class", ("class", "precision", "recall", "F1", "n"), classes)
    for note in metrics.get("notes", ()):
        echo(note)
    if truncated := metrics.get("truncated"):
        echo(f"{truncated} texts are longer than the student reads; it is scored on their beginnings")


def export_table(figures: Mapping[str, Any]) -> None:
    """Print on stderr how an exported student compares with the original."""
    from evokd_data.reporting.export_card import TOLERATED_LOSS, loss

    parity, latency, sizes = figures["parity"], figures["latency"], figures["bytes"]
    lines = [
        f"{NAMES[key]}: {score['value']:.3f} exported {parity['exported'][key]['value']:.3f}"
        for key, score in parity["original"].items()
    ]
    lines.append(
        f"predictions: {100 * parity['same']:.1f} % of {parity['n']} are the same, no probability differs by more than "
        f"{parity['largest_difference']:.6f}"
    )
    lines.append(f"weights: {sizes['original'] / 1e6:.1f} MB, exported {sizes['exported'] / 1e6:.1f} MB")
    lines += [
        f"{name}: {latency['original'][f'{name}_ms']:.2f} ms, exported {latency['exported'][f'{name}_ms']:.2f} ms"
        for name in ("p50", "p99")
    ]
    lines.append(
        f"latency: {latency['ratio']:.2f} times the original's p50, one text at a time, {latency['threads']} threads"
    )
    if (lost := loss(figures)) > TOLERATED_LOSS:
        lines.append(f"a score is {lost:.3f} lower than the original's; export without --int8 if that is too much")
    for line in lines:
        echo(line, err=True)


def comparison_tables(results: Mapping[str, Any]) -> None:
    """Print the arms of a comparison, then their paired differences from the first arm."""
    from evokd_data.reporting.significance import spread

    arms = []
    for name, arm in results["arms"].items():
        score = spread(arm[results["metric"]])
        sd = "-" if score.sd is None else f"{score.sd:.4f}"
        arms.append([name, score.n, f"{score.mean:.4f}", sd, round(spread(arm["tokens"]).mean)])
    table(f"{NAMES[results['metric']]} after the last round", ("arm", "seeds", "mean", "sd", "tokens"), arms)
    if facts := results["students"]:
        columns = ("arm", "kind", "parameters", "MB", "training, s", "p50, ms", "p99, ms")
        rows = [
            [name, row["kind"], row["parameters"], round(row["bytes"] / 1e6, 1),
             "-" if row["training_seconds"] is None else round(row["training_seconds"], 1), row["p50_ms"], row["p99_ms"]]
            for name, row in facts["arms"].items()
        ]  # fmt: skip
        table("students", columns, rows)
    differences = [
        [d["arm"], d["reference"], f"{d['mean']:+.4f}", "-" if d["low"] is None else f"{d['low']:+.4f} to {d['high']:+.4f}",
         "-" if d["p_holm"] is None else f"{d['p_holm']:.3f}", d["verdict"]]
        for d in results["differences"]
    ]  # fmt: skip
    if differences:
        table("paired differences", ("arm", "minus", "mean", "95 % interval", "p, Holm", "reading"), differences)
