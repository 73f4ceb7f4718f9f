"""evokd-data reproduce"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("reproduce", short_help="Ask the teacher for a published round again, and compare.")
@options.repo
@click.option("--round", "round", type=int, help="The round; without it the newest.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="A recipe with the teacher to ask, and the round's seeds, test and dev data. Default: the published one.",
)
@options.overrides
@click.option(
    "--requests", "limit", type=click.IntRange(min=1), metavar="N", help="Ask for the first N requests alone."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Default: reproduced/REPO/ROUND. Answers are kept there.",
)
@options.endpoint
@options.as_json
@options.output
def command(
    repo: str,
    round: int | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    limit: int | None,
    out: Path | None,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Ask the teacher for round N of REPO again, on this machine; tell how many answers and rows are as they were.

    Exits with 1 when any is not, and tells what can explain it. Killed and rerun, it asks only for what is missing.

    Example: evokd-data reproduce org/reviews --round 3 --requests 20
    """
    from evokd_data.cli.live import live
    from evokd_data.recipe import load
    from evokd_data.revisions.reproduce import reproduce

    loaded = load(recipe, overrides) if recipe else None
    with live() as progress:
        reproduced = reproduce(
            repo, round, out=out or Path("reproduced") / repo / ("newest" if round is None else str(round)), recipe=loaded,
            overrides=() if recipe else overrides, limit=limit, endpoint=options.endpoint_of(repo, endpoint), progress=progress,
        )  # fmt: skip
    if as_json:
        echo(json.dumps(reproduced.as_json(), indent=2, ensure_ascii=False))
    else:
        echo(f"{repo}@{reproduced.tag}: asked {reproduced.requests} of {reproduced.of_requests} requests again")
        for template, counts in reproduced.answers.items():
            unequal = ", ".join(f"{count} {name}" for name, count in counts.items() if count and name != "equal")
            echo(
                f"  {template}: {counts['equal']} of {sum(counts.values())} answers equal{'; ' + unequal if unequal else ''}"
            )
        if reproduced.unasked:
            echo(f"  {reproduced.unasked} answers of then were not asked for")
        rows = reproduced.rows
        echo(
            f"  rows: {rows['equal']} of {rows['published']} equal, {rows['differ']} differ, {rows['missing']} missing, "
            f"{rows['new']} new"
        )
        for title, lines in (("for example", reproduced.examples), ("what can explain it", reproduced.reasons)):
            if lines:
                echo("\n".join([f"{title}:", *(f"  {line}" for line in lines)]))
    if not reproduced.same:
        raise SystemExit(1)
