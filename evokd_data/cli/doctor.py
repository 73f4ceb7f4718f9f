"""evokd-data doctor"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("doctor", short_help="Look whether this machine can do what a recipe asks.")
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@options.overrides
@options.runs
@options.as_json
def command(recipe: Path | None, overrides: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Look at Python, packages, GPU and driver, vLLM, memory and the Hub; with a RECIPE also at its data, at room for its teacher
    and student, and at the rights to publish. Each line is ok, a warning or a problem with the remedy.

    The exit code is 1 when there is a problem.

    Example: evokd-data doctor recipe.yaml
    """
    from evokd_data.loop.doctor import PROBLEM, examine
    from evokd_data.recipe import load

    findings = examine(load(recipe, overrides) if recipe is not None else None, runs)
    if as_json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            echo(f"{finding.state:<9}{finding.subject:<10}{finding.detail}")
            if finding.remedy:
                echo(f"{'':<19}-> {finding.remedy}")
    if any(finding.state == PROBLEM for finding in findings):
        raise click.exceptions.Exit(1)
