"""evokd-data check"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options


@click.command("check", short_help="Check recipes, every problem at once.")
@options.recipes
@options.overrides
def command(recipes: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check RECIPES whole: settings, names, files, seeds. Loads no model.

    Prints one line for each sound recipe; all problems of the others, then exits with 1.
    """
    from evokd_data.errors import EvokdError
    from evokd_data.recipe import load
    from evokd_data.seeds import load_splits

    failed = 0
    for path in recipes:
        try:
            recipe = load(path, overrides)
            counts = ""
            if all(
                source is None or (source.path and source.path.suffix.lower() in LIGHT)
                for source in (recipe.seeds, recipe.test, recipe.dev, recipe.pool)
            ):
                splits = load_splits(recipe)
                counts = f", {len(splits.seeds)} seeds, {len(splits.test)} test texts"
        except EvokdError as error:
            failed += 1
            click.echo(str(error), err=True)
        else:
            for key in recipe.unpinned():
                click.echo(
                    f"{path}: note: {key}.revision names no commit: the model may be another one tomorrow, and a run "
                    "begun with this one could not go on; pin it for an experiment that lasts",
                    err=True,
                )
            click.echo(f"{path}: sound: {recipe.task.name} with {len(recipe.task.labels)} classes{counts}")
    if failed:
        raise SystemExit(1)


LIGHT = (".jsonl", ".ndjson", ".csv", ".tsv")
"""Formats that can be read without pyarrow. Files in other formats are read when the run begins."""
