"""evokd-data generate"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("generate", short_help="Generate the next round's samples as Arrow shards.")
@options.recipe
@options.overrides
@options.runs
@options.mirror
@options.origin
@options.output
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, mirror: str | None, origin: str | None) -> None:
    """Generate the next round of RECIPE; round 0 is the seeds. Prints the folder of the shards.

    Killed and rerun, it asks the teacher only what was in flight.

    Example: evokd-data generate recipe.yaml --from org/reviews@round-003
    """
    from evokd_data.cli.live import live
    from evokd_data.loop.rounds import generate_next
    from evokd_data.recipe import load
    from evokd_data.storage.workspace import Workspace

    loaded = load(recipe, overrides)
    with live() as progress:
        totals = generate_next(loaded, runs, progress, origin, mirror)
    echo(str(Workspace(runs / loaded.name).round(totals["round"]).shards))
