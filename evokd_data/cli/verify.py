"""evokd-data verify"""

from __future__ import annotations

import json

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("verify", short_help="Check every digest of a published round.")
@options.repo
@click.option("--round", "round", type=int, help="The round; without it the newest.")
@options.endpoint
@click.option("--cached", is_flag=True, help="Check what lies in the cache instead of downloading it anew.")
@options.as_json
def command(repo: str, round: int | None, endpoint: str | None, cached: bool, as_json: bool) -> None:
    """Check round N of REPO: every file, row and sample id, the manifests, and their chain back to round 0.

    Names each thing that is not as published, and exits with 1.

    Example: evokd-data verify org/reviews --round 3
    """
    from evokd_data.revisions.verify import verify

    report = verify(repo, round, endpoint=options.endpoint_of(repo, endpoint), cached=cached)
    if as_json:
        echo(json.dumps(report.as_json(), indent=2))
        return
    echo(
        f"{repo}@{report.tag} is as published: commit {report.commit}, {report.files} files, {report.bytes} bytes, "
        f"{report.rows} rows in rounds 0 to {report.round}, identity {report.digest}"
    )
    for note in report.notes:
        echo(note, err=True)
