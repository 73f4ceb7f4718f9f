"""evokd-data rounds"""

from __future__ import annotations

import json

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo

LEGEND = "samples and bytes are what each round added; the score is that of its student, trained on all rounds so far; --help says more"


@click.command("rounds", short_help="List the rounds of a published data set.")
@options.repo
@options.endpoint
@options.as_json
def command(repo: str, endpoint: str | None, as_json: bool) -> None:
    """List the rounds of REPO with samples, test scores, sizes and commits.

    \b
    round     the tag: what --round and revision= name
    samples   texts that this round added; round 0 is the seeds
    F1        the score of its student, trained on all rounds so far, on the test set
    bytes     of the files that this round added
    commit    what the tag names, the first ten digits
    finished  when the round was complete, UTC

    Example: evokd-data rounds org/reviews
    """
    from evokd_data.cli.console import score_name, table
    from evokd_data.reporting.primary_metric import primary_metric
    from evokd_data.revisions.load import list_rounds
    from evokd_data.storage.snapshot import of_known_form

    rounds = list_rounds(repo, endpoint=options.endpoint_of(repo, endpoint))
    if as_json:
        echo(json.dumps(rounds, indent=2, ensure_ascii=False))
        return
    with of_known_form(repo):
        rows = [
            [
                entry["tag"],
                entry["rows"],
                f"{primary_metric(entry['metrics']['test']).value:.3f}",
                entry["bytes"],
                entry["commit"][:10] if entry["commit"] else None,
                entry["date"],
            ]
            for entry in rounds
        ]
        title = f"{score_name(rounds)} (test)"
    table(repo, ("round", "samples", title, "bytes", "commit", "finished"), rows)
    echo(LEGEND, err=True)
