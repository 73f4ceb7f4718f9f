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
    from evokd_data.reporting.html_report import renew
    from evokd_data.storage.workspace import Workspace

    loaded = load(recipe, overrides)
    with live() as progress:
        metrics = train_next(loaded, runs, progress, mirror)
    if metrics is not None:
        if line := renew(Workspace(runs / loaded.name)):
            echo(line, err=True)
        echo(json.dumps({"round": metrics["round"], "test": metrics["test"]}, ensure_ascii=False))
