"""evokd-data review"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo, failure

if TYPE_CHECKING:
    from evokd_data.curation.reviewed_run import ReviewedRun

TOOLS = ("doccano", "label-studio", "argilla")


@click.command("review", short_help="Correct a run's samples: a page with keys, or a tool's file.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--apply", "applies", is_flag=True, help="Make a corrected round: train, score, publish.")
@click.option(
    "--export", "into", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the samples that nothing is decided about for an annotation tool.",
)  # fmt: skip
@click.option(
    "--import", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Take over what was decided in an annotation tool.",
)  # fmt: skip
@click.option("--format", "tool", type=click.Choice(TOOLS), help="The tool of --export and --import.")
@click.option(
    "--missing", type=click.Choice(("reject", "leave")),
    help="Samples that are not in the imported file: reject them, they were deleted; or leave them.",
)  # fmt: skip
@click.option("--status", is_flag=True, help="Show how many corrections wait for --apply.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The page's port; by default a free one.")
@options.runs
@options.mirror
@options.as_json
@options.output
def command(
    run: Path,
    applies: bool,
    into: Path | None,
    file: Path | None,
    tool: str | None,
    missing: str | None,
    status: bool,
    port: int,
    runs: Path,
    mirror: str | None,
    as_json: bool,
) -> None:
    """Review the samples of RUN, a folder or the name of one under --runs, on a page that only this machine can open.

    Corrections go to corrections.jsonl in the run's folder. --apply makes a corrected round of them, on which the student is
    trained.

    \b
    Example: evokd-data review reviews
             evokd-data review reviews --export samples.jsonl --format doccano
             evokd-data review reviews --import corrected.jsonl --missing reject
             evokd-data review reviews --apply
    """
    from evokd_data.curation.reviewed_run import ReviewedRun
    from evokd_data.storage.corrections import CorrectionLog, open_log

    if sum((applies, into is not None, file is not None, status)) > 1:
        raise click.UsageError(
            "--apply, --export, --import and --status are one each; call the command again for the next"
        )
    workspace = options.workspace_of(run, runs)
    if not workspace.inputs.exists():
        raise failure(f"{workspace.root}: holds no run; name one, see what is there: ls {runs}")
    if applies:
        _apply(workspace.root, mirror, as_json)
    elif status:
        _status(ReviewedRun(workspace, CorrectionLog(workspace.root)), as_json)
    elif into is not None:
        from evokd_data.curation.tool_files import export_samples

        if tool is None:
            raise click.UsageError(f"--export needs --format with one of {', '.join(TOOLS)}")
        exported = export_samples(ReviewedRun(workspace, CorrectionLog(workspace.root)), into, tool)
        echo(f"{exported.written} samples for {tool}", err=True)
        if exported.left_out:
            echo(
                f"{exported.left_out} samples are left out: {tool} cannot show their spans where they are; decide about them on "
                f"the page: evokd-data review {workspace.root}",
                err=True,
            )
        echo(str(into))
    else:
        with open_log(workspace.root) as log:
            review = ReviewedRun(workspace, log)
            if file is not None:
                _import(review, file, tool, missing, as_json)
            else:
                _serve(review, port)


def _apply(root: Path, mirror: str | None, as_json: bool) -> None:
    from evokd_data.cli.live import live
    from evokd_data.curation.apply import apply_corrections
    from evokd_data.reporting.primary_metric import primary_metric
    from evokd_data.storage.workspace import Workspace

    with live() as progress:
        applied = apply_corrections(Workspace(root), progress, mirror)
    adoption = applied.metrics["adoption"]
    if as_json:
        revision = applied.revision and {
            "repo": applied.revision.repo,
            "tag": applied.revision.tag,
            "commit": applied.revision.commit,
        }
        content = {
            "round": applied.round,
            **applied.counts,
            "test": applied.metrics["test"],
            "adopted": adoption["adopted"],
        }
        echo(json.dumps({**content, "revision": revision}, ensure_ascii=False))
        return
    counts = applied.counts
    echo(
        f"corrected round {applied.round}: {counts['relabel']} relabelled, {counts['reject']} rejected, {counts['accept']} confirmed"
    )
    score = primary_metric(applied.metrics["test"])
    texts = {"dev": "the dev set", "seeds": "the seeds"}[adoption["by"]]
    if not adoption["adopted"]:
        gate = f"the student of round {adoption['best']} stays: on {texts} it is clearly better"
    elif adoption.get("difference") is None:
        gate = "its student is adopted"
    else:
        gate = f"its student is adopted: on {texts} it is not clearly worse than that of round {adoption['against']}"
    echo(f"{score.name} {score.value:.3f} on the test set; {gate}")
    if applied.revision is not None:
        echo(f"{applied.revision.repo}@{applied.revision.tag} {applied.revision.commit}")


def _status(review: ReviewedRun, as_json: bool) -> None:
    from evokd_data.storage.corrected_rounds import counts

    waiting = counts({"action": correction.decision.action} for correction in review.corrections())
    content = {"samples": len(review.samples), **waiting}
    if as_json:
        echo(json.dumps(content))
    else:
        echo(
            f"{content['samples']} samples; to apply: {waiting['relabel']} relabelled, {waiting['reject']} rejected, "
            f"{waiting['accept']} confirmed"
        )


def _import(review: ReviewedRun, file: Path, tool: str | None, missing: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from evokd_data.curation.tool_files import import_decisions

    if not file.is_file():
        raise failure(f"{file}: no such file; name the one that the tool exported")
    imported = import_decisions(review, file, tool, missing)
    if as_json:
        echo(json.dumps(asdict(imported)))
        return
    echo(
        f"{imported.relabel} relabelled, {imported.reject} rejected, {imported.accept} confirmed, {imported.undecided} undecided"
        + (f"; {imported.known} were decided so before" if imported.known else "")
        + (f"; {imported.gone} were withdrawn since the export" if imported.gone else "")
    )
    if review.corrections():
        echo(f"next: evokd-data review {review.workspace.root} --apply", err=True)
    else:
        echo("nothing waits for --apply", err=True)


def _serve(review: ReviewedRun, port: int) -> None:
    from evokd_data.curation.server import serve_review

    def ready(address: str) -> None:
        echo(address)
        echo("open it in a browser on this machine; Ctrl-C ends the review, what was decided is kept", err=True)

    try:
        serve_review(review, port, ready)
    except OSError as error:
        raise failure(f"{error}; give another --port") from None
