"""evokd-data exam"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("exam", short_help="Measure on the seeds how well the teacher labels.")
@options.recipe
@options.overrides
@options.runs
@options.mirror
@options.as_json
@options.output
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, mirror: str | None, as_json: bool) -> None:
    """Let the teacher of RECIPE label the seeds, in several forms, before anything else is asked of it.

    `run` and `generate` take the same exam, or use this one. The exit code is 1 when the teacher's labels are of no use.

    Example: evokd-data exam recipe.yaml --set task.noun=question
    """
    from evokd_data.cli.console import exam_tables
    from evokd_data.cli.live import live
    from evokd_data.loop.rounds import take_exam
    from evokd_data.recipe import load
    from evokd_data.reporting.exam_words import REFUSED

    loaded = load(recipe, overrides)
    with live() as progress:
        content = take_exam(loaded, runs, progress, mirror=mirror)
    if as_json:
        echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        exam_tables(content, loaded.filters)
    if content["verdict"] in REFUSED:
        raise click.exceptions.Exit(1)
