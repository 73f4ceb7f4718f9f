"""evokd-data check"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo

if TYPE_CHECKING:
    from evokd_data.seeds import Splits


@click.command("check", short_help="Check recipes, every problem at once.")
@options.recipes
@options.overrides
@click.option(
    "--online", is_flag=True, help="Ask the Hub, too: data sets, models, and whether rounds can be published."
)
def command(recipes: tuple[Path, ...], overrides: tuple[str, ...], online: bool) -> None:
    """Check RECIPES whole: settings, names, files, every row. Loads no model.

    Prints one line for each sound recipe; all problems of the others, then exits with 1.

    Example: evokd-data check recipe.yaml --online
    """
    from evokd_data.errors import EvokdError
    from evokd_data.loop.checks import check
    from evokd_data.recipe import load

    bad = 0
    for path in recipes:
        try:
            recipe = load(path, overrides)
        except EvokdError as error:
            bad += 1
            echo(str(error), err=True)
            continue
        findings = check(recipe, online)
        for problem in findings.problems:
            echo(problem, err=True)
        if findings.problems:
            bad += 1
            continue
        for remark in findings.remarks:
            echo(f"{path}: note: {remark}", err=True)
        assert findings.splits is not None
        echo(
            f"{path}: sound: {recipe.task.name} with {len(recipe.task.labels)} classes{''.join(_counts(findings.splits))}"
        )
    if bad:
        raise SystemExit(1)


def _counts(splits: Splits) -> list[str]:
    """What was read of each source, and what is used of it."""
    names = {"seeds": "seeds", "test": "test texts", "dev": "dev texts", "pool": "pool texts"}
    return [
        f", {len(getattr(splits, key))} {names[key]} ({report.rows} rows{(report.format and f', {report.format}') or ''})"
        for key, report in splits.reports.items()
    ]
