"""evokd-data evaluate"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("evaluate", short_help="Score a student on labelled texts.")
@options.model
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@options.text_column
@click.option("--label", metavar="COLUMN", help="The column with the label or the spans, where it is not the recipe's.")
@options.model_round
@options.runs
@options.endpoint
@options.as_json
def command(
    model: str,
    file: Path,
    text: str | None,
    label: str | None,
    round: int | None,
    runs: Path,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Score MODEL on the labelled texts of FILE: the metrics of a round's test, with intervals, and each class.

    MODEL as in `predict`; FILE is any that `seeds` reads.

    Example: evokd-data evaluate reviews labelled-by-people.csv
    """
    from evokd_data.cli.console import metrics_tables
    from evokd_data.deployment.input_files import source_of
    from evokd_data.deployment.opening import learned, open_model
    from evokd_data.deployment.predicting import naming_options
    from evokd_data.reporting.primary_metric import primary_metric
    from evokd_data.stages.evaluate import score

    opened = open_model(model, round, runs, endpoint)
    with naming_options("--text COLUMN, --label COLUMN"):
        samples = opened.test_samples(source_of(opened, file, text, label))
    metrics = score(opened.task, opened.student, opened.checkpoint, samples, opened.seed)
    if seeds := {sample.text for sample in learned(opened, samples)}:
        unseen = [sample for sample in samples if sample.text not in seeds]
        warning = f"warning: {len(samples) - len(unseen)} of {len(samples)} texts are seeds of this run, which the student has learned"
        if unseen:
            others = primary_metric(score(opened.task, opened.student, opened.checkpoint, unseen, opened.seed))
            warning += f"; {others.name} on the other {len(unseen)}: {others.value:.3f}"
        echo(warning, err=True)
    if as_json:
        echo(json.dumps(metrics, indent=2, ensure_ascii=False))
    else:
        metrics_tables(f"{opened.name} on {file}", metrics)
