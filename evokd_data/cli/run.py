"""evokd-data run"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo, is_quiet, logs_json

NEXT = (
    ("what was kept", "evokd-data show {run} --samples"),
    ("what was not, and why", "evokd-data show {run} --rejections"),
    ("correct it", "evokd-data review {run}"),
    ("a page to show", "evokd-data report {run}"),
    ("the best student on your texts", "evokd-data predict {run} FILE"),
)
"""Printed when a run has ended: what for, and the command."""


@click.command("run", short_help="Run the whole loop: every round generated, learned, published.")
@options.recipes
@options.overrides
@options.runs
@options.mirror
@options.origin
@click.option(
    "--limit", type=click.IntRange(1), metavar="N",
    help="A trial run: N texts a round, in a folder of its own (NAME-limit-N), never published; the teacher's own test is left out. It takes over the exam of a preview.",
)  # fmt: skip
@options.output
def command(
    recipes: tuple[Path, ...],
    overrides: tuple[str, ...],
    runs: Path,
    mirror: str | None,
    origin: str | None,
    limit: int | None,
) -> None:
    """Run every round of RECIPES: generate, train, score, publish. Rerun it after any stop: it goes on where it was.

    Recipes with the same teacher share one engine. The result on stdout is one line for each recipe: its name,
    the last complete round's digest and, when published, its revision. A run that has spent its `budget` ends with what is
    complete, and with exit code 0. On stderr each run ends with the table of its rounds, with a sentence on whether
    they helped where there is a test set, and with what to look at next.

    Example: evokd-data run recipe.yaml --limit 20
    """
    from evokd_data.cli.console import rounds_table
    from evokd_data.cli.live import live
    from evokd_data.loop.rounds import run_all, share_exam, trial_run
    from evokd_data.recipe import load
    from evokd_data.reporting.html_report import renew
    from evokd_data.reporting.report_sections.run_files import read_run

    loaded = [load(path, overrides) for path in recipes]
    whole = loaded
    if limit is not None:
        loaded = [
            load(path, [*overrides, *trial_run(recipe, limit)]) for path, recipe in zip(recipes, whole, strict=True)
        ]
        for recipe, limited in zip(whole, loaded, strict=True):
            share_exam(recipe, limited, runs)
    with live() as progress:
        for recipe in whole if limit is not None else ():
            if recipe.teacher_test_texts:
                progress.note(
                    f"{recipe.name}: a trial run of {limit} texts a round, not published; the teacher does not label the test set "
                    f"(teacher_test_texts is 0 here, {recipe.teacher_test_texts} in a whole run)"
                )
        done = run_all(loaded, runs, progress, origin, mirror)
    for run in done:
        if line := renew(run.workspace):
            echo(line, err=True)
        files = read_run(run.workspace)
        if not is_quiet() and not logs_json():
            rounds_table(files, to_stderr=True)
        for purpose, then in NEXT:
            echo(f"  {then.format(run=run.workspace.root):60} # {purpose}", err=True)
        complete = [entry for entry in files.summary["rounds"] if entry["digest"]]
        revision = complete[-1]["revision"] if complete else None
        published = f"{revision['repo']}@{revision['tag']}" if revision else "not published"
        echo(f"{run.recipe.name} {complete[-1]['digest'] if complete else 'no round is complete'} {published}")
