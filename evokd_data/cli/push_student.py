"""evokd-data push-student"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("push-student", short_help="Push a round's student to a model repository.")
@options.recipe
@click.option("--round", "round", type=int, help="The round; without it the last adopted one.")
@options.overrides
@options.runs
@options.mirror
@options.output
def command(recipe: Path, round: int | None, overrides: tuple[str, ...], runs: Path, mirror: str | None) -> None:
    """Push the student of a complete round of RECIPE to publish.student: one commit, one tag, a model card.

    A student that is there already stays as it is. Prints repository, tag, commit. With publish.student in the recipe,
    `run` and `publish` push each round's student before they publish the round, and its manifest names it.

    Example: evokd-data push-student recipe.yaml --round 3
    """
    from evokd_data.cli.live import live
    from evokd_data.loop.rounds import push_student_of_round
    from evokd_data.recipe import load

    with live() as progress:
        revision = push_student_of_round(load(recipe, overrides), runs, round, progress, mirror)
    echo(f"{revision.repo} {revision.tag} {revision.commit}")
