"""evokd-data preview"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo

TURNS_AT_EACH_END = 3
"""Messages of a prompt that are shown at its beginning and at its end; --json has them all."""


@click.command("preview", short_help="Show prompts, samples, exam and cost before a run.")
@options.recipe
@options.overrides
@options.runs
@click.option("--samples", type=click.IntRange(1, 200), default=10, show_default=True, help="Samples to show.")
@options.as_json
@options.output
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, samples: int, as_json: bool) -> None:
    """Show what a run of RECIPE would be like: the first prompts as rendered, how well the teacher labels the seeds, some samples
    with their labels, and requests, tokens, time and (with `prices`) cost of the whole run.

    A run of the same recipe does not ask again for what the preview asked; a recipe that is changed begins anew,
    but keeps the exam where only its sizes (rounds) are others. The exit code is
    1 when a run would stop because the teacher's labels are of no use.

    Example: evokd-data preview recipe.yaml --samples 20
    """
    from evokd_data.cli.console import exam_tables, reasons, table
    from evokd_data.cli.live import live
    from evokd_data.loop.preview import is_refused, preview
    from evokd_data.recipe import load

    loaded = load(recipe, overrides)
    with live() as progress:
        content = preview(loaded, runs, progress, samples)
    if as_json:
        echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        for prompt in content["prompts"]:
            _show_prompt(prompt)
        if content["exam"]:
            exam_tables(content["exam"], loaded.filters)
            echo()
        shown = len(content["samples"])
        kept = content["texts"] - sum(content["rejected"].values())
        table(
            f"{shown} of {content['texts']} texts; {kept} would be kept, rejected: {reasons(content['rejected'])}",
            ("asked for", "label", "text"),
            [[_asked(row), row["label"] or (f"({row['rejected']})" if row["rejected"] else ""), row["text"]] for row in content["samples"]],
        )  # fmt: skip
        _show_estimate(content["estimate"], loaded)
    for warning in content["warnings"]:
        echo(f"warning: {warning}", err=True)
    if is_refused(loaded, content):
        echo(
            f"a run would stop here; change {recipe} and preview it again, or go on with the exam that was taken: evokd-data run {recipe} "
            "--set teacher_trust=force",
            err=True,
        )
        raise click.exceptions.Exit(1)
    echo(f"next: evokd-data run {recipe}, or a trial run first: evokd-data run {recipe} --limit 20", err=True)


def _asked(row: Mapping[str, Any]) -> str:
    return f"{row['asked_for']}{', ' + row['difficulty'] if row['difficulty'] else ''}"


def _show_prompt(prompt: Mapping[str, Any]) -> None:
    """Print a prompt, its long middle left out, and the answer."""
    messages = prompt["messages"]
    echo(f"--- prompt `{prompt['template']}`, {len(messages)} messages")
    left_out = len(messages) - 2 * TURNS_AT_EACH_END
    for number, message in enumerate(messages):
        if left_out <= 1 or not TURNS_AT_EACH_END <= number < len(messages) - TURNS_AT_EACH_END:
            echo(f"[{message['role']}] {message['content'].strip()}")
        elif number == TURNS_AT_EACH_END:
            echo(f"... {left_out} messages more; --json has them")
    echo(f"[the teacher's answer] {prompt['answer'].strip()}\n")


def _show_estimate(estimate: Mapping[str, Any], recipe: Any) -> None:
    """Print what the whole run will take, and what of it the budget does not hold."""
    tokens = estimate["prompt_tokens"] + estimate["completion_tokens"]
    parts = [
        f"{estimate['requests']:,} requests",
        f"{estimate['prompt_tokens']:,} tokens of prompts and {estimate['completion_tokens']:,} of answers",
    ]
    if estimate["seconds_at_most"] is not None:
        parts.append(f"at most {_duration(estimate['seconds_at_most'])} of the teacher's time")
    if estimate["cost_usd"] is not None:
        parts.append(f"{estimate['cost_usd']:.2f} dollars")
    rounds = f"{estimate['rounds']} round{'s' if estimate['rounds'] > 1 else ''}"
    echo(f"\nthe whole run, {rounds}, {estimate['texts']:,} texts: about {', '.join(parts)}")
    if estimate["seconds_at_most"] is not None:
        echo("opening the teacher and training the student take more; the time of both was not measured")
    if exam := estimate["exam"]["requests"]:
        exam_tokens = estimate["exam"]["prompt_tokens"] + estimate["exam"]["completion_tokens"]
        took = (
            f" and {_duration(estimate['exam']['measured_seconds'])}" if estimate["exam"]["measured_requests"] else ""
        )
        echo(
            f"of this the exam is done: {exam:,} requests with {exam_tokens:,} tokens{took}; the run does not ask it again"
        )
    budget = recipe.budget
    if budget.tokens is not None and tokens > budget.tokens:
        echo(f"warning: more than budget.tokens, {budget.tokens:,}: the run would end before its last round", err=True)
    if budget.cost is not None and estimate["cost_usd"] is not None and estimate["cost_usd"] > budget.cost:
        echo(f"warning: more than budget.cost, {budget.cost:g}: the run would end before its last round", err=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
