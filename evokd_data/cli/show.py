"""evokd-data show"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("show", short_help="Show a run: its rounds, plan and metrics.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--plan", "plan", type=int, metavar="ROUND", help="Show the plan of a round instead.")
@options.as_json
def command(run: Path, plan: int | None, as_json: bool) -> None:
    """Show RUN: a folder, or the name of one under runs/."""
    from evokd_data.cli.console import plan_table, rounds_table
    from evokd_data.reporting.run_summary import summary
    from evokd_data.storage.workspace import Workspace, read_json

    workspace = Workspace(run if run.is_dir() or len(run.parts) > 1 else Path("runs") / run)
    content = summary(workspace)  # raises an error when the folder holds no run
    if plan is not None:
        content = read_json(workspace.round(plan).plan)
    if as_json:
        echo(json.dumps(content, indent=2, ensure_ascii=False))
    elif plan is not None:
        plan_table(content)
    else:
        rounds_table(content)
