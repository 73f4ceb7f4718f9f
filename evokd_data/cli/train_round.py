"""evokd-data train-round"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("train-round", short_help="Train and score the student on the last generated round.")
@options.recipe
@options.overrides
@options.runs
@options.mirror
@options.output
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, mirror: str | None) -> None:
    """Train the student of RECIPE on every shard so far and score it. Prints the test metrics as JSON.

    On several accelerators: torchrun --nproc-per-node 2 -m evokd_data train-round RECIPE

    Example: evokd-data train-round recipe.yaml
    """
    from evokd_data.cli.live import live
    from evokd_data.loop.rounds import train_next
    from evokd_data.recipe import load

    with live() as progress:
        metrics = train_next(load(recipe, overrides), runs, progress, mirror)
    if metrics is not None:
        echo(json.dumps({"round": metrics["round"], "test": metrics["test"]}, ensure_ascii=False))
