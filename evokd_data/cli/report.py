"""evokd-data report"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("report", short_help="Write a run's report as one HTML page.")
@click.argument("names", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: report.html in the first run's folder."
)
@click.option(
    "--compare",
    "comparison",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The results.json of `evokd-data compare`: shows its arms, too.",
)
@options.runs
def command(names: tuple[Path, ...], out: Path | None, comparison: Path | None, runs: Path) -> None:
    """Write RUNs, folders or names under --runs, side by side as one HTML page; prints its path.

    The page is one file that needs no network: outcome, curve, teacher, student, weaknesses, rejections, samples, lineage.

    \b
    Example: evokd-data report reviews
             evokd-data report reviews other-run --out both.html
    """
    from evokd_data.reporting.html_report import REPORT, report

    workspaces = [options.workspace_of(name, runs) for name in names]
    into = out or workspaces[0].root / REPORT
    echo(str(report(workspaces, into, comparison, lambda line: echo(f"warning: {line}", err=True))))
