"""evokd-data replay"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("replay", short_help="Make a published round's rows again from its journal.")
@options.repo
@click.option("--round", "round", type=int, help="The round; without it the newest.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="A recipe that names the round's seeds, test and dev data: what repeats the test set is then found out anew.",
)
@options.overrides
@options.endpoint
@options.as_json
def command(
    repo: str, round: int | None, recipe: Path | None, overrides: tuple[str, ...], endpoint: str | None, as_json: bool
) -> None:
    """Make the rows of round N of REPO again from its journal, without a teacher, and compare them with the published ones;
    and the weaknesses it was aimed at from the predictions of the round before.

    Tells the first rows that differ, and exits with 1.

    Example: evokd-data replay org/reviews --round 3
    """
    from evokd_data.recipe import load
    from evokd_data.revisions.replay import replay

    loaded = load(recipe, overrides) if recipe else None
    replayed = replay(
        repo, round, recipe=loaded, overrides=() if recipe else overrides, endpoint=options.endpoint_of(repo, endpoint)
    )
    if as_json:
        echo(json.dumps(replayed.as_json(), indent=2, ensure_ascii=False))
        return
    echo(
        f"{repo}@{replayed.tag}: {replayed.rows} rows and {replayed.rejections} rejections made again from {replayed.answers} answers, "
        f"content {replayed.content}"
    )
    if replayed.test_overlap == "published" and replayed.round:
        echo("which texts repeat the test set was taken from the published rejections; --recipe finds it out", err=True)
    for note in replayed.notes:
        echo(note, err=True)
