"""evokd-data publish"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("publish", short_help="Publish complete rounds, each as one commit and one tag.")
@options.recipe
@options.overrides
@options.runs
@options.mirror
@options.output
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, mirror: str | None) -> None:
    """Publish every complete round of RECIPE that is not on its Hub yet. Prints a line a round: tag, commit.

    Rounds that are there already stay as they are.

    Example: evokd-data publish recipe.yaml
    """
    from evokd_data.cli.live import live
    from evokd_data.loop.rounds import publish_complete
    from evokd_data.recipe import load

    with live() as progress:
        revisions = publish_complete(load(recipe, overrides), runs, progress, mirror)
    for revision in revisions:
        echo(f"{revision.repo} {revision.tag} {revision.commit}")
