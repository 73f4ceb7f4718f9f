"""evokd-data run"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("run", short_help="Run the whole loop: every round generated, learned, published.")
@options.recipes
@options.overrides
@options.runs
@options.mirror
@options.origin
def command(
    recipes: tuple[Path, ...], overrides: tuple[str, ...], runs: Path, mirror: str | None, origin: str | None
) -> None:
    """Run every round of RECIPES: generate, train, score, publish. Rerun it after any stop: it goes on where it was.

    Recipes with the same teacher share one engine. The result on stdout is one line for each recipe: its name,
    the last round's digest and, when published, its revision.
    """
    from evokd_data.cli.console import live
    from evokd_data.recipe import load
    from evokd_data.reporting.run_summary import summary
    from evokd_data.rounds import run_all

    loaded = [load(path, overrides) for path in recipes]
    with live() as progress:
        done = run_all(loaded, runs, progress, origin, mirror)
    for run in done:
        newest = summary(run.workspace)["rounds"][-1]
        revision = newest["revision"]
        published = f"{revision['repo']}@{revision['tag']}" if revision else "not published"
        echo(f"{run.recipe.name} {newest['digest']} {published}")
