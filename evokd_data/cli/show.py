"""evokd-data show"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("show", short_help="Show a run: its rounds, plan, samples, rejections.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--plan", "plan", type=int, metavar="ROUND", help="Show the plan of a round instead.")
@click.option("--samples", is_flag=True, help="Show texts that were kept, with their labels.")
@click.option(
    "--rejections",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[REASON]",
    help="Show texts that were rejected, all or those of one reason, and what a duplicate repeats.",
)
@click.option(
    "--round", "index", type=int, metavar="N", help="The round of --samples and --rejections; else the newest."
)
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, help="How many of them.")
@options.runs
@options.as_json
def command(
    run: Path,
    plan: int | None,
    samples: bool,
    rejections: str | None,
    index: int | None,
    count: int,
    runs: Path,
    as_json: bool,
) -> None:
    """Show RUN: a folder, or the name of one under --runs.

    \b
    Example: evokd-data show reviews --samples
             evokd-data show reviews --rejections near_duplicate --round 2
    """
    from evokd_data.cli.console import plan_table, rounds_table, table
    from evokd_data.reporting import shown_rows
    from evokd_data.reporting.report_sections.run_files import read_run
    from evokd_data.reporting.run_summary import summary
    from evokd_data.storage.workspace import read_json

    workspace = options.workspace_of(run, runs)
    content: Any = summary(workspace)  # raises an error when the folder holds no run
    if plan is not None:
        content = read_json(workspace.round(plan).plan)
    elif samples or rejections is not None:
        folder = shown_rows.newest_round(workspace, index)
        content = {
            **({"samples": shown_rows.samples(folder, count)} if samples else {}),
            **(
                {"rejections": shown_rows.rejections(workspace, folder, count, rejections)}
                if rejections is not None
                else {}
            ),
        }
    if as_json:
        echo(json.dumps(content, indent=2, ensure_ascii=False))
    elif plan is not None:
        plan_table(content)
    elif samples or rejections is not None:
        for title, rows in content.items():
            columns = list(rows[0]) if rows else []
            table(f"round {folder.index}: {title}", columns, [list(row.values()) for row in rows])
    else:
        rounds_table(read_run(workspace))
