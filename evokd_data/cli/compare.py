"""evokd-data compare"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("compare", short_help="Compare strategies or students over random seeds at equal budgets.")
@options.recipes
@click.option(
    "--seeds", type=click.IntRange(1), default=5, show_default=True, help="Random seeds 1 to N for every recipe."
)
@click.option(
    "--shots",
    multiple=True,
    type=click.IntRange(1),
    help="k labelled examples per class; may be repeated. Default: the recipe's.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("comparison"), show_default=True)
@click.option(
    "--same-shards",
    is_flag=True,
    help="Compare students: the teacher writes for the first recipe alone, and the students of the others, which differ in nothing "
    "else, learn the same samples.",
)
@options.overrides
@options.runs
@options.output
def command(
    recipes: tuple[Path, ...],
    seeds: int,
    shots: tuple[int, ...],
    out: Path,
    same_shards: bool,
    overrides: tuple[str, ...],
    runs: Path,
) -> None:
    """Run every one of RECIPES with every seed; compare each with the first. One teacher serves all that share it.

    Arms with different students are compared in size and latency, too.

    Writes results.json, README.md and plots into OUT; prints the table. Rerun it after any stop: it goes on. Your own words
    in OUT/notes.md end the README each time.

    Example: evokd-data compare evokd.yaml none.yaml --seeds 10 --shots 1 --shots 5
    """
    from evokd_data.cli.console import comparison_tables
    from evokd_data.cli.live import live
    from evokd_data.loop.compare import compare, trials

    all_trials = trials(recipes, range(1, seeds + 1), shots or (None,), overrides, same_shards)
    line = shlex.join(["evokd-data", *sys.argv[1:]])
    with live() as progress:
        results = compare(all_trials, runs, out, line, progress, same_shards)
    comparison_tables(results)
    echo(str(out / "README.md"))
