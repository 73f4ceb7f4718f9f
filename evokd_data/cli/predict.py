"""evokd-data predict"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


class _Stdout:
    """Rows as JSON lines on stdout, each piece as soon as it is there."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        from evokd_data.deployment.prediction_files import as_json

        echo("\n".join(json.dumps(json.loads(as_json(row)), ensure_ascii=False) for row in rows))


@click.command("predict", short_help="Predict labels or spans of the texts in a file.")
@options.model
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="Write rows there: .jsonl, .csv or .parquet. Without it JSON lines go to stdout.",
)  # fmt: skip
@options.text_column
@options.model_round
@options.runs
@options.endpoint
def command(
    model: str, file: Path, out: Path | None, text: str | None, round: int | None, runs: Path, endpoint: str | None
) -> None:
    """Predict the texts of FILE with MODEL: the columns of FILE, then label (or spans with offsets) and probability, one row a text,
    in order.

    MODEL is a run (its last adopted round), a student's folder, an exported one, or ORG/NAME@ROUND-003 on the Hub. FILE is any
    that `seeds` reads, with the columns of the run's own files or those that you name, or - for lines on stdin, each a text.

    Example: evokd-data predict reviews new.csv --out labelled.csv
    """
    from evokd_data.deployment.input_files import InputFile, source_of
    from evokd_data.deployment.opening import open_model
    from evokd_data.deployment.predicting import (
        LINE,
        blocks_of_file,
        blocks_of_lines,
        naming_options,
        predict_file,
    )
    from evokd_data.deployment.prediction_files import checked_suffix, line_columns, open_writer

    if out is not None:
        checked_suffix(out)
    opened = open_model(model, round, runs, endpoint)
    with naming_options("--text COLUMN"):
        if str(file) == "-":
            blocks, names, columns = blocks_of_lines(sys.stdin.buffer), LINE, line_columns(opened.task)
        else:
            given = InputFile.of(source_of(opened, file, text, None, labelled=False), opened.task)
            blocks, names, columns = blocks_of_file(given), given.names, given.columns()
            for name, column in given.renamed.items():
                echo(f"{file}: has a column {name!r}, so what the student predicts is in {column!r}", err=True)
        if out is None:
            count = predict_file(opened, blocks, _Stdout(), names)
        else:
            with open_writer(out, columns) as writer:
                count = predict_file(opened, blocks, writer, names)
    echo(f"{opened.name}: {count} texts", err=True)
    if out is not None:
        echo(str(out))
