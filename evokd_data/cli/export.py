"""evokd-data export"""

from __future__ import annotations

import json
from pathlib import Path

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("export", short_help="Export a student to ONNX, measured against the original.")
@options.model
@click.option("--format", "format", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--int8", is_flag=True, help="8-bit weights: a quarter of the size, and faster.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="The folder. Default: export/onnx or export/onnx-int8 in the run's folder, else NAME-onnx or NAME-onnx-int8.",
)  # fmt: skip
@click.option(
    "--test", "test", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Labelled texts to compare it on. Default: the test set of the run's recipe.",
)  # fmt: skip
@options.text_column
@click.option("--label", metavar="COLUMN", help="With --test: the column with the label or the spans.")
@options.model_round
@options.runs
@options.endpoint
@options.as_json
@options.output
def command(
    model: str,
    format: str,
    int8: bool,
    out: Path | None,
    test: Path | None,
    text: str | None,
    label: str | None,
    round: int | None,
    runs: Path,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Export MODEL, as in `predict`, to a folder that ONNX Runtime reads without torch, and print the folder.

    Its card says how it compares with the original on the test set: predictions, scores, size, latency on this CPU. Needs
    pip install 'evokd-data[export]'.

    Example: evokd-data export reviews --int8 --out reviews-onnx
    """
    from evokd_data.cli.console import export_table
    from evokd_data.cli.live import live
    from evokd_data.deployment.export import default_folder, export
    from evokd_data.deployment.input_files import source_of
    from evokd_data.deployment.opening import open_model
    from evokd_data.deployment.predicting import naming_options

    opened = open_model(model, round, runs, endpoint)
    if test is None:
        samples = opened.test_samples()
    else:
        with naming_options("--text COLUMN, --label COLUMN"):
            samples = opened.test_samples(source_of(opened, test, text, label))
    folder = out or default_folder(opened, int8)
    with live() as progress:
        figures = export(opened, folder, samples, int8, progress)
    if as_json:
        echo(json.dumps({"folder": str(folder), **figures}, indent=2, ensure_ascii=False))
    else:
        export_table(figures)
        echo(str(folder))
