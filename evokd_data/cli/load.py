"""evokd-data load"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("load", short_help="Load a round from the Hub, verified.")
@options.repo
@click.option("--round", "round", type=int, help="The round; without it the newest.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all rows: .jsonl, .csv, .parquet or .arrow."
)
@click.option("--head", type=int, metavar="N", help="Print the first N rows as JSON lines.")
@options.endpoint
def command(repo: str, round: int | None, out: Path | None, head: int | None, endpoint: str | None) -> None:
    """Load round N of REPO: the training set of rounds 0 to N, every digest checked.

    Without --out or --head, prints the number of rows of each split.

    Example: evokd-data load org/reviews --round 3 --out rows.jsonl
    """
    from datasets import disable_progress_bars

    from evokd_data.revisions.load import load_round
    from evokd_data.revisions.row_files import write_rows

    disable_progress_bars()
    loaded = load_round(repo, round, class_labels=False, endpoint=options.endpoint_of(repo, endpoint))
    if head is not None:
        for row in loaded["train"].select(range(min(head, len(loaded["train"])))):
            echo(json.dumps(row, ensure_ascii=False))
    if out is not None:
        write_rows(loaded["train"], out)
        echo(str(out))
    if head is None and out is None:
        for split, rows in loaded.items():
            echo(f"{split} {len(rows)}")
